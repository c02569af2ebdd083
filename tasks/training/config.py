"""How a run trains; a form in Prefect's UI."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from tasks.forms import may_be_empty, place

_Known = Literal["adam", "adamw", "sgd", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "ftrl", "lion", "lamb"]

Strategy = Literal["none", "mirrored", "multi-worker"]


class TrainingConfig(BaseModel):
    """Epochs, batches, optimizer and when to stop. What the user's model was compiled with wins over what stands here."""

    model_config = {"frozen": True}

    epochs: int = Field(default=5, ge=1, le=100_000, description="Passes over the data.", json_schema_extra=place(0))
    batch_size: int = Field(default=32, ge=1, le=1_000_000, description="Examples a step.", json_schema_extra=place(1))
    optimizer: Annotated[_Known, Field(title="Known")] | Annotated[str, Field(title="By name", min_length=1)] = Field(
        default="adam",
        description="Which of Keras' optimizers, for models that are not compiled yet.",
        json_schema_extra=place(2),
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Empty: the optimizer's own default.", json_schema_extra=may_be_empty(3)
    )
    loss: str | None = Field(
        default=None,
        description="Name of a Keras loss. Empty: chosen from the targets.",
        json_schema_extra=may_be_empty(4),
    )
    metrics: list[str] = Field(
        default_factory=list,
        description="Names of Keras metrics. Empty: chosen with the loss.",
        json_schema_extra=place(5),
    )
    early_stopping: int | None = Field(
        default=None,
        ge=1,
        description="Stop after so many epochs without a better validation loss and keep the best weights. Empty: never.",
        json_schema_extra=may_be_empty(6),
    )
    compiler: Literal["auto", "xla", "graph", "eager"] = Field(
        default="auto",
        description="How a step runs: auto takes XLA where it pays (custom loop, small dense models, 1,000 steps or more), "
        "else a graph, and falls back to eager for a model that can't be compiled. Eager is for debugging.",
        json_schema_extra=place(7),
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="Seed of the weights and of the order of the examples: the same seed gives the same bits.",
        json_schema_extra=place(8),
    )
    checkpoint_seconds: Annotated[float, Field(title="Seconds", ge=0)] | Annotated[None, Field(title="Never")] = Field(
        default=60.0,
        title="Checkpoint after a time",
        description="After an epoch, keep the state in the store where the last time is so many seconds ago.",
        json_schema_extra=place(9),
    )
    checkpoint_epochs: int | None = Field(
        default=None,
        ge=1,
        title="Checkpoint after passes",
        description="Keep the state in the store after each so many epochs. Empty: by seconds alone.",
        json_schema_extra=may_be_empty(10),
    )
    resume: bool = Field(
        default=True,
        description="Go on where a run of the same model, data and training was killed. Off: begin anew.",
        json_schema_extra=place(11),
    )
    strategy: Strategy = Field(
        default="none",
        description="Who trains: none is one device alone; mirrored all GPUs of this machine (without any, the two halves "
        "of its processor, to try it out); multi-worker this and the other machines that TF_CONFIG names. Batch size is "
        "what all take together in a step.",
        json_schema_extra=place(12),
    )

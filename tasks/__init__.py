"""The steps of a model's journey: data, definitions, training, serialization, storage, safety, verification.

Each room is plain typed Python that knows nothing of Prefect; `tasks.steps` wraps the rooms as Prefect tasks. A program
that only wants a verified model back needs one function and neither Prefect nor a server:

    from tasks import load_model
    model = load_model("digits@latest")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.verification.returning import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    # Late, so that the command line and the small servers' watchers start without the machinery.
    if name == "load_model":
        from tasks.verification.returning import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The process in which a job at a desk runs the flows `return` and `matrix`. It trains nothing; fresh processes measure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tasks.children import quick_imports, serve
from tasks.verification.loader import Loader

with quick_imports():
    from flows.engine import at_desk, one_client
    from flows.return_model import return_model
    from tasks.steps import measuring_with, open_early, reporting_to
    from tasks.storage.transfer import Snapshot
    from tasks.verification.matrix import Row


def main() -> None:
    """Bring back what is asked for; the returner's side of the pipe."""
    spare = [Loader()]  # warms up while others train
    open_early()

    def handle(request: dict[str, Any], emit: Any) -> None:
        def tell(news: Any) -> None:
            if isinstance(news, Snapshot):
                emit({"transfer": asdict(news)})
                return
            emit({"row" if isinstance(news, Row) else "returned": news.model_dump(mode="json")})

        if "environments" in request["parameters"]:
            from flows.matrix import matrix  # most desks return one version

            with reporting_to(tell):
                emit({"matrix": at_desk(matrix)(**request["parameters"]).model_dump(mode="json")})
            return

        try:
            with (
                spare.pop() if spare else Loader() as loader,
                measuring_with(loader),
                reporting_to(tell),
            ):
                at_desk(return_model)(**request["parameters"])
        finally:
            if request["more"]:
                spare.append(Loader())

    with one_client():
        serve(handle)

"""The ground for all cases, and the table of their outcomes at the end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tasks.storage import embedded
from tests.faults.campaign import Ground, Result, clean_run
from tests.faults.faults import Recorded
from tests.faults.operations import Operation
from tests.faults.proxy import Proxy
from tests.faults.tally import Tally
from tests.faults.world import Clients, small_parts, usual_parts

CACHED = "roundtrip/faults"
_TALLY = pytest.StashKey[Tally]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TALLY] = Tally()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the counts, and keep them for `python -m tests.faults --last`."""
    tally = config.stash[_TALLY]
    if not tally.counts:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(tally.table())
    if config.cache:
        config.cache.set(CACHED, tally.to_json())


@pytest.fixture(scope="package", autouse=True)
def _parts() -> Iterator[None]:
    small_parts()
    yield
    usual_parts()


@pytest.fixture(scope="session")
def ground(s3: embedded.EmbeddedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A proxy before the embedded server, and room for bundles."""
    proxy = Proxy(s3.access.endpoint)
    yield Ground(Clients(s3.access), proxy, tmp_path_factory.mktemp("faults"))
    proxy.close()


@pytest.fixture(scope="session")
def requests_of(ground: Ground) -> Callable[[Operation], Sequence[Recorded]]:
    """The requests of an operation, recorded once."""
    return functools.cache(lambda operation: clean_run(ground, operation))


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Callable[[Operation, list[Result]], None]:
    """Count results, and fail where there is anything to complain of."""

    def judge(operation: Operation, results: list[Result]) -> None:
        tally = request.config.stash[_TALLY]
        for result in results:
            tally.add(operation.name, result.fault, result.outcome)
        bad = [str(result) for result in results if result.complaints]
        assert not bad, f"{operation}:\n" + "\n".join(bad)

    return judge

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tasks.storage import embedded
from tests.faults.campaign import Ground, Result
from tests.faults.faults import Recorded
from tests.faults.operations import OPERATIONS, Operation
from tests.faults.victims import KILLS, kills


@pytest.mark.parametrize("how", KILLS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_process_killed_at_any_request_leaves_the_store_in_order(
    ground: Ground,
    s3: embedded.EmbeddedStore,
    requests_of: Callable[[Operation], Sequence[Recorded]],
    judge: Callable[[Operation, list[Result]], None],
    operation: Operation,
    how: str,
) -> None:
    judge(operation, kills(ground, s3.access, operation, how, requests_of(operation)))

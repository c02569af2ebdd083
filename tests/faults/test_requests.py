from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tasks.errors import UnreachableError
from tests.faults.campaign import Ground, Result, aftermath, campaign, refusals, tells_more
from tests.faults.faults import FAULTS, Fault, Recorded, When, error_answer
from tests.faults.operations import OPERATIONS, PUBLISH_PARTS, Operation
from tests.faults.proxy import Line, label, passed_on

Requests = Callable[[Operation], Sequence[Recorded]]
Judge = Callable[[Operation, list[Result]], None]


@pytest.mark.parametrize(("fault", "when"), [(f, w) for f in FAULTS for w in When if tells_more(f, w)], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_no_fault_of_any_request_leaves_the_store_in_disorder(
    ground: Ground, requests_of: Requests, judge: Judge, operation: Operation, fault: Fault, when: When
) -> None:
    judge(operation, campaign(ground, operation, fault, when, requests_of(operation)))


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_server_that_goes_away_at_any_request_leaves_the_store_in_order(
    ground: Ground, requests_of: Requests, judge: Judge, operation: Operation
) -> None:
    judge(operation, refusals(ground, operation, requests_of(operation)))


def test_an_abort_that_fails_does_not_hide_why_the_upload_failed(ground: Ground) -> None:
    def refuse_parts_and_aborts(line: Line) -> None:
        name = label(line.request)
        if "partNumber=1" in name:
            line.reply(error_answer(400, "EntityTooLarge"))
        elif name.startswith("DELETE"):
            line.reply(error_answer(500, "InternalError"))
        else:
            passed_on(line)

    with ground.world() as world:
        job = PUBLISH_PARTS.prepare(world)
        world.case.intercept = refuse_parts_and_aborts
        with pytest.raises(UnreachableError, match="EntityTooLarge"):
            PUBLISH_PARTS.run(world.proxied(), job)
        world.case.intercept = passed_on
        assert aftermath(world, version=None, sweep=True) == []


def test_the_clean_run_has_every_kind_of_request(requests_of: Requests) -> None:
    labels = [request.label for operation in OPERATIONS for request in requests_of(operation)]
    place = "digits/versions/*"
    for expected in (
        f"PUT {place}/model/weights.bin",
        f"POST {place}/model/weights.bin ?uploads",
        f"PUT {place}/model/weights.bin ?uploadId ?partNumber=2",
        f"POST {place}/model/weights.bin ?uploadId",
        f"PUT {place}/manifest.json",
        f"GET {place}/manifest.json",
        "PUT digits/verdicts/*/*.json",
        "GET digits/aliases/latest/ ?list-type",
        "PUT digits/aliases/latest/#.json",
        "PUT digits/aliases/production/#.json",
    ):
        assert expected in labels
    assert len(requests_of(PUBLISH_PARTS)) >= 6

"""Put a server to the test that answers: does it keep an event, does it schedule a run? Both can fail in silence.

`python -m flows.production.trial` does it beside `up`, in the environment of a client, and prints what it found as JSON.
"""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from flows.production.api import Api
from flows.production.checks import Answer
from flows.production.plan import Plan
from tasks.errors import RoundtripError

_PAUSE = 0.3
_EVENT_SECONDS = 60.0


def put_to_the_test(plan: Plan) -> Answer:
    """Emit an event and have a run scheduled that nobody will run, and look for both; each takes the server seconds."""
    with ThreadPoolExecutor(1) as beside:
        keeping = beside.submit(_seconds_until_kept, Api(plan))
        from prefect.client.orchestration import get_client  # 1.4 s

        from flows.prefect_health import check_scheduler

        with get_client(sync_client=True) as client:
            check = check_scheduler(client)
    try:
        kept = keeping.result()
    except RoundtripError as error:
        return Answer(False, str(error))
    if kept is None:
        return Answer(False, f"it kept no event within {_EVENT_SECONDS:.0f} s, so that none would start `return`")
    if check.status != "ok":
        return Answer(False, f"its scheduler {check.detail}. {check.advice}")
    return Answer(True, f"{check.detail}; keeps events, within {kept:.0f} s")


def _seconds_until_kept(api: Api) -> float | None:
    began, identity = time.monotonic(), str(uuid.uuid4())
    occurred, resource = datetime.now(UTC).isoformat(), {"prefect.resource.id": "roundtrip.up"}
    api.post("/events", [{"id": identity, "occurred": occurred, "event": "roundtrip.up", "resource": resource}])
    while not api.post("/events/filter", {"filter": {"id": {"id": [identity]}}, "limit": 1})["events"]:
        if time.monotonic() - began > _EVENT_SECONDS:
            return None
        time.sleep(_PAUSE)
    return time.monotonic() - began


if __name__ == "__main__":
    kept_plan = Plan.load()
    assert kept_plan is not None
    answer = put_to_the_test(kept_plan)
    print(json.dumps({"up": answer.up, "detail": answer.detail}))

"""The housekeeping flow `gc`, on a real Prefect server and a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.storage import Store, advance_latest, list_versions
from tests.e2e.commands import Home, end_of
from tests.storage.samples import published

pytestmark = pytest.mark.e2e

_RUN = """
import json
from flows.gc import collect_garbage
from prefect.artifacts import Artifact
from tasks.storage import Retention
shown = collect_garbage(Retention(keep_last=1))
planned = Artifact.get("gc")
done = collect_garbage(Retention.model_validate({"keep_last": 1, "leftovers_older_than": "1d"}), delete=True)
went = Artifact.get("gc-removed")
print(json.dumps({"shown": shown, "planned": json.loads(planned.data), "done": len(done), "went": json.loads(went.data)}))
"""


def test_the_flow_shows_first_and_removes_when_it_is_told_to(
    store: Store, s3_environment: dict[str, str], prefect_server: dict[str, str], tmp_path: Path
) -> None:
    one, two, three = (published(store, tmp_path / str(number)).version for number in range(3))
    advance_latest(store, "digits", one, "verdict")
    user = Home(tmp_path, prefect_server | s3_environment)

    result = end_of(user.python("-c", _RUN))

    assert result.code == 0, result.err
    found = result.document
    assert found["shown"] == []
    assert [(row["what"], row["subject"]) for row in found["planned"]] == [("version", f"digits@{two}")]
    assert [(row["subject"], row["removed"]) for row in found["went"]] == [(f"digits@{two}", True)]
    assert list_versions(store, "digits") == [one, three]

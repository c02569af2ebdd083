"""`python -m flows reverify`: what is stored is proved again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.storage import Store, layout, resolve
from tasks.verification import read_verdicts
from tests import bundles
from tests.e2e.commands import Home
from tests.storage.samples import put

pytestmark = pytest.mark.e2e


def test_one_command_looks_at_all_of_them_and_ends_with_the_gravest(
    store: Store, s3_environment: dict[str, str], warm: dict[str, str], tmp_path: Path
) -> None:
    fine, damaged = (bundles.foreign(store, tmp_path / name) for name in ("fine", "damaged"))
    file = next(each for each in damaged.files if each.path.startswith("model/"))
    put(store, layout.file(layout.bundle("model", damaged.version), file.path), b"x" * file.size)

    result = Home(tmp_path, warm | s3_environment).run("reverify", "--all", "--json")

    assert result.code == 3, result.err
    assert [v["reference"] for v in result.document["versions"]] == [f"model@{m.version}" for m in (fine, damaged)]
    assert [v["outcome"] for v in result.document["versions"]] == ["verified", "refused"]
    assert result.document["passed"] is False
    assert result.document["error"]["message"].startswith("Of 2 versions: 1 verified, 1 refused, 0 could not be verified.")
    assert [[v.passed for v in read_verdicts(store, "model", m.version)] for m in (fine, damaged)] == [[True], [False]]
    assert resolve(store, "model") == ("model", fine.version)

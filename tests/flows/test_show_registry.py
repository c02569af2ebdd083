"""What people see of the registry: the tables at 80 columns, letter by letter."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from io import StringIO

from rich.console import Console

from flows import show_registry as view
from tasks.storage import Done, ModelSummary, Plan, Removal, Retention, Revision
from tests.bundles import bare_manifest

_ID = "01a20a46-a11a-7983-83f4-37f377153497"
_NEXT = "01a20a46-a11a-7983-83f4-37f377153498"
_NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
_REMOVALS = [
    Removal(
        what="version",
        subject=f"digits@{_ID}",
        why="41d old, no alias, not among the kept",
        objects=9,
        bytes=1_900_000,
    ),
    Removal(
        what="upload",
        subject=f"digits/versions/{_ID}/model/variables/variables.data-00000-of-00001",
        why="an upload that was not finished, nothing heard of it for 3d",
        objects=1,
        bytes=16_777_216,
    ),
]
_PLAN = Plan(
    store="s3://models",
    at=_NOW,
    retention=Retention(keep_last=5),
    removals=_REMOVALS,
    kept={"has an alias": 2, "one of the last 5": 5},
    publishing=[f"digits@{_NEXT}"],
    unlisted=[],
    broken=["letters@latest"],
)


def _printed(renderable: object) -> str:
    console = Console(file=StringIO(), width=80)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def _revision(number: int, version: str | None, why: str) -> Revision:
    at = _NOW - timedelta(days=5 - number)
    return Revision(alias="latest", number=number, version=version, newest=_NEXT, verdict=_ID, reason=why, at=at)


def test_the_list_of_models() -> None:
    text = _printed(
        view.models(
            [
                ModelSummary(
                    model="digits",
                    versions=3,
                    latest=_ID,
                    aliases={"latest": _ID, "production": _ID},
                    bytes=4_300_000,
                    newest=_ID,
                    published=_NOW - timedelta(days=1, hours=3),
                ),
                ModelSummary(model="a-model-with-a-long-name", versions=12_000, latest=None, aliases={}),
            ],
            _NOW,
        )
    )

    assert text == (
        """\

 model              versions    size  age  latest
 ──────────────────────────────────────────────────────────────────────────────
 digits                    3  4.3 MB   1d  01a20a46-a11a-7983-83f4-37f377153497
 also production
 a-model-with-a-lo     12000     0 B       none verified yet
 ng-name
"""
    )


def test_the_history_of_aliases() -> None:
    text = _printed(
        view.history(
            {
                "latest": [
                    _revision(2, None, "taken away"),
                    _revision(1, _ID, "rolled back"),
                    _revision(0, _NEXT, "verified"),
                ],
                "production": [_revision(0, _ID, "promoted")],
            }
        )
    )

    assert text == (
        """\
Aliases

 alias       since       version                               why
 ─────────────────────────────────────────────────────────────────────────
 latest      2026-11-21  nothing                               taken away
             2026-11-20  01a20a46-a11a-7983-83f4-37f377153497  rolled back
             2026-11-19  01a20a46-a11a-7983-83f4-37f377153498  verified
 production  2026-11-19  01a20a46-a11a-7983-83f4-37f377153497  promoted
"""
    )


def test_the_versions_of_a_model() -> None:
    text = _printed(view.newest_versions([_ID, _NEXT], {"latest": _NEXT, "production": _NEXT}))

    assert text == (
        """\
2 versions

 version                               published (UTC)   aliases
 ──────────────────────────────────────────────────────────────────────────
 01a20a46-a11a-7983-83f4-37f377153498  2026-11-23 21:18  latest, production
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
"""
    )


def test_of_many_versions_the_newest_are_shown() -> None:
    text = _printed(view.newest_versions([_ID] * 11 + [_NEXT], {}))

    assert text == (
        """\
The newest 10 of 12 versions

 version                               published (UTC)   aliases
 ───────────────────────────────────────────────────────────────
 01a20a46-a11a-7983-83f4-37f377153498  2026-11-23 21:18
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
 01a20a46-a11a-7983-83f4-37f377153497  2026-11-23 21:18
"""
    )


def test_a_plan() -> None:
    text = _printed(view.plan(_PLAN))

    assert text == (
        """\
To remove

 what     which, and why                                       objects    bytes
 ──────────────────────────────────────────────────────────────────────────────
 version  digits@01a20a46-a11a-7983-83f4-37f377153497                9   1.9 MB
          41d old, no alias, not among the kept
 upload   digits@01a20a46-a11a-7983-83f4-37f377153497                1  16.8 MB
          model/variables/variables.data-00000-of-00001
          an upload that was not finished, nothing heard of
          it for 3d

2 to remove, 18.7 MB.
Versions that stay: 2 (has an alias), 5 (one of the last 5).
Being published, so left alone: digits@01a20a46-a11a-7983-83f4-37f377153498.
letters@latest points at a version that is not there."""
    )


def test_a_plan_of_nothing() -> None:
    text = _printed(view.plan(_PLAN.model_copy(update={"removals": [], "publishing": [], "broken": [], "kept": {}})))

    assert text == (
        """\
Nothing to remove in s3://models.
Versions that stay: none."""
    )


def test_what_was_done() -> None:
    text = _printed(
        view.done(
            [
                Done(removal=_REMOVALS[0], objects=10, bytes=1_900_200),
                Done(removal=_REMOVALS[0], skipped="digits is 'production', so it stays."),
            ]
        )
    )

    assert text == (
        """\
Removed 1 of 2: 10 objects, 1.9 MB.
Left digits@01a20a46-a11a-7983-83f4-37f377153497: digits is 'production', so it
stays."""
    )


def test_a_version_names_the_flow_run_that_published_it() -> None:
    manifest = bare_manifest("full-h5").model_copy(update={"flow_run": "7"})
    page = manifest.model_copy(update={"flow_run_url": "http://prefect/runs/flow-run/7"})

    texts = [_printed(view.version_details(each, "s3://models/model", [], [])) for each in (manifest, page)]

    assert re.search(r"flow run\s+│ 7\b", texts[0])
    assert "http://prefect/runs/flow-run/7" in texts[1]
    assert "flow run" not in _printed(view.version_details(bare_manifest("full-h5"), "s3://models/model", [], []))

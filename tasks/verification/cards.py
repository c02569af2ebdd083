"""The Markdown of Prefect's artifacts: the model card and the verdict.

Much of what stands in a card comes from a manifest, and who publishes is not always who reads: every text is escaped, so
that it can bring neither links nor pictures of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.serialization import PROMISES, needs_definition
from tasks.storage import Manifest
from tasks.verification.charts import confusion_svg, curves_svg, groups, image
from tasks.verification.report import examples, facts, human_bytes, outputs, promised
from tasks.verification.verdict import Verdict

# Also what would become a link by itself: an address, a host, a mailbox.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#!&~|@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
_MOST_CHARTS = 4
_MARKS = {True: "✓ yes", False: "✗ no", None: "not measured"}


def model_card(
    manifest: Manifest,
    uri: str,
    *,
    store: str | None = None,
    trained_in: str | None = None,
    verdict: Verdict | None = None,
    proved_in: str | None = None,
) -> str:
    """Markdown on a published version: what it is, how it learned, what survives, and how it is loaded.

    Args:
        manifest: Of the version.
        uri: Where its folder is.
        store: The store for `load_model`, where it is not the embedded one.
        trained_in: Page of the flow run that published it.
        verdict: What the newest verification found; None where there was none yet.
        proved_in: Page of the flow run that verified it.
    """
    parts = [
        f"# {_text(manifest.model)}\n\nVersion {_code(manifest.version)}, {_state(verdict, proved_in)}",
        " ".join(
            image(curves_svg(title, curves), f"{_text(title)} by epoch")
            for title, curves in [*groups(manifest.carried.curves).items()][:_MOST_CHARTS]
        ),
        _table([(name, _text(value)) for name, value in facts(manifest)] + _where(manifest, uri, trained_in)),
        f"## Load it\n\n```python\n{load_line(manifest, store)}\n```",
    ]
    if manifest.carried.confusion:
        picture = image(confusion_svg(manifest.carried.confusion), "Confusion matrix")
        parts.append(f"## Confusion matrix\n\nOf {examples(manifest):,} validation examples.\n\n{picture}")
    parts.append("## What survives\n\n" + _fidelity(manifest, verdict))
    return "\n\n".join(part for part in parts if part) + "\n"


def load_line(manifest: Manifest, store: str | None = None) -> str:
    """The lines of Python that bring the version back."""
    where = f', store="{store}"' if store else ""
    return f'from tasks import load_model\n\nmodel = load_model("{manifest.model}@{manifest.version}"{where})'


def verdict_card(verdict: Verdict) -> str:
    """Markdown on a verification."""
    rows = [
        ("intact", _MARKS[verdict.intact]),
        ("safe", _MARKS[verdict.safe]),
        ("loads in a fresh process", _MARKS[verdict.loads]),
        ("same weights, bit for bit", _MARKS[verdict.weights_equal]),
        ("same outputs", f"{_MARKS[verdict.outputs_equal]} {_text(outputs(verdict))}"),
        ("one more training step is the same", _MARKS[verdict.resumable]),
    ]
    survived = ", ".join(p for p in PROMISES if verdict.survived.get(p)) or "nothing"
    title = "verified" if verdict.passed else "refused"
    head = f"# {_text(verdict.model)}: {title}\n\nVersion {_code(verdict.version)}"
    text = f"{head}\n\n{_table(rows)}\n\nWhat survived: {survived}.\n"
    return text + (f"\n{_reasons(verdict)}" if _reasons(verdict) else "")


def _state(verdict: Verdict | None, proved_in: str | None) -> str:
    if verdict is None:
        return "**not verified yet**: the flow `return`, which its publication starts, writes its verdict here."
    words = "✓ **verified**" if verdict.passed else "✗ **refused**"
    return f"{words} by {f'[this run of return]({proved_in})' if proved_in else 'the flow `return`'}."


def _where(manifest: Manifest, uri: str, trained_in: str | None) -> list[tuple[str, str]]:
    rows = [
        ("size", f"{human_bytes(manifest.bytes)} in {len(manifest.files)} files"),
        ("where", _code(uri)),
    ]
    return rows + ([("trained in", f"[this flow run]({trained_in})")] if trained_in else [])


def _fidelity(manifest: Manifest, verdict: Verdict | None) -> str:
    """Promise by promise: what the format keeps by itself, and what came back."""
    rows = {promise: "yes" if by_format else "" for promise, by_format in promised(manifest)}
    head = f"| | promised by {_text(manifest.format)} |"
    if verdict is None:
        return f"{head}\n| --- | --- |\n" + "\n".join(f"| {promise} | {kept} |" for promise, kept in rows.items())
    came_back = {promise: {True: "✓ yes", False: "✗ no"}[survived] for promise, survived in verdict.survived.items()}
    if verdict.loads and needs_definition(manifest.format, manifest.carried):
        came_back["architecture"] = "rebuilt from its definition"
    lines = [f"| {promise} | {kept} | {came_back.get(promise, '')} |" for promise, kept in rows.items()]
    reasons = f"\n\n{_reasons(verdict)}" if _reasons(verdict) else ""
    return f"{head} came back |\n| --- | --- | --- |\n" + "\n".join(lines) + reasons


def _reasons(verdict: Verdict) -> str:
    lines = [*verdict.reasons]
    lines += [f"let through by --allow: {finding}" for finding in verdict.allowed]
    lines += [f"healed: {line}" for line in verdict.healed]
    return "\n".join(f"- {_text(line)}" for line in lines)


def _text(value: str) -> str:
    """A text in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", " ".join(value.split()))


def _code(value: str) -> str:
    """A text in a code span, which nothing in it can end."""
    line = " ".join(value.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {_text(name)} | {value} |" for name, value in rows)

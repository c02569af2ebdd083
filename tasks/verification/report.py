"""What people read of a version: its facts, and the bundle's report.html. Plain text and SVG, no dependency."""

from __future__ import annotations

import html
from collections.abc import Iterable

from tasks.serialization import PROMISES, format_named
from tasks.storage import Manifest
from tasks.verification.charts import confusion_svg, curves_svg, groups
from tasks.verification.verdict import Verdict


def human_bytes(count: float) -> str:
    """`1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def facts(manifest: Manifest) -> list[tuple[str, str]]:
    """What a version is and how it was trained, by name."""
    trained, data = manifest.training, manifest.data
    return [
        ("format", f"{manifest.format} (version {manifest.format_version})"),
        ("definition", f"{manifest.definition.reference} {_arguments(manifest)}".strip()),
        ("data", f"{data.source}, SHA-256 {data.sha256[:16]}…"),
        ("training", f"{trained.loop}, {len(manifest.carried.epoch_seconds)} epochs"),
        *((name, f"{value:.4f}") for name, value in trained.metrics.items()),
        *(("note", note) for note in trained.notes),
    ]


def examples(manifest: Manifest) -> int:
    """How many examples its confusion matrix counts."""
    return sum(map(sum, manifest.carried.confusion))


def promised(manifest: Manifest) -> list[tuple[str, bool]]:
    """Each thing that can survive, and whether the version's format promises it."""
    promises = format_named(manifest.format).promises
    return [(promise, promise in promises) for promise in PROMISES]


def outputs(verdict: Verdict) -> str:
    """How near the outputs are, and how near they had to be."""
    if verdict.max_abs_diff is None:
        return ""
    why = "as the format states" if verdict.exact else "other arithmetic than recorded"
    rule = f"within {verdict.tolerance:.1g}, {why}" if verdict.tolerance else "bit for bit"
    return f"(largest difference {verdict.max_abs_diff:.3g}; {rule})"


def html_report(manifest: Manifest) -> str:
    """The bundle's `report.html`: curves, confusion, facts, what the format promises; one file without scripts or links."""
    carried = manifest.carried
    charts = "".join(curves_svg(title, curves) for title, curves in groups(carried.curves).items())
    if carried.confusion:
        picture = confusion_svg(carried.confusion)
        charts += f"<h2>Confusion matrix</h2><p>Of {examples(manifest):,} validation examples.</p>{picture}"
    environment = manifest.environment.model_dump(exclude={"pid", "hostname"})
    about = [
        ("version", manifest.version),
        ("created", manifest.created.isoformat(timespec="seconds")),
        *facts(manifest),
        *((name, str(value)) for name, value in environment.items() if value),
        *((("flow run", manifest.flow_run_url or manifest.flow_run),) if manifest.flow_run else ()),
    ]
    weights = [(w.name, f"{w.shape} {w.dtype} · {w.sha256[:16]}…") for w in carried.weights]
    fidelity = [(promise, "yes" if kept else "no") for promise, kept in promised(manifest)]
    fidelity += [("healed by this bundle", line) for line in carried.healed]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{html.escape(manifest.model)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2937 }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0 }}
td {{ border-top: 1px solid #e5e7eb; padding: .35rem .5rem; vertical-align: top; overflow-wrap: anywhere }}
td:first-child {{ color: #6b7280; width: 14rem }} svg {{ margin-right: 1rem; max-width: 100% }} h1 {{ margin-bottom: 0 }}
</style>
<h1>{html.escape(manifest.model)}</h1>
<p>What this version is and how it was trained. Whether it came back as it was is in its verdicts.</p>
{charts}
<h2>Facts</h2>{_html_table(about)}
<h2>What {html.escape(manifest.format)} promises to keep</h2>{_html_table(fidelity)}
<h2>Weights</h2>{_html_table(weights)}
</html>
"""


def _arguments(manifest: Manifest) -> str:
    return " ".join(f"{name}={value!r}" for name, value in manifest.definition.arguments.items())


def _html_table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"

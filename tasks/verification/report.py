"""What people read: the bundle's report.html, and the Markdown of Prefect's artifacts. Plain text and SVG, no dependency."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from tasks.serialization import PROMISES
from tasks.storage import Manifest
from tasks.verification.verdict import Verdict

_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")


def human_bytes(count: float) -> str:
    """`1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def model_card(manifest: Manifest, uri: str) -> str:
    """Markdown on a published version."""
    rows = [
        ("format", f"{manifest.format} (version {manifest.format_version})"),
        ("definition", f"`{manifest.definition.reference}` {_arguments(manifest)}"),
        ("data", f"`{manifest.data.source}` · SHA-256 `{manifest.data.sha256[:16]}…`"),
        ("training", f"{manifest.training.loop}, {len(manifest.carried.epoch_seconds)} epochs"),
        ("size", f"{human_bytes(manifest.bytes)} in {len(manifest.files)} files"),
        ("where", f"`{uri}`"),
        *((name, f"{value:.4f}") for name, value in manifest.training.metrics.items()),
    ]
    load = f'```python\nfrom tasks import load_model\n\nmodel = load_model("{manifest.model}@{manifest.version}")\n```'
    return f"# {manifest.model}\n\nVersion `{manifest.version}`\n\n{_table(rows)}\n\n{load}\n"


def verdict_card(verdict: Verdict) -> str:
    """Markdown on a verification."""
    rows = [
        ("intact", _mark(verdict.intact)),
        ("safe", _mark(verdict.safe)),
        ("loads in a fresh process", _mark(verdict.loads)),
        ("same weights, bit for bit", _mark(verdict.weights_equal)),
        ("same outputs", f"{_mark(verdict.outputs_equal)} {_outputs(verdict)}"),
        ("one more training step is the same", _mark(verdict.resumable)),
    ]
    survived = ", ".join(p for p in PROMISES if verdict.survived.get(p)) or "nothing"
    reasons = "".join(f"- {reason}\n" for reason in verdict.reasons)
    reasons += "".join(f"- let through by `--allow`: {finding}\n" for finding in verdict.allowed)
    reasons += "".join(f"- healed: {line}\n" for line in verdict.healed)
    title = "verified" if verdict.passed else "refused"
    text = f"# {verdict.model}: {title}\n\nVersion `{verdict.version}`\n\n{_table(rows)}\n\nWhat survived: {survived}.\n"
    return text + (f"\n{reasons}" if reasons else "")


def html_report(manifest: Manifest) -> str:
    """The bundle's `report.html`: curves, definition, environment; one file without scripts or links."""
    names = list(manifest.carried.curves)
    charts = "".join(
        _chart(group, {n: manifest.carried.curves[n] for n in (group, f"val_{group}") if n in names})
        for group in names
        if not group.startswith("val_")
    )
    facts = [
        ("version", manifest.version),
        ("created", manifest.created.isoformat(timespec="seconds")),
        ("format", manifest.format),
        ("definition", f"{manifest.definition.reference} {_arguments(manifest)}"),
        ("data", f"{manifest.data.source} ({manifest.data.sha256[:16]}…)"),
        *((name, f"{value:.6g}") for name, value in manifest.training.metrics.items()),
        *((k, str(v)) for k, v in manifest.environment.model_dump(exclude={"pid", "hostname"}).items() if v),
        *(("note", note) for note in manifest.training.notes),
    ]
    weights = [(w.name, f"{w.shape} {w.dtype} · {w.sha256[:16]}…") for w in manifest.carried.weights]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{html.escape(manifest.model)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2937 }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0 }}
td {{ border-top: 1px solid #e5e7eb; padding: .35rem .5rem; vertical-align: top; overflow-wrap: anywhere }}
td:first-child {{ color: #6b7280; width: 14rem }} svg {{ margin-right: 1rem }} h1 {{ margin-bottom: 0 }}
</style>
<h1>{html.escape(manifest.model)}</h1>
<p>What this version is and how it was trained. Whether it came back as it was is in its verdicts.</p>
{charts}
<h2>Facts</h2>{_html_table(facts)}
<h2>Weights</h2>{_html_table(weights)}
</html>
"""


def _outputs(verdict: Verdict) -> str:
    if verdict.max_abs_diff is None:
        return ""
    why = "as the format states" if verdict.exact else "other arithmetic than recorded"
    rule = f"within {verdict.tolerance:.1g}, {why}" if verdict.tolerance else "bit for bit"
    return f"(largest difference {verdict.max_abs_diff:.3g}; {rule})"


def _arguments(manifest: Manifest) -> str:
    return "".join(f" {name}={value!r}" for name, value in manifest.definition.arguments.items()).strip()


def _mark(value: bool | None) -> str:
    return {True: "✅ yes", False: "❌ no", None: "not measured"}[value]


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows)


def _html_table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _chart(title: str, curves: dict[str, Sequence[float]]) -> str:
    width, height, pad = 420, 220, 34
    values = [v for curve in curves.values() for v in curve]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    longest = max(len(curve) for curve in curves.values())

    def point(i: int, v: float) -> str:
        x = pad + (width - 2 * pad) * (i / max(1, longest - 1))
        y = height - pad - (height - 2 * pad) * ((v - low) / span)
        return f"{x:.1f},{y:.1f}"

    def path(curve: Sequence[float]) -> str:
        return " ".join(point(i, v) for i, v in enumerate(curve))

    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path(curve)}"/>'
        f'<text x="{width - pad}" y="{16 + 16 * n}" fill="{colour}" text-anchor="end">{html.escape(name)}</text>'
        for n, ((name, curve), colour) in enumerate(zip(curves.items(), _COLOURS, strict=False))
    )
    return (
        f'<svg role="img" aria-label="{html.escape(title)}" width="{width}" height="{height}" font-size="12">'
        f'<text x="{pad}" y="16">{html.escape(title)}</text>'
        f'<line x1="{pad}" y1="{height - pad}" x2="{width - pad}" y2="{height - pad}" stroke="#9ca3af"/>'
        f'<text x="{pad - 4}" y="{height - pad}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{pad - 4}" y="{pad + 4}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">epoch 1 to {longest}</text>{lines}</svg>'
    )

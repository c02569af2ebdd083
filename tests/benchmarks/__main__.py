"""`python -m tests.benchmarks NAME [--json]`: run one benchmark and print its rows and bars."""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module

import click

BENCHMARKS = {
    "checkpoints": "tests.benchmarks.checkpoints",
    "inspection": "tests.benchmarks.inspection",
    "kills": "tests.benchmarks.kills",
    "main-job": "tests.benchmarks.main_job",
    "nursery": "tests.benchmarks.nursery",
    "production": "tests.benchmarks.production",
    "registry": "tests.benchmarks.registry",
    "scanners": "tests.benchmarks.scanners",
    "training": "tests.benchmarks.training",
    "transfer": "tests.benchmarks.transfer",
    "workers": "tests.benchmarks.workers",
}


@click.command()
@click.argument("name", type=click.Choice(list(BENCHMARKS)))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--rounds", type=click.IntRange(min=1), help="Each contender runs so often, in turns; medians count (default: "
              "3). kills: so many of them (default: 30).")  # fmt: skip
@click.option("--large/--no-large", default=False, help="main-job: also with a model of 200 MB.")
def main(name: str, as_json: bool, rounds: int | None, large: bool) -> None:
    """Measure; exits 0 whether or not a bar holds, for timing decides no test."""
    # As on the machines of users, whose Python keeps the bytecode of what it imports: of plain scripts' parts too.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Who starts it in a shell's background starts it deaf to Ctrl-C, and with it the workers, which end by that signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = import_module(BENCHMARKS[name])
    rounds = rounds or getattr(module, "ROUNDS", 3)
    rows, bars = module.measure(rounds, large) if name == "main-job" else module.measure(rounds)
    document = {"name": name, "rows": rows, "bars": bars}
    if as_json:
        click.echo(json.dumps(document, indent=1))
        return
    for row in rows:
        click.echo("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    for what, bar in bars.items():
        click.echo(f"{'holds' if bar['holds'] else 'MISSED'}  {what}: {bar['value']:.3g} (target {bar['target']})")


if __name__ == "__main__":
    sys.exit(main())

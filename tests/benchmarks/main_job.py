"""One scenario with all of orchestration, storage and proof, against the two plain scripts that it replaces.

Both learn from 5,000 generated examples for 5 epochs at batch 32 and store the same 784-64-10 model on a SeaweedFS on
loopback. Ours starts and stops its own servers within the measured time; the scripts find theirs running.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import bar, medians, python, run
from tests.own_store import s3_variables

_FORMATS = ("saved-model", "weights-h5", "full-h5")


def measure(rounds: int, large: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of medians, and the bars of the issue."""
    home = Path(tempfile.mkdtemp(prefix="roundtrip-benchmark-"))
    ours_env = {
        "XDG_DATA_HOME": str(home / "ours"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PREFECT_HOME": str(home / "prefect"),
    }
    os.environ["XDG_DATA_HOME"] = str(home / "plain")
    from tasks.storage import embedded  # after the folder is set

    server = embedded.running()
    plain_env = s3_variables(server.access) | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    rows: list[dict[str, Any]] = []
    bars: dict[str, Any] = {}
    cold = run(python("-m", "flows", "--json"), ours_env)
    job = run(python("-m", "flows", "--json"), ours_env, memory=True)
    rows.append({"what": "python -m flows, first run (databases are made)", **medians([cold], job)})
    for form in _FORMATS:
        _compare(form, 64, 5000, 5, rounds, ours_env, plain_env, rows, bars)
    whole = [run(python("-m", "flows", "--json"), ours_env) for _ in range(rounds)]
    rows.append({"what": "python -m flows, three scenarios, second run", **medians(whole, job)})
    bars["python -m flows, wall seconds"] = bar(medians(whole, job)["wall_s"], "<= 60")
    if large:
        # 784 x 62,500 + 62,500 x 10 parameters in float32: 199 MB.
        _compare("full-h5", 62_500, 1000, 1, rounds, ours_env, plain_env, rows, bars, label=", 200 MB model")
    server.close()
    return rows, bars


def _compare(
    form: str,
    hidden: int,
    examples: int,
    epochs: int,
    rounds: int,
    ours_env: dict[str, str],
    plain_env: dict[str, str],
    rows: list[dict[str, Any]],
    bars: dict[str, Any],
    label: str = "",
) -> None:
    data, ours_run = _data_file(examples), ["-m", "flows", "run", form, "--json", "--epochs", str(epochs)]
    commands = (
        (python("-m", "tests.benchmarks.plain.train", form, str(hidden), str(examples), str(epochs)), plain_env),
        (python("-m", "tests.benchmarks.plain.load", form, str(hidden)), plain_env),
        (python(*ours_run, "--model-arg", f"hidden={hidden}", "--data", data), ours_env),
    )
    timed = [[run(*command) for command in commands] for _ in range(rounds)]
    watched = [run(*command, memory=True) for command in commands]
    train, load, ours = zip(*timed, strict=True)
    a, b, c = (medians(runs, peak) for runs, peak in zip((train, load, ours), watched, strict=True))
    # Round by round: within one the machine is the same, which over minutes it is not.
    wall = statistics.median(o.wall / (t.wall + d.wall) for t, d, o in timed)
    cpu = statistics.median(o.cpu / (t.cpu + d.cpu) for t, d, o in timed)
    rows.append({"what": f"{form}{label}: plain train and upload", **a})
    rows.append({"what": f"{form}{label}: plain download, load, predict", **b})
    rows.append({"what": f"{form}{label}: ours", **c})
    for at, line in ours[len(ours) // 2].timeline:
        rows.append({"what": f"{form}{label}: timeline", "at_s": round(at, 2), "event": line[9:100]})
    bars[f"{form}{label}: wall, ours to plain"] = bar(wall, "<= 0.8")
    bars[f"{form}{label}: CPU, ours to plain"] = bar(cpu, "<= 1.6")


def _data_file(examples: int) -> str:
    import numpy as np

    from tasks.data import DataConfig
    from tasks.data.sources import generate

    x, y = generate(DataConfig(rows=examples))
    path = Path(tempfile.mkdtemp()) / "data.npz"
    np.savez(path, x=x, y=y)
    return str(path)

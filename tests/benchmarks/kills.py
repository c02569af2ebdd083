"""What becomes of runs when a part of a whole production dies: SIGKILL at random moments, to each part in its turn.

`python -m flows up --postgres start` in a home of its own, and a small run of a scenario's deployment for each kill. What
has to come back must do so by itself; only the supervisor is started again by `up`, as a service manager would. A run that
was marked *Crashed* or *Failed* is retried as the button of Prefect's UI does it. After each kill a witness that shares no
code with us reads the whole store, and the next run, `return` of what was published, must succeed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from tests.benchmarks.harness import bar
from tests.benchmarks.hurt import LIMIT, Hurt
from tests.e2e.commands import Home, end_of
from tests.e2e.production import ENDED, Production

ROUNDS = 50
SEED = 24
FLOW, SUPERVISOR = "flow process", "supervisor"
VICTIMS = ("worker", FLOW, "server", "store", "postgres", SUPERVISOR)
_IN_STEPS = {"epochs": 15, "compiler": "eager", "checkpoint_epochs": 1, "checkpoint_seconds": None}
_TRAININGS: dict[str, dict[str, Any]] = {
    "weights-h5": _IN_STEPS,
    "saved-model": {"epochs": 2},
    "checkpoint": _IN_STEPS,
    "full-h5": {"epochs": 2},
}
_PART_AS_PROCESS = 0.6  # of a run's time, in which it has a process that trains
_PATIENCE = 20.0  # seconds for an event to have started its run
_MARKED = {"CRASHED", "FAILED"}


@dataclass(slots=True)
class Kill:
    """One kill, and what became of the run that was going on.

    Attributes:
        after: Seconds from the run's submission to the kill.
        was: The run's state then.
        back: Seconds until each part answered again; of a flow process, until its run was marked or went on.
        again: The run was begun again without anybody's doing.
        marked: Crashed or Failed, where the run came to that; then it was retried.
        end: The run's last state; empty where it is stuck.
        resumed: It went on from a checkpoint.
        versions: What it published.
        half_visible: What the witness says of versions and aliases that may not be.
        lost: What the witness saw before, and does not see now.
        by_hand: Runs of `return` that no event started, or that had to be retried.
        next_ended: How the next run ended.
    """

    number: int
    victim: str
    deployment: str
    run: str = ""
    after: float = 0.0
    was: str = ""
    back: float = 0.0
    again: bool = False
    marked: str = ""
    end: str = ""
    resumed: bool = False
    versions: list[str] = field(default_factory=list)
    half_visible: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    by_hand: int = 0
    next_ended: str = ""


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each victim and one for each kill, and the bars of the issue."""
    home = Path(tempfile.mkdtemp(prefix="roundtrip-kills-"))
    home.chmod(0o711)  # PostgreSQL's user passes through, where we are root
    (home / "data").mkdir(mode=0o711)
    os.environ["XDG_DATA_HOME"] = str(home / "data")
    production = Production(Home(home, {}))
    clean = False
    try:
        production.up("--postgres", "start")
        campaign = _Campaign(production)
        kills = campaign.run(rounds)
        unfinished = Hurt(production).unfinished()
        clean = not unfinished and all(kill.end and not kill.half_visible and not kill.lost for kill in kills)
    finally:
        production.end()
        if clean:
            shutil.rmtree(home, ignore_errors=True)
        else:
            click.echo(f"Its logs and its store are in {home}.", err=True)
    rows = [_row(victim, [kill for kill in kills if kill.victim == victim]) for victim in VICTIMS]
    rows += [_row("all", kills) | {"seed": SEED}]
    return rows + [asdict(kill) for kill in kills], _bars(kills, unfinished)


class _Campaign:
    """The kills, one after the other, on one production."""

    def __init__(self, production: Production) -> None:
        self._production = production
        self._hurt = Hurt(production)
        self._random = random.Random(SEED)
        self._witness = self._hurt.witness()
        self._complaints: set[str] = set()  # that were heard before
        self._published: dict[str, list[tuple[str, bool]]] = {}  # by run: what it published, and whether it had resumed
        self._read: set[tuple[str, str]] = set()
        self._usual = 0.0  # seconds of a run that nobody disturbs

    def run(self, rounds: int) -> list[Kill]:
        """Kill so often; the proof of what a run published goes by while the next one begins."""
        kills: list[Kill] = []
        self._usual = max(self._undisturbed(deployment) for deployment in list(_TRAININGS)[:2])
        click.echo(f"Up. A run that nobody disturbs takes {self._usual:.0f} s.", err=True)
        for number in range(rounds):
            victim = VICTIMS[number % len(VICTIMS)]
            deployment = list(_TRAININGS)[(number + number // len(VICTIMS)) % len(_TRAININGS)]
            kills.append(self._round(number, victim, deployment))
            if number:
                self._next_run(kills[-2])
            click.echo(f"{kills[-1]}", err=True)
        self._next_run(kills[-1])
        return kills

    def _undisturbed(self, deployment: str) -> float:
        began = time.monotonic()
        end = self._hurt.end_of(self._hurt.submit(deployment, deployment, _parameters(deployment, 10_000)))
        assert end == "COMPLETED", f"{deployment} ends with {end} though nothing was killed"
        return time.monotonic() - began

    def _round(self, number: int, victim: str, deployment: str) -> Kill:
        """Kill at a random moment of a run, wait for what comes back, and judge."""
        kill, pid, attempt, share = Kill(number, victim, deployment), None, 0, self._random.random()
        while pid is None:  # a flow process that was quicker than we are is no victim
            kill.run = self._hurt.submit(deployment, f"kill-{number}-{attempt}", _parameters(deployment, number))
            began, attempt = time.monotonic(), attempt + 1
            if victim == FLOW:
                self._hurt.must(lambda: self._hurt.process_of(kill.run) is not None, "process of a run")
            time.sleep(share * self._usual * (_PART_AS_PROCESS if victim == FLOW else 1.0) / attempt)
            kill.was = self._hurt.state_of(kill.run)
            pid = self._pid(victim, kill.run)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        kill.after = round(killed - began, 2)
        healing = self._production.home.start("up", "--json") if victim == SUPERVISOR else None
        self._hurt.must(lambda: self._is_back(victim, pid, kill.run), f"{victim} that is back")
        kill.back = round(time.monotonic() - killed, 2)
        self._judge(kill)
        if healing:
            ended = end_of(healing, LIMIT)
            assert ended.code == 0, ended.err
        return kill

    def _pid(self, victim: str, run: str) -> int | None:
        if victim != FLOW:
            return self._production.pid(victim)
        process = self._hurt.process_of(run)
        return process.pid if process else None

    def _is_back(self, victim: str, pid: int, run: str) -> bool:
        if victim != FLOW:
            return self._production.pid(victim) != pid and self._hurt.is_whole()
        process = self._hurt.process_of(run)
        return (process is not None and process.pid != pid) or self._production.run(run)["state"]["type"] in ENDED

    def _judge(self, kill: Kill) -> None:
        """Wait for the end of the run, by a retry where it needs one, and let the witness look."""
        kill.end = self._hurt.end_of(kill.run)
        if kill.end in _MARKED:
            kill.marked = kill.end
            self._hurt.retry(kill.run)
            kill.end = self._hurt.end_of(kill.run)
        kill.again = not kill.marked and "AwaitingRetry" in self._hurt.states_of(kill.run)
        self._look(kill)
        published = self._published.get(kill.run, [])
        kill.versions = [reference for reference, _ in published]
        kill.resumed = any(resumed for _, resumed in published)

    def _look(self, kill: Kill) -> None:
        """What the witness finds now and did not before, and which runs published what is new."""
        (complaints,) = self._hurt.must(lambda: (self._witness.complaints(),), "store to look at")
        fresh = set(complaints) - self._complaints
        self._complaints |= fresh
        kill.lost = sorted(line for line in fresh if line.endswith("changed or is gone"))
        kill.half_visible = sorted(fresh - set(kill.lost))
        for model, version in sorted(self._witness.whole - self._read):
            place = f"{model}/versions/{version}/manifest.json"
            manifest = self._hurt.must(lambda key=place: json.loads(self._witness.body(key)), "manifest")
            resumed = any(note.startswith("resumed after epoch") for note in manifest["training"]["notes"])
            self._published.setdefault(manifest["flow_run"], []).append((f"{model}@{version}", resumed))
            self._read.add((model, version))

    def _next_run(self, kill: Kill) -> None:
        """`return` of what was published must succeed; where nothing was, another run of the deployment."""
        ends = set()
        for reference in kill.versions:
            run = self._hurt.return_of(reference, _PATIENCE)
            if run is None:
                kill.by_hand += 1
                run = self._hurt.submit("return", f"return-{reference}", {"reference": reference})
            end = self._hurt.end_of(run)
            if end in _MARKED:  # by a later kill
                kill.by_hand += 1
                self._hurt.retry(run)
                end = self._hurt.end_of(run)
            ends.add(end)
        if not ends:
            parameters = _parameters(kill.deployment, 20_000 + kill.number)
            ends.add(self._hurt.end_of(self._hurt.submit(kill.deployment, f"next-{kill.number}", parameters)))
        kill.next_ended = ", ".join(sorted(ends))


def _parameters(deployment: str, seed: int) -> dict[str, Any]:
    """A run of some seconds; another seed is another training, which resumes from no other's checkpoints."""
    return {"data": {"rows": 200}, "training": _TRAININGS[deployment] | {"seed": seed}, "rehearsal": False}


def _row(victim: str, kills: list[Kill]) -> dict[str, Any]:
    done = [kill for kill in kills if kill.end == "COMPLETED"]
    back = [kill.back for kill in kills]
    return {
        "victim": victim,
        "kills": len(kills),
        "finished at once": sum(not kill.again and not kill.marked for kill in done),
        "begun again by itself, finished": sum(kill.again for kill in done),
        "marked, then retried, finished": sum(bool(kill.marked) for kill in done),
        "of these resumed": sum(kill.resumed for kill in done),
        "ended otherwise": sum(kill.end not in {"COMPLETED", ""} for kill in kills),
        "stuck": sum(not kill.end for kill in kills),
        "versions": sum(len(kill.versions) for kill in kills),
        "half-visible": sum(len(kill.half_visible) for kill in kills),
        "lost": sum(len(kill.lost) for kill in kills),
        "returns by hand": sum(kill.by_hand for kill in kills),
        "next run succeeded": sum(kill.next_ended == "COMPLETED" for kill in kills),
        "s to come back": round(statistics.median(back), 1) if back else None,
        "at most": max(back, default=None),
    }


def _bars(kills: list[Kill], unfinished: list[str]) -> dict[str, Any]:
    return {
        "kills": bar(len(kills), f">= {ROUNDS}"),
        "runs stuck": bar(sum(not kill.end for kill in kills) + len(unfinished), "<= 0"),
        "runs that did not finish in the end": bar(sum(kill.end != "COMPLETED" for kill in kills), "<= 0"),
        "versions or aliases half-visible": bar(sum(len(kill.half_visible) for kill in kills), "<= 0"),
        "versions lost": bar(sum(len(kill.lost) for kill in kills), "<= 0"),
        "next runs that failed": bar(sum(kill.next_ended != "COMPLETED" for kill in kills), "<= 0"),
    }

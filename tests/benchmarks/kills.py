"""What becomes of runs when a part of a whole production dies: SIGKILL at random moments, to each part in its turn.

`python -m flows up --postgres start` in a home of its own, and two small runs of scenarios' deployments at once for each
kill. What has to come back must do so by itself; only the supervisor is started again by `up`, as a service manager would. A
run that was marked *Crashed* or *Failed* is retried as the button of Prefect's UI does it. After each kill a witness that
shares no code with us reads the whole store, and the next run, `return` of what was published, must succeed. Ctrl-C ends it
after the kill that it is at.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tests.benchmarks.fates import Fate, Kill, bars, row
from tests.benchmarks.hurt import LIMIT, Hurt
from tests.e2e.commands import Home, end_of
from tests.e2e.production import ENDED, Production

ROUNDS = 30  # kills
SEED = 24
FLOW, SUPERVISOR = "flow process", "supervisor"
VICTIMS = ("worker", FLOW, "server", "store", "postgres", SUPERVISOR)
_SHORT = {"epochs": 2, "compiler": "eager"}
_IN_STEPS = {"epochs": 15, "compiler": "eager", "checkpoint_epochs": 1, "checkpoint_seconds": None}
_TRAININGS: dict[str, dict[str, Any]] = {
    "weights-h5": _IN_STEPS,
    "saved-model": _SHORT,
    "checkpoint": _IN_STEPS,
    "full-h5": _SHORT,
}
_PART_AS_PROCESS = 0.6  # of a run's time, in which it has a process that trains
_PATIENCE = 20.0  # seconds for an event to have started its run
# Seconds after which Prefect's worker has said for the second time that a run crashed; who retries before ends the retry.
_SECOND_WORD = 25.0
_MARKED = {"CRASHED", "FAILED"}


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
        clean = not unfinished and not any(kill.half_visible or kill.lost for kill in kills)
    finally:
        production.end()
        if clean:
            shutil.rmtree(home, ignore_errors=True)
        else:
            click.echo(f"Its logs and its store are in {home}.", err=True)
    rows = [row(victim, [kill for kill in kills if kill.victim == victim]) for victim in VICTIMS]
    rows += [row("all", kills) | {"seed": SEED}]
    return rows + [asdict(kill) for kill in kills], bars(kills, unfinished)


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
        """Kill so often; the proof of what runs published goes by while the next ones begin."""
        kills: list[Kill] = []
        self._usual = self._undisturbed()
        click.echo(f"Up. Two runs that nobody disturbs take {self._usual:.0f} s.", err=True)
        stopping = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: stopping.set())
        for number in range(rounds):
            if stopping.is_set():
                break
            kills.append(self._round(number, VICTIMS[number % len(VICTIMS)]))
            if number:
                self._next_runs(kills[-2])
            click.echo(f"{kills[-1]}", err=True)
        if kills:
            self._next_runs(kills[-1])
        return kills

    def _undisturbed(self) -> float:
        fates, began = [self._begun(name, 0, 0) for name in _two(0)], time.monotonic()
        for fate in fates:
            end = self._hurt.end_of(fate.run)
            assert end == "COMPLETED", f"{fate.deployment} ends with {end} though nothing was killed"
        return time.monotonic() - began

    def _round(self, number: int, victim: str) -> Kill:
        """Kill at a random moment of two runs, wait for what comes back, and judge."""
        kill, pids, attempt, share = Kill(number, victim), set[int](), 0, self._random.random()
        while not pids:  # flow processes that were quicker than we are are no victims
            attempt += 1
            kill.fates, began = [self._begun(name, number, attempt) for name in _two(number)], time.monotonic()
            if victim == FLOW:
                self._hurt.must(lambda: all(self._hurt.process_of(fate.run) for fate in kill.fates), "processes of runs")
            time.sleep(share * self._usual * (_PART_AS_PROCESS if victim == FLOW else 1.0) / attempt)
            for fate in kill.fates:
                fate.was = self._hurt.state_of(fate.run)
            pids = self._pids(kill)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        kill.after = round(killed - began, 2)
        healing = self._production.home.start("up", "--json") if victim == SUPERVISOR else None
        self._hurt.must(lambda: self._is_back(kill, pids), f"{victim} that is back")
        kill.back = round(time.monotonic() - killed, 2)
        self._judge(kill)
        if healing:
            ended = end_of(healing, LIMIT)
            assert ended.code == 0, ended.err
        return kill

    def _begun(self, deployment: str, number: int, attempt: int) -> Fate:
        parameters = _parameters(deployment, 100 * number + attempt)
        return Fate(deployment, self._hurt.submit(deployment, f"{deployment}-{number}-{attempt}", parameters))

    def _pids(self, kill: Kill) -> set[int]:
        if kill.victim != FLOW:
            return {self._production.pid(kill.victim)}
        processes = [self._hurt.process_of(fate.run) for fate in kill.fates]
        return {process.pid for process in processes if process}

    def _is_back(self, kill: Kill, pids: set[int]) -> bool:
        if kill.victim != FLOW:
            return self._production.pid(kill.victim) not in pids and self._hurt.is_whole()
        return all(self._went_on(fate.run, pids) for fate in kill.fates)

    def _went_on(self, run: str, pids: set[int]) -> bool:
        process = self._hurt.process_of(run)
        return (process is not None and process.pid not in pids) or self._production.run(run)["state"]["type"] in ENDED

    def _judge(self, kill: Kill) -> None:
        """Wait for the end of the runs, by a retry where one needs it, and let the witness look."""
        for fate in kill.fates:
            fate.end = self._hurt.end_of(fate.run)
            fate.marked = fate.end if fate.end in _MARKED else ""
        self._look(kill)
        if any(fate.marked for fate in kill.fates):
            time.sleep(_SECOND_WORD)
        for fate in kill.fates:
            if fate.marked:
                self._hurt.retry(fate.run)
        for fate in kill.fates:
            if fate.marked:
                fate.end = self._hurt.end_of(fate.run)
            fate.again = not fate.marked and "AwaitingRetry" in self._hurt.states_of(fate.run)
        self._look(kill)
        for fate in kill.fates:
            published = self._published.get(fate.run, [])
            fate.versions = [reference for reference, _ in published]
            fate.resumed = any(resumed for _, resumed in published)

    def _look(self, kill: Kill) -> None:
        """What the witness finds now and did not before, and which runs published what is new."""
        (complaints,) = self._hurt.must(lambda: (self._witness.complaints(),), "store to look at")
        fresh = set(complaints) - self._complaints
        self._complaints |= fresh
        lost = {line for line in fresh if line.endswith("changed or is gone")}
        kill.lost += sorted(lost)
        kill.half_visible += sorted(fresh - lost)
        for model, version in sorted(self._witness.whole - self._read):
            place = f"{model}/versions/{version}/manifest.json"
            manifest = self._hurt.must(lambda key=place: json.loads(self._witness.body(key)), "manifest")
            resumed = any(note.startswith("resumed after epoch") for note in manifest["training"]["notes"])
            self._published.setdefault(manifest["flow_run"], []).append((f"{model}@{version}", resumed))
            self._read.add((model, version))

    def _next_runs(self, kill: Kill) -> None:
        for fate in kill.fates:
            self._next_run(fate)

    def _next_run(self, fate: Fate) -> None:
        """`return` of what was published must succeed; where nothing was, another run of the deployment."""
        ends = set()
        for reference in fate.versions:
            run = self._hurt.return_of(reference, _PATIENCE)
            if run is None:
                fate.by_hand += 1
                run = self._hurt.submit("return", f"return-{reference}", {"reference": reference})
            end = self._hurt.end_of(run)
            if end in _MARKED:  # by a later kill
                fate.by_hand += 1
                self._hurt.retry(run)
                end = self._hurt.end_of(run)
            ends.add(end)
        if not ends:
            key = f"next-{fate.run}"
            ends.add(self._hurt.end_of(self._hurt.submit(fate.deployment, key, _parameters(fate.deployment, 20_000))))
        fate.next_ended = ", ".join(sorted(ends))


def _two(number: int) -> tuple[str, str]:
    """Deployments for a kill: each pair of them in turn."""
    names = list(_TRAININGS)
    step = 1 + number // len(names) % (len(names) - 1)
    return names[number % len(names)], names[(number + step) % len(names)]


def _parameters(deployment: str, seed: int) -> dict[str, Any]:
    """A run of some seconds; another seed is another training, which resumes from no other's checkpoints."""
    return {"data": {"rows": 200}, "training": _TRAININGS[deployment] | {"seed": seed}, "rehearsal": False}

"""Run the guarantees against a store: for `python -m flows doctor`, for the tests, and one of them before each training.

What is needed and lacking makes the store unfit; what is merely wanted is a warning, with what it means.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from tasks.errors import DeniedError, ForbiddenError, RoundtripError
from tasks.storage import layout
from tasks.storage.guarantees.checks import GOOD_SERVERS, GUARANTEES, Guarantee, put_if_absent
from tasks.storage.guarantees.probes import Lacking, clear
from tasks.storage.store import Store

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found, for people and for `--json`."""

    name: str
    status: Status
    detail: str
    advice: str = ""


def check_store(store: Store) -> None:
    """Find out, before anything costs time, whether the store answers, lets us write, and keeps put-if-absent.

    Costs three requests, plus one that removes the probe.

    Raises:
        UnreachableError: It doesn't, with the reason.
        NotFoundError: There is no such bucket.
    """
    probe = _below(store, layout.scratch(layout.new_version()))
    try:
        put_if_absent(probe)
    except Lacking as lack:
        raise DeniedError(
            f"The store at {store.endpoint} ignores `If-None-Match: *`: {lack}. Versions could be lost on it. {GOOD_SERVERS}"
        ) from None
    finally:
        with suppress(ForbiddenError):  # whoever may write but not delete leaves a few bytes, which `gc` finds
            probe.delete("key")


def examine(store: Store, *, thorough: bool) -> list[Check]:
    """Run the suite against a store, its checks beside one another; everything that it wrote is removed."""
    area = layout.scratch(layout.new_version())
    chosen = [g for g in GUARANTEES if thorough or not g.thorough]
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda pair: run(pair[1], _below(store, f"{area}{pair[0]}/")), enumerate(chosen)))


def run(guarantee: Guarantee, scratch: Store) -> Check:
    """Run one check below a prefix that nobody else uses, and leave nothing there."""
    try:
        with scratch.errors(guarantee.name):
            return Check(guarantee.name, "ok", guarantee.check(scratch))
    except Lacking as lack:
        return Check(guarantee.name, "problem" if guarantee.needed else "warning", str(lack), guarantee.advice)
    except RoundtripError as error:
        return Check(guarantee.name, "problem" if guarantee.needed else "warning", str(error), guarantee.advice)
    finally:
        clear(scratch)


def _below(store: Store, prefix: str) -> Store:
    return replace(store, prefix=store.prefix + prefix)

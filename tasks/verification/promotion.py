"""Promotion: which version may have an alias, and how one moves back.

Principle 1 of the design: an alias points only at a version that another process than its trainer proved. The proof is the
newest verdict in the store; a version that passed once and failed since is not to be trusted before it passed again.
"""

from __future__ import annotations

from tasks.errors import ConflictError, NotFoundError, VerificationFailed
from tasks.storage import Revision, Store, layout, move_alias
from tasks.storage.aliases import append, current, earlier
from tasks.storage.holds import is_committed
from tasks.verification.verdict import Verdict, newest_verdict


def promote(store: Store, model: str, version: str, alias: str = layout.LATEST) -> tuple[Revision, bool]:
    """Point an alias at a version that was proved.

    Returns:
        Where the alias points now, and whether it was moved: it is not where it pointed there already.

    Raises:
        VerificationFailed: The version has no passed verdict, failed since, or passed only by an exception (`--allow`).
        NotFoundError: There is no such version, or it is being removed.
    """
    verdict = _proof(store, model, version)
    before = current(store, model, layout.model_name(alias))
    if before is not None and before.version == version:
        return before, False
    return move_alias(store, model, alias, version, verdict.id, "promoted"), True


def roll_back(store: Store, model: str, alias: str = layout.LATEST, to: str | None = None) -> Revision:
    """Point an alias at where it pointed before its last move, or at a version that is named; by one more revision.

    Versions that were removed, or failed since, are passed over. A second rollback goes further back.

    Raises:
        NotFoundError: There is no such alias, or nothing that it could go back to.
        VerificationFailed: The version that is named was not proved.
        ConflictError: Somebody moved the alias meanwhile, so what was to be undone is not what was looked at.
    """
    now = current(store, model, layout.model_name(alias))
    if now is None:
        raise NotFoundError(f"{model} has no alias {alias!r} in {store.url}, so there is nothing to roll back.")
    if to is not None:
        proof, version, restores = _proof(store, model, to).id, to, None
    else:
        before, verdict = _before(store, model, now)
        proof, version = verdict.id, verdict.version
        restores = before.number if before.restores is None else before.restores
    revision = append(store, model, alias, now, version=version, verdict=proof, reason="rolled back", restores=restores)
    if revision is None:
        raise ConflictError(
            f"Somebody moved {alias!r} of {model} meanwhile; nothing was changed. See `python -m flows show {model}`."
        )
    return revision


def _proof(store: Store, model: str, version: str) -> Verdict:
    verdict = newest_verdict(store, model, version)
    if verdict is not None and verdict.proves:
        return verdict
    if not is_committed(store, model, version):
        raise NotFoundError(f"There is no version {version} of {model!r} in {store.url}.")
    if verdict is not None and verdict.passed:
        raise VerificationFailed(
            f"{model}@{version} passed only because --allow let through {', '.join(verdict.allowed)}. No alias may point at "
            "it: whoever asks for the alias made no such exception."
        )
    why = "was never verified" if verdict is None else f"failed its last verification ({'; '.join(verdict.reasons)})"
    raise VerificationFailed(
        f"{model}@{version} {why}, so no alias may point at it. `python -m flows return {model}@{version}` verifies it."
    )


def _before(store: Store, model: str, now: Revision) -> tuple[Revision, Verdict]:
    """The last state of an alias that can be restored."""
    for revision in earlier(store, model, now):
        if revision.version in {None, now.version} or not is_committed(store, model, str(revision.version)):
            continue
        verdict = newest_verdict(store, model, str(revision.version))
        if verdict is not None and verdict.proves:
            return revision, verdict
    raise NotFoundError(
        f"{now.alias!r} of {model} never pointed at another version that is still there and verified. "
        f"`python -m flows show {model}` shows its history; `--to VERSION` names another one."
    )

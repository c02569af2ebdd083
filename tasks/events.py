"""What the world is told of a version: four events, in the terms of Prefect's event system. Pure; others send them.

`published`, `verified`, `refused` and `promoted` each say what is in the store by then, never what somebody is about to do.
`tasks.steps` emits them from within a run, `flows.announcing` for a command at a desk. Their form is a contract with
automations and with publishers outside of this project: deployments/README.md documents it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.settings import StoreConfig
from tasks.storage import Manifest, Revision, VersionRef
from tasks.verification import Verdict

PUBLISHED = "roundtrip.version.published"
VERIFIED = "roundtrip.version.verified"
REFUSED = "roundtrip.version.refused"
PROMOTED = "roundtrip.version.promoted"
_REASONS, _LENGTH = 10, 300  # reasons of a refusal, characters of each: a server takes 1.5 MB an event
_MEASURED = {"id", "passed", "intact", "safe", "loads", "weights_equal", "outputs_equal", "max_abs_diff", "resumable"}


@dataclass(frozen=True, slots=True)
class Event:
    """One event, ready to be sent.

    Attributes:
        name: What happened.
        resource: Labels of the version.
        related: Labels of what else has to do with it, each with its role.
        payload: What happened, for who reacts to it.
    """

    name: str
    resource: dict[str, str]
    related: list[dict[str, str]]
    payload: dict[str, Any]


def published(ref: VersionRef, store: StoreConfig, run: str | None) -> Event:
    """A version was committed.

    Args:
        ref: The version.
        store: Where, as it was configured there, so that whoever reacts looks at the same place. It names credentials and
            holds none.
        run: The flow run that did it.
    """
    return _event(PUBLISHED, ref, store, run)


def judged(
    ref: VersionRef, verdict: Verdict, manifest: Manifest, store: StoreConfig, run: str | None, alias: str | None
) -> Event:
    """A verdict was added to a version; `alias` is `latest` where that points at it now."""
    measured = verdict.model_dump(mode="json", include=_MEASURED)
    if verdict.allowed:
        measured["allowed"] = verdict.allowed
    news: dict[str, Any] = {"alias": alias, "verdict": measured}
    if not verdict.passed:
        news["reasons"] = [reason[:_LENGTH] for reason in verdict.reasons[:_REASONS]]
    return _event(VERIFIED if verdict.passed else REFUSED, ref, store, run, news, [_origin(manifest)])


def promoted(ref: VersionRef, revision: Revision, manifest: Manifest, store: StoreConfig, run: str | None) -> Event:
    """An alias was moved to a version: by a passed verdict, by `promote`, or by `rollback`."""
    news = {"alias": revision.alias, "verdict": {"id": revision.verdict}, "revision": revision.number}
    alias = {
        "prefect.resource.id": f"roundtrip.alias.{ref.model}.{revision.alias}",
        "prefect.resource.role": "alias",
        "prefect.resource.name": f"{ref.model}@{revision.alias}",
    }
    return _event(PROMOTED, ref, store, run, news | {"reason": revision.reason}, [_origin(manifest), alias])


def _event(
    name: str,
    ref: VersionRef,
    store: StoreConfig,
    run: str | None,
    news: dict[str, Any] | None = None,
    related: list[dict[str, str]] | None = None,
) -> Event:
    payload = {
        "model": ref.model,
        "version": ref.version,
        "uri": ref.uri,
        "format": ref.format,
        "store": store.model_dump(exclude_none=True),
        "flow_run": run,
    }
    resource = {
        "prefect.resource.id": f"roundtrip.version.{ref.version}",
        "prefect.resource.name": str(ref),
        # Triggers match by them, and watch each model on its own.
        "roundtrip.model": ref.model,
        "roundtrip.format": ref.format,
    }
    model = {
        "prefect.resource.id": f"roundtrip.model.{ref.model}",
        "prefect.resource.role": "model",
        "prefect.resource.name": ref.model,
    }
    return Event(name, resource, [model, *(each for each in related or [] if each)], payload | (news or {}))


def _origin(manifest: Manifest) -> dict[str, str]:
    """The flow run that published a version, so that its page shows what became of it."""
    if manifest.flow_run is None:
        return {}
    return {"prefect.resource.id": f"prefect.flow-run.{manifest.flow_run}", "prefect.resource.role": "published-by"}

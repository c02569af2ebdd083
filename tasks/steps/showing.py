"""What a run shows in the UI and tells the server: cards, tags, links, events."""

from __future__ import annotations

import re
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
)
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.context import FlowRunContext, SyncClientContext
from prefect.events import Event as Message
from prefect.runtime import deployment, flow_run

from tasks import events
from tasks.settings import StoreConfig
from tasks.steps.stores import opened
from tasks.storage import Manifest, layout
from tasks.verification import Verdict
from tasks.verification.cards import model_card, verdict_card

_NOT_IN_KEYS = re.compile(r"[^a-z0-9-]+")


def show_verdict(store: StoreConfig, manifest: Manifest, verdict: Verdict) -> None:
    """Show what was found in this run, and on the model card of the run that published the version."""
    subject = f"{manifest.model}@{manifest.version}"
    create_markdown_artifact(verdict_card(verdict), key=artifact_key("verdict", manifest.model), description=subject)
    show_card(store, manifest, verdict)


def show_card(store: StoreConfig, manifest: Manifest, verdict: Verdict | None = None) -> None:
    """Show the model card; once there is a verdict, also in place of the one that its publisher showed without."""
    place, run = opened(store), str(flow_run.id)
    key, subject = artifact_key("model-card", manifest.model), f"{manifest.model}@{manifest.version}"
    card = model_card(
        manifest,
        place.uri(layout.bundle(manifest.model, manifest.version)).rstrip("/"),
        store=place.url if store.url or store.s3_bucket else None,  # else the reader's own environment names it
        # The address in a manifest is anybody's; the run's id leads to a page of this UI alone.
        trained_in=page_of(manifest.flow_run),
        verdict=verdict,
        proved_in=page_of(run) if verdict else None,
    )
    create_markdown_artifact(card, key=key, description=subject)
    if verdict is None or not verdict.binds or manifest.flow_run is None or not page_of(manifest.flow_run):
        return
    of_publisher = ArtifactFilterFlowRunId(any_=[UUID(manifest.flow_run)])
    with SyncClientContext.get_or_create() as context:  # the run's own client; another costs a handshake
        client = context.client
        for found in client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=of_publisher)):
            # A manifest may name any run: only the card of this very version is replaced.
            if (found.key, found.description) == (key, subject):
                client.update_artifact(found.id, ArtifactUpdate(data=card))


def artifact_key(what: str, model: str) -> str:
    """An artifact's key: Prefect's UI shows all artifacts of one key as one history, so each model has its own."""
    return f"{what}-{_NOT_IN_KEYS.sub('-', model.lower())}"


def page_of(run: str | None) -> str | None:
    """The page of a flow run as seen from an artifact's, in either of Prefect's UIs; None for what is no run's id."""
    try:
        return f"../../runs/flow-run/{UUID(run)}" if run else None
    except ValueError:
        return None


def tag(model: str, version: str) -> None:
    """Let the run be found by its model and version."""
    tags = {*flow_run.tags, f"model:{model}", f"version:{version}"}
    with SyncClientContext.get_or_create() as context:
        context.client.update_flow_run(UUID(str(flow_run.id)), tags=sorted(tags)).raise_for_status()


def emit(event: events.Event) -> None:
    """Send an event, with the run, its deployment and its tags beside it, and wait until the server has it.

    Not by Prefect's `emit_event`, which hands it to a socket in the background: when a server on SQLite stalled for a
    minute, what that held was lost without a word, and who waited for it waited in vain.
    """
    related = [*event.related]
    if flow_run.id:
        related.append(_resource("flow-run", flow_run.id) | {"prefect.resource.name": flow_run.name or ""})
        related += [_resource("tag", tag) for tag in sorted(set(flow_run.tags))]
    deployed = _deployment()
    if deployed:
        related.append(_resource("deployment", deployed))
    message = Message(event=event.name, resource=event.resource, related=related, payload=event.payload)
    try:
        with SyncClientContext.get_or_create() as context:
            context.client.request("POST", "/events", json=[message.model_dump(mode="json")])
    except httpx.HTTPError as error:
        # What it tells of is done, and not undone for this.
        get_run_logger().warning("Prefect was not told of %s: %s", event.name, error)


def _deployment() -> object:
    """The id of the deployment that this run is of; None where it is of none."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run and not run.parent_task_run_id:
        return run.deployment_id  # `prefect.runtime` would ask the server where there is none
    return deployment.id  # a run within another one knows nothing of its deployment


def _resource(kind: str, name: object) -> dict[str, str]:
    return {"prefect.resource.id": f"prefect.{kind}.{name}", "prefect.resource.role": kind}


def this_run() -> str | None:
    """The flow run's id, or None outside one."""
    return str(flow_run.id) if flow_run.id else None

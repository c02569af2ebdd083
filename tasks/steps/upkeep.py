"""What is done again and again: verifying what is stored, removing what nobody needs, sounding the alarm."""

from __future__ import annotations

import json
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE

from tasks import storage
from tasks.errors import InputError
from tasks.settings import StoreConfig
from tasks.steps.listening import tell
from tasks.steps.stores import is_bad_luck, is_no_mistake, opened
from tasks.storage import Done, Plan, Retention
from tasks.verification.report import human_bytes
from tasks.verification.reverifying import Proof, shortfall, to_prove


@task(name="find versions", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def find_versions(models: list[str], alias: str | None, store: StoreConfig) -> list[str]:
    """References of what an alias of each model points at; without an alias, of every version."""
    return to_prove(opened(store), models, alias)


def tell_proof(proof: Proof) -> Proof:
    """Let whoever asked for news hear of one version, and the run's log."""
    tell(proof)
    get_run_logger().info("%s: %s", proof.reference, proof.outcome)
    return proof


@task(name="tabulate proofs", cache_policy=NO_CACHE)
def tabulate_proofs(proofs: list[Proof]) -> None:
    """Show how each version went as a table."""
    passed = sum(proof.outcome == "verified" for proof in proofs)
    rows = [proof.model_dump() for proof in proofs]
    create_table_artifact(rows, key="reverified", description=f"{passed} of {len(proofs)} versions verified again")


def accept_proofs(proofs: list[Proof]) -> list[Proof]:
    """Let versions that all passed through; raise for others, so that the flow run fails with the reasons.

    Raises:
        UnsafeError: One was changed in the store, or is dangerous.
        VerificationFailed: One is not the model that was trained.
        RoundtripError: One could not be verified, for the reason of its class.
    """
    error = shortfall(proofs)
    if error:
        error.outcome = proofs
        raise error
    return proofs


@task(name="find garbage", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[2, 10], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def find_garbage(retention: Retention, models: list[str], store: StoreConfig) -> Plan:
    """Plan what may go, and show the plan; nothing is changed."""
    planned = storage.plan(opened(store), retention, models)
    rows = [removal.model_dump(exclude={"upload"}) for removal in planned.removals]
    create_table_artifact(rows, key="gc", description=f"To remove from {planned.store}: {human_bytes(planned.bytes)}")
    return planned


@task(name="remove garbage", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[2, 10], retry_jitter_factor=0.5,
      retry_condition_fn=is_bad_luck)  # fmt: skip
def remove_garbage(planned: Plan, store: StoreConfig) -> list[Done]:
    """Remove what was planned, each looked at again just before; show what went and what had to stay."""
    results = storage.carry_out(opened(store), planned)
    rows = [
        {"what": d.removal.what, "subject": d.removal.subject, "why": d.skipped or d.removal.why, "removed": not d.skipped}
        | {"objects": d.objects, "bytes": d.bytes}
        for d in results
    ]
    freed = human_bytes(sum(d.bytes for d in results))
    create_table_artifact(rows, key="gc-removed", description=f"Removed from {planned.store}: {freed}")
    return results


@task(name="show alarm", cache_policy=NO_CACHE)
def show_alarm(subject: str, details: dict[str, Any]) -> str:
    """Write an alarm into the run's log and into an artifact; returns its text."""
    text = json.dumps(details, indent=1, default=str)
    get_run_logger().warning("%s\n%s", subject, text)
    create_markdown_artifact(f"# {subject}\n\n```json\n{text}\n```\n", key="notification", description=subject)
    return text


@task(name="send alarm", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 30], retry_jitter_factor=0.5,
      retry_condition_fn=is_no_mistake)  # fmt: skip
def send_alarm(subject: str, text: str, block: str) -> None:
    """Send an alarm through a Prefect notification block."""
    import prefect.blocks.notifications  # noqa: F401  # so that Prefect knows their types
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block

    try:
        sender: Any = Block.load(block)
    except ValueError as error:
        raise InputError(f"There is no Prefect block {block!r}. Write its type and name: slack-webhook/NAME.") from error
    if not isinstance(sender, NotificationBlock):
        raise InputError(f"The Prefect block {block!r} sends no notifications.")
    notify: Any = sender.notify  # declared to be asynchronous; called from here it is not
    with sender.raise_on_failure():
        notify(text, subject)

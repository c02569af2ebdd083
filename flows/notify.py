"""The flow `notify`: tell people of something that they should look at. Automations start it.

With nothing configured it writes the run's log and the artifact `notification`, which need no network.
"""

from typing import Any

from prefect import flow

from tasks.steps import send_alarm, show_alarm


@flow(name="notify", flow_run_name="{subject}")
def notify(subject: str, details: dict[str, Any] | None = None, block: str | None = None) -> None:
    """Show an alarm, and send it where a block is named.

    Args:
        subject: What happened, in a line.
        details: What is known of it; of an event, its payload.
        block: Type and name of a Prefect notification block (`slack-webhook/ops`, `sendgrid-email/ops`); empty: none.
    """
    text = show_alarm(subject, details or {})
    if block:
        send_alarm(subject, text, block)

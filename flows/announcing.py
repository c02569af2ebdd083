"""Events from commands at a desk, for what they change outside of any flow run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from flows.server import configured_url
from tasks.errors import RoundtripError

if TYPE_CHECKING:
    from tasks.events import Event


def announce(make: Callable[[], Event]) -> None:
    """Send an event to the Prefect server that is configured; where none is, nobody listens, and it is not even made.

    What the event tells of is done, and the store knows it: a server that can't be reached is a warning, not an error.
    """
    if configured_url() is None:
        return
    import httpx  # with Prefect 1.4 s, and only where somebody listens
    from prefect.client.orchestration import get_client
    from prefect.events import Event as Message

    try:
        event = make()
        message = Message(event=event.name, resource=event.resource, related=event.related, payload=event.payload)
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[message.model_dump(mode="json")])
    except (httpx.HTTPError, RuntimeError, RoundtripError) as error:
        click.echo(f"warning: it is done, but no event tells {configured_url()} of it: {error}", err=True)

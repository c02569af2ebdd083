"""The servers of a job at a desk. Prefect's: one for the whole job, shared with other jobs, on loopback, with a password.

Where `PREFECT_API_URL` is set, by the environment or in a Prefect profile, that server is used and nothing is started. Where
`python -m flows up` runs, its server is used.
"""

from __future__ import annotations

import atexit
import base64
import os
import secrets
import socket
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import nursery
from tasks.errors import UnreachableError
from tasks.folders import data_folder
from tasks.shared_server import SharedServer

if TYPE_CHECKING:
    from tasks.storage import Store

_READY_SECONDS = 300.0
_DATABASE, _MADE = "prefect.db", "prefect.db.made-by"
API_URL = "PREFECT_API_URL"
UNWATCHED = "ROUNDTRIP_UNWATCHED"  # in the environment of a desk's processes: the API URL of the desk's own server
_CONFIGURED = f"It comes from {API_URL}"
_LEFT = f"`python -m flows up` ran it and is down. Run it again, or `unset {API_URL} PREFECT_API_AUTH_STRING`"


class PrefectServer:
    """The server that this job talks to."""

    def __init__(self) -> None:
        self._own: SharedServer | None = None
        self._origin = _CONFIGURED
        url = configured_url()
        if url:
            self.url = url
            return
        # For this process and every child of it. The client must not start a temporary server of its own.
        os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
        os.environ["DO_NOT_TRACK"] = "1"
        # It has no UI, so nothing may point into one.
        os.environ["PREFECT_UI_URL"] = ""
        # It is of this very installation.
        os.environ["PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED"] = "false"
        running = local_production()
        if running:
            self.url, self._origin = running, "`python -m flows up` runs it; `python -m flows status` asks each part"
            return
        self._own = SharedServer(data_folder() / "prefect", _recipe)
        atexit.register(self._own.close)
        self.url = self._own.state["url"]
        os.environ[API_URL] = self.url
        os.environ["PREFECT_API_AUTH_STRING"] = self._own.state["auth"]
        os.environ[UNWATCHED] = self.url

    def wait_until_up(self) -> None:
        """Return when the server answers; the first start of all makes its database and takes a while.

        Raises:
            UnreachableError: It does not answer, or refuses us.
        """
        import urllib.error  # the server starts before it is imported
        import urllib.request
        from importlib.metadata import version

        deadline = time.monotonic() + (_READY_SECONDS if self._own else 10.0)
        address, headers = f"{self.url.rstrip('/')}/health", {}
        if self._own:
            # Its first answer from the database costs it 0.3 s, and the others still import.
            address = f"{self.url}/admin/storage"
            headers["Authorization"] = f"Basic {base64.b64encode(self._own.state['auth'].encode()).decode()}"
        while True:
            try:
                with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=5):
                    break
            except urllib.error.HTTPError as error:
                reason: object = error
                if self._own and error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                    break  # it answers; what it refuses, the flows are told
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
            gone = not self._own.alive() if self._own else _is_down(self.url)
            if gone or time.monotonic() > deadline:
                tail = f" Its last words:\n{self._own.log_tail()}" if self._own else f" {_LEFT if gone else self._origin}."
                raise UnreachableError(f"The Prefect server at {self.url} does not answer ({reason}).{tail}")
            time.sleep(0.05)
        if self._own is None:
            if self._origin == _CONFIGURED:
                self._check_access()
        else:
            (data_folder() / "prefect" / _MADE).write_text(version("prefect"))

    def _check_access(self) -> None:
        """Ask something that, unlike the health, needs the password."""
        from prefect.client.orchestration import get_client
        from prefect.exceptions import PrefectHTTPStatusError

        try:
            with get_client(sync_client=True) as client:
                client.raise_for_api_version_mismatch_once()
        except PrefectHTTPStatusError as error:
            raise UnreachableError(
                f"The Prefect server at {self.url} refuses us: {error.response.status_code} "
                f"{error.response.reason_phrase}. Check PREFECT_API_AUTH_STRING or PREFECT_API_KEY."
            ) from error

    def close(self) -> None:
        """Let go of the server; it stops with its last user."""
        if self._own:
            self._own.close()


class Servers:
    """Prefect's server, a nursery and the store: begun at once, in the order that is quickest, and waited for later.

    Args:
        imports: What the nursery imports; without any there is none.
        debug: Let the nursery's processes say all that they would say.
    """

    def __init__(self, *imports: str, debug: bool = False) -> None:
        self._prefect = PrefectServer()
        if imports:
            nursery.prepare(*imports, debug=debug)
        from tasks.settings import StoreConfig  # they cost 0.4 s, and the others start meanwhile
        from tasks.storage import embedded

        self._store: Store | None = None
        self._embedded = embedded.start() if StoreConfig().location() is None else None

    def store(self) -> Store:
        """The store, once it answers, opened once.

        Raises:
            RoundtripError: It does not answer, or refuses us.
        """
        if self._store is None:
            from tasks.storage import open_store

            if self._embedded:
                self._embedded.wait_until_up()
            self._store = open_store()
        return self._store

    def wait_until_up(self) -> None:
        """Return when both answer; a wrong address of the store is said before Prefect's server is up.

        Raises:
            RoundtripError: One does not, or refuses us.
        """
        if self._embedded is None:
            self.store()
        self._prefect.wait_until_up()
        if self._embedded:
            # Whoever opens it waits until it can be read, by a client that costs 0.3 s.
            self._embedded.wait_until_it_listens()

    def close(self) -> None:
        """Let go of Prefect's server; it stops with its last user, as the store does when this process ends."""
        self._prefect.close()


def configured_url() -> str | None:
    """The API URL that the user configured for Prefect, wherever Prefect looks for one."""
    if os.environ.get(API_URL):
        return os.environ[API_URL]
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    files = [Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml")), Path("prefect.toml"), Path(".env")]
    # Prefect's settings take half a second to import; the server's start waits for this answer.
    if not any(f.is_file() and API_URL.lower().removeprefix("prefect_") in f.read_text().lower() for f in files):
        return None
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def local_production() -> str | None:
    """The API URL of the server that `python -m flows up` runs here, which this process and its children then use."""
    if not (data_folder() / "up" / "supervisor.lock").exists():
        return None
    from flows.production.contact import adopt  # 0.3 s; most desks never had one

    return adopt()


def _is_down(url: str) -> bool:
    """Whether `python -m flows up` has run the server at this API URL here, and no longer does."""
    from flows.production.contact import running  # 0.3 s, and only where a server does not answer
    from flows.production.plan import Plan

    plan = Plan.load()
    return plan is not None and plan.api == url.rstrip("/") and running() is None


def _recipe(folder: Path) -> dict[str, Any]:
    from importlib.metadata import version

    # Held from now on: it takes seconds until the server listens, and the store's, say, looks for ports meanwhile.
    held = socket.socket()
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its connections have it from it; uvicorn sets none here
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    auth = f"roundtrip:{secrets.token_urlsafe(24)}"
    # What `prefect server start` serves in the end, without importing its command line first (1.5 CPU seconds). Nothing is
    # imported from the folder in which it starts.
    command = [sys.executable, "-P", "-m", "flows.prompt_server", str(held.fileno())]
    made = folder / _MADE
    database_is_ready = made.exists() and made.read_text() == version("prefect") and (folder / _DATABASE).exists()
    env = {
        # Where this package is.
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")))),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / _DATABASE}",
        # Tables and blocks are there since a server of this version came up on them.
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": str(not database_is_ready),
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": str(not database_is_ready),
        # Else each start imports every integration that is installed (0.8 CPU seconds), to find that no block is new.
        "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # No scheduler, no UI: `python -m flows up` has those.
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_UI_ENABLED": "false",
        API_URL: "",
    }
    state = {"url": f"http://127.0.0.1:{port}/api", "auth": auth}
    return {"command": command, "env": env, "state": state, "socket": held.detach()}

"""The Prefect server's API, as far as `up`, `status` and `down` need it, without importing Prefect (1.4 s)."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from flows.production.plan import Plan
from tasks.errors import UnreachableError

_BUSY = 503  # its database is away for a moment: PostgreSQL starts again
_ATTEMPTS, _PAUSE = 10, 0.5


@dataclass(frozen=True, slots=True)
class Api:
    """What the server of a plan answers, to its owner."""

    plan: Plan
    seconds: float = 30.0

    def get(self, path: str) -> Any:
        """Read something."""
        return self._ask(path, "GET", None)

    def post(self, path: str, body: Any = None) -> Any:
        """Ask or do something."""
        return self._ask(path, "POST", body or {})

    def patch(self, path: str, body: Any) -> Any:
        """Change something."""
        return self._ask(path, "PATCH", body)

    def _ask(self, path: str, method: str, body: Any) -> Any:
        token = base64.b64encode(self.plan.login.encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.plan.api}{path}", data, headers, method=method)
        for attempt in range(_ATTEMPTS):
            try:
                with urllib.request.urlopen(request, timeout=self.seconds) as answer:
                    content = answer.read()
            except urllib.error.HTTPError as error:
                if error.code == _BUSY and attempt < _ATTEMPTS - 1:
                    time.sleep(_PAUSE)
                    continue
                said = error.read().decode(errors="replace")[:300]
                raise UnreachableError(
                    f"The Prefect server at {self.plan.api} answers {error.code} to {method} {path}: {said}"
                ) from error
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                raise UnreachableError(f"The Prefect server at {self.plan.api} does not answer: {reason}") from error
            return json.loads(content) if content else None
        raise AssertionError

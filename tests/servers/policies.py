"""The policies of `deployments/policies`, word for word, given to users of servers that enforce them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROLES = ("reader", "returner", "publisher", "operator")
PREFIX = "team"

_FOLDER = Path(__file__).parents[2] / "deployments" / "policies"


def policy(role: str, bucket: str) -> dict[str, Any]:
    """A role's policy for one bucket."""
    text = (_FOLDER / f"{role}.json").read_text()
    found: dict[str, Any] = json.loads(text.replace("BUCKET", bucket).replace("PREFIX", PREFIX))
    return found


def bucket_policy(bucket: str, users: str) -> str:
    """All roles in one document, each for the user of its name; `users` is how the server's users are called."""
    statements = [
        statement | {"Principal": {"AWS": [f"{users}{role}"]}}
        for role in ROLES
        for statement in policy(role, bucket)["Statement"]
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})

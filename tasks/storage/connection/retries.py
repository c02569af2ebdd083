"""Which failures are tried again, beyond those that botocore's `standard` mode knows.

It goes by error codes that it knows. Gateways say 429 with codes of their own or with none; 409 means that another operation
on the key is under way (S3's reference: try again); a bad digest, that bytes were damaged on the way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STATUSES = {409, 429}
DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
DAMAGED_ATTEMPTS = 3
_LONGEST_WAIT = 20.0


def with_jitter(attempt: int) -> float:
    """Seconds to wait after an attempt, as botocore waits: up to 1, 2, 4, … 20."""
    return min(random.random() * 2.0 ** (attempt - 1), _LONGEST_WAIT)


def try_again(client: S3Client, attempts: int, wait: Callable[[int], float] = with_jitter) -> None:
    """Have a client try these failures again too, up to so many attempts in all."""
    limit = attempts

    def needed(response: Any, attempts: int, **_: Any) -> Any:
        if response is None or attempts >= limit:
            return None
        http, parsed = response
        if parsed.get("Error", {}).get("Code") in DAMAGED:
            return 0.0 if attempts < DAMAGED_ATTEMPTS else None
        return wait(attempts) if http.status_code in STATUSES else None

    client.meta.events.register("needs-retry.s3", needed)

"""The variables by which a user configures an S3 store, for a server that the tests or a benchmark started."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a benchmark sets its folders before anything of ours is imported
    from tasks.storage.embedded import Access


def s3_variables(access: Access, place: str | None = None) -> dict[str, str]:
    """`ROUNDTRIP_STORE` and the AWS SDK's variables; the place is one that nobody else uses, where none is named."""
    return {
        "ROUNDTRIP_STORE": f"s3://{access.bucket}/{place or uuid.uuid4().hex}",
        "AWS_ENDPOINT_URL_S3": access.endpoint,
        "AWS_ACCESS_KEY_ID": access.access_key,
        "AWS_SECRET_ACCESS_KEY": access.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }

"""What is configured: `ROUNDTRIP_STORE`. The rest is the AWS SDK's or Prefect's own."""

from __future__ import annotations

import os
import re

from pydantic import BaseModel, Field

from tasks.errors import InputError

STORE_VARIABLE = "ROUNDTRIP_STORE"
_STORE_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9._=/-]*))?")


class StoreConfig(BaseModel):
    """Which store to use. With nothing set: `ROUNDTRIP_STORE`, else the embedded server."""

    model_config = {"frozen": True}

    url: str | None = Field(
        default=None,
        title="Store",
        description="`s3://bucket/prefix`. Empty: the environment's ROUNDTRIP_STORE, else the embedded store.",
    )
    aws_credentials: str | None = Field(
        default=None,
        title="Prefect AwsCredentials block",
        description="Name of a Prefect AwsCredentials block. Empty: the AWS SDK's own variables, profiles and roles.",
    )

    def location(self) -> tuple[str, str] | None:
        """Bucket and prefix (`""`, or ending without a slash), or None for the embedded store.

        Raises:
            InputError: The URL is not of the form `s3://bucket/prefix`.
        """
        url = self.url or os.environ.get(STORE_VARIABLE)
        if not url:
            return None
        match = _STORE_URL.fullmatch(url)
        if not match or "//" in url.removeprefix("s3://"):
            raise InputError(f"{url!r} is not a store. Write {STORE_VARIABLE}=s3://bucket or s3://bucket/prefix.")
        return match["bucket"], (match["prefix"] or "").strip("/")

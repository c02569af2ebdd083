"""What is configured: `ROUNDTRIP_STORE` with its options. The rest is the AWS SDK's or Prefect's own."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, ValidationError, field_validator

from tasks.errors import InputError
from tasks.forms import may_be_empty, place

STORE_VARIABLE = "ROUNDTRIP_STORE"
_STORE_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9._=/-]*))?")
_OPTIONS = ("encryption", "kms_key", "storage_class", "tags", "requester_pays")
_Encryption = Annotated[Literal["AES256", "aws:kms", "aws:kms:dsse"], Field(title="Choose")]
_MAX_TAGS = 10  # S3's limit for one object


class StoreConfig(BaseModel):
    """Which store to use, and how objects are written there. With nothing set: `ROUNDTRIP_STORE`, else the embedded server.

    Travels as a parameter of flows and in events, so it names credentials and holds none.
    """

    model_config = {"frozen": True}

    url: str | None = Field(
        default=None,
        title="Store",
        description="s3://bucket/prefix. Empty: the environment's ROUNDTRIP_STORE, else the embedded store.",
        json_schema_extra=may_be_empty(0),
    )
    aws_credentials: str | None = Field(
        default=None,
        title="Prefect AwsCredentials block",
        description="Name of a Prefect AwsCredentials block. Empty: the AWS SDK's own variables, profiles and roles.",
        json_schema_extra=may_be_empty(1),
    )
    s3_bucket: str | None = Field(
        default=None,
        title="Prefect S3Bucket block",
        description="Name of a Prefect S3Bucket block: its bucket, folder and credentials, in place of the two above.",
        json_schema_extra=may_be_empty(2),
    )
    encryption: _Encryption | Annotated[None, Field(title="Not set")] = Field(
        default=None,
        title="Server-side encryption",
        description="Of every object that is written. Empty: ROUNDTRIP_STORE_ENCRYPTION, else the bucket's default.",
        json_schema_extra=place(3),
    )
    kms_key: str | None = Field(
        default=None,
        title="KMS key",
        description="Id or ARN of the key for aws:kms. Empty: ROUNDTRIP_STORE_KMS_KEY, else the account's own key.",
        json_schema_extra=may_be_empty(4),
    )
    storage_class: str | None = Field(
        default=None,
        title="Storage class",
        description="Of every object that is written. Empty: ROUNDTRIP_STORE_STORAGE_CLASS, else STANDARD.",
        json_schema_extra=may_be_empty(5),
    )
    tags: str | None = Field(
        default=None,
        title="Tags",
        description="Of every object that is written, as S3 has them: team=vision&cost=42. Empty: ROUNDTRIP_STORE_TAGS.",
        json_schema_extra=may_be_empty(6),
    )
    requester_pays: bool | None = Field(
        default=None,
        title="Requester pays",
        description="Agree to pay for requests to somebody else's bucket. Empty: ROUNDTRIP_STORE_REQUESTER_PAYS.",
        json_schema_extra=may_be_empty(7),
    )

    @field_validator("storage_class")
    @classmethod
    def _readable_at_once(cls, value: str | None) -> str | None:
        if value in {"GLACIER", "DEEP_ARCHIVE"}:
            raise ValueError(f"objects of the class {value} can't be read back at once; GLACIER_IR can")
        return value

    @field_validator("tags")
    @classmethod
    def _pairs(cls, value: str | None) -> str | None:
        # Raises where a piece is no pair.
        if value and len(parse_qsl(value, keep_blank_values=True, strict_parsing=True)) > _MAX_TAGS:
            raise ValueError(f"S3 allows {_MAX_TAGS} tags")
        return value

    def completed(self) -> Self:
        """The same, with what is empty filled in from the environment.

        Raises:
            InputError: A variable has a value that can't be one.
        """
        names = {name: f"{STORE_VARIABLE}_{name.upper()}" for name in _OPTIONS}
        if not self.s3_bucket:
            names["url"] = STORE_VARIABLE
        empty = {name: variable for name, variable in names.items() if getattr(self, name) is None}
        found = {name: os.environ[variable] for name, variable in empty.items() if os.environ.get(variable)}
        try:
            return type(self).model_validate(self.model_dump() | found)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise InputError(f"{names[name]}={found.get(name)!r} can't be used: {first['msg']}.") from None

    def location(self) -> tuple[str, str] | None:
        """Bucket and prefix (`""`, or ending without a slash), or None for the embedded store.

        Raises:
            InputError: The URL is not of the form `s3://bucket/prefix`, or stands beside the block that names the bucket.
        """
        if self.s3_bucket:
            raise InputError(f"The S3Bucket block {self.s3_bucket!r} is opened by Prefect's tasks alone, and takes no URL.")
        url = self.url or os.environ.get(STORE_VARIABLE)
        if not url:
            return None
        match = _STORE_URL.fullmatch(url)
        if not match or "//" in url.removeprefix("s3://"):
            raise InputError(f"{url!r} is not a store. Write {STORE_VARIABLE}=s3://bucket or s3://bucket/prefix.")
        return match["bucket"], (match["prefix"] or "").strip("/")

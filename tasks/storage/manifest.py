"""The manifest: what a version is. Written last, never changed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from tasks.definitions import Definition
from tasks.serialization import Carried
from tasks.storage.layout import check_relative

# What stands in the place of a manifest when its version was removed: for ever, so that a publisher that was slow, or a
# request that was late, can't bring half of it back. No manifest has this size, so a list alone tells the two apart.
REMOVED = b'{"removed": true}\n'

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """One file of the bundle: its path inside it, size in bytes and SHA-256 (hex)."""

    model_config = {"frozen": True}

    path: Annotated[str, AfterValidator(check_relative)]
    size: int = Field(ge=0)
    sha256: _Sha256


class Environment(BaseModel):
    """Where a model was trained or returned. `arithmetic` names all that decides the last bits of an output."""

    model_config = {"frozen": True}

    python: str
    tensorflow: str
    keras: str
    numpy: str
    platform: str
    arithmetic: str
    git_commit: str | None = None
    hostname: str
    pid: int


class TrainingRecord(BaseModel):
    """How the model was trained."""

    # A metric may be no number (R2 of equal targets): in JSON by its name, for `null` could not be read again.
    model_config = {"frozen": True, "ser_json_inf_nan": "strings"}

    scenario: str
    loop: str
    config: dict[str, object]
    metrics: dict[str, float]
    notes: tuple[str, ...] = ()


class DataRecord(BaseModel):
    """What the model was trained on."""

    model_config = {"frozen": True}

    source: str
    sha256: _Sha256


class Manifest(BaseModel):
    """Everything that a returning process needs to know, and everything that it holds the model against."""

    model_config = {"frozen": True}

    schema_version: Literal[1] = 1
    model: str
    version: str
    created: datetime
    format: str
    format_version: int
    definition: Definition
    data: DataRecord
    training: TrainingRecord
    carried: Carried
    files: tuple[FileEntry, ...]
    environment: Environment
    flow_run: str | None = None
    flow_run_url: str | None = None

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)

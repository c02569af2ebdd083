"""Where one version is in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where one version is in the cache."""

    root: Path
    model: str
    version: str

    @property
    def folder(self) -> Path:
        """Its files, under their own names."""
        return self.root / "versions" / self.model / self.version

    @property
    def lock(self) -> Path:
        """Held shared by whoever uses the folder; its date is the last use."""
        return self.folder.with_name(f"{self.version}.lock")

    @property
    def fill(self) -> Path:
        """Held by the one who fills or heals the folder."""
        return self.folder.with_name(f"{self.version}.fill")

    @property
    def seen(self) -> Path:
        """What the kernel said of each file when it was last hashed."""
        return self.folder.with_name(f"{self.version}.seen")

    @property
    def partial(self) -> Path:
        """A fetch that is under way, or was cut off."""
        return self.folder.with_name(f".{self.version}.partial")

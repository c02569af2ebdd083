"""The folders of the platform. On its own, so that servers start before anything larger is imported."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """Where this user's embedded servers keep their data."""
    return Path(platformdirs.user_data_dir("roundtrip", appauthor=False))


def cache_folder() -> Path:
    """Where fetched versions are kept; may be deleted at any time."""
    return Path(platformdirs.user_cache_dir("roundtrip", appauthor=False))

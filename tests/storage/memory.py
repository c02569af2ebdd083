"""The store's verbs over a dict, for laws that must hold in every order of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from tasks.errors import ConflictError, NotFoundError
from tasks.storage.store import StoredObject, Upload

_START = datetime(2026, 11, 24, tzinfo=UTC)


class MemoryStore:
    """As `tasks.storage.Store`, atomic by the verb; `before` is called before each, and may switch to somebody else."""

    url = "memory"

    def __init__(self) -> None:
        self.objects_: dict[str, tuple[bytes, datetime]] = {}
        self.before: Callable[[str], object] = lambda _: None
        self.clock = _START

    def pass_time(self, age: timedelta) -> None:
        self.clock += age

    def uri(self, key: str) -> str:
        return f"memory/{key}"

    def get(self, key: str) -> bytes:
        self.before("get")
        if key not in self.objects_:
            raise NotFoundError(key)
        return self.objects_[key][0]

    def size(self, key: str) -> int | None:
        self.before("size")
        return len(self.objects_[key][0]) if key in self.objects_ else None

    def put(self, key: str, body: bytes) -> None:
        self.before("put")
        self.objects_[key] = body, self.clock

    def put_if_absent(self, key: str, body: bytes) -> None:
        self.before("put_if_absent")
        if self.objects_.setdefault(key, (body, self.clock))[0] != body:
            raise ConflictError(key)

    def keys(self, prefix: str, *, limit: int | None = None) -> list[str]:
        self.before("keys")
        return self._below(prefix)[:limit]

    def folders(self, prefix: str) -> list[str]:
        self.before("folders")
        rests = [key.removeprefix(prefix) for key in self._below(prefix)]
        return sorted({rest.partition("/")[0] for rest in rests if "/" in rest})

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        return iter([StoredObject(key, len(self.objects_[key][0]), self.objects_[key][1]) for key in self._below(prefix)])

    def delete(self, key: str) -> None:
        self.before("delete")
        self.objects_.pop(key, None)

    def delete_all(self, keys: Sequence[str]) -> None:
        self.before("delete_all")
        for key in keys:
            self.objects_.pop(key, None)

    def uploads(self, prefix: str) -> Iterator[Upload]:
        return iter(())

    def now(self) -> datetime:
        self.before("now")
        return self.clock

    def _below(self, prefix: str) -> list[str]:
        return sorted(key for key in self.objects_ if key.startswith(prefix))

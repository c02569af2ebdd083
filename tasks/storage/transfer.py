"""Files to and from the store: `upload` and `download`, and how their progress is told.

Both ways: parallel in and across files, bounded memory, every byte hashed once and checked at the other end, and a second
attempt moves only what is missing. `upload.py` and `download.py` say how, README.md what was measured.
"""

from tasks.storage.download import download
from tasks.storage.hashing import file_entries, sha256_of
from tasks.storage.progress import Moved, Progress, Snapshot, nobody
from tasks.storage.upload import upload

__all__ = ["Moved", "Progress", "Snapshot", "download", "file_entries", "nobody", "sha256_of", "upload"]

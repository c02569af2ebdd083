"""A whole Ceph on loopback for the tests: a monitor, an OSD and an RGW from Debian's packages, without cephx and systemd.

`apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common`. Up in about seven seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.servers.processes import Processes, until

_PROGRAMS = ("monmaptool", "ceph-mon", "ceph-osd", "ceph", "radosgw", "radosgw-admin")

_CONFIG = """\
[global]
fsid = {fsid}
mon initial members = a
mon host = {monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
mon cluster log file = {folder}/cluster.log
rgw frontends = beast endpoint=127.0.0.1:{port}
# One copy of everything, on one disk that is a sparse file.
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
rgw rados pool pg num min = 8
mon max pg per osd = 1000
rgw dynamic resharding = false
osd objectstore = bluestore
bluestore block size = 8589934592
osd memory target = 939524096
osd class update on start = false
# A test machine's disk may be nearly full, and its monitor has nobody to wait for.
mon data avail warn = 2
mon data avail crit = 1
paxos propose interval = 0.05
paxos min wait = 0.02
ms mon client mode = crc
"""


def missing() -> list[str]:
    """Programs that this machine lacks."""
    return [name for name in _PROGRAMS if shutil.which(name) is None]


class Ceph:
    """A cluster in a folder, up when this returns."""

    def __init__(self, folder: Path, processes: Processes, ports: list[int]) -> None:
        port, messenger, legacy = ports
        self.endpoint = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._environment = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
        fsid, address = str(uuid.uuid4()), f"[v2:127.0.0.1:{messenger},v1:127.0.0.1:{legacy}]"
        (folder / "ceph.conf").write_text(
            _CONFIG.format(fsid=fsid, monitor=address.replace(",", "/0,").replace("]", "/0]"), folder=folder, port=port)
        )
        for name in ("mon", "osd"):
            (folder / name).mkdir()
        start = self._starter(processes)
        self._do("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, str(folder / "monmap"))
        self._do("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
        start("ceph-mon", "-i", "a", "-f")
        until(lambda: self._succeeds("ceph", "--connect-timeout", "2", "mon", "stat"), "the monitor answers")
        osd = str(uuid.uuid4())
        self._do("ceph", "osd", "new", osd)
        self._do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        start("ceph-osd", "-i", "0", "-f")
        start("radosgw", "-n", "client.admin", "-f")

    def user(self, name: str, access_key: str, secret_key: str) -> None:
        """Create a user, who may do nothing to other users' buckets."""
        keys = ("--access-key", access_key, "--secret-key", secret_key)
        self._do("radosgw-admin", "user", "create", "--uid", name, "--display-name", name, *keys)

    def _starter(self, processes: Processes) -> Callable[..., None]:
        def start(*command: str) -> None:
            processes.start(list(command), self._environment, self._folder / f"{command[0]}.out")

        return start

    def _do(self, *command: str) -> None:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"

    def _succeeds(self, *command: str) -> bool:
        return subprocess.run(command, env=self._environment, capture_output=True, check=False).returncode == 0

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.shared_server import SharedServer, free_ports, port_is_free


def recipe(folder: Path) -> dict[str, Any]:
    """The plainest server there is, and a child of its own that must not outlive it."""
    (port,) = free_ports(1)
    with (folder / "starts").open("a") as file:
        file.write("x")
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    return {"command": command, "env": {"SECRET": "s3cret"}, "state": {"port": port}}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def processes_of(folder: Path) -> list[psutil.Process]:
    """Watcher and server, which both have the folder on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if str(folder) in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "server"
    yield folder
    for process in processes_of(folder):  # only what a failed test left
        process.kill()


@pytest.fixture
def hold(folder: Path) -> Iterator[Callable[[], SharedServer]]:
    held: list[SharedServer] = []

    def one() -> SharedServer:
        held.append(SharedServer(folder, recipe))
        return held[-1]

    yield one
    for server in held:
        server.close()


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another program that uses the server, until its stdin closes."""
    program = (
        "import sys; from pathlib import Path; from tasks.shared_server import SharedServer\n"
        "from tests.test_shared_server import recipe\n"
        "server = SharedServer(Path(sys.argv[1]), recipe); print(server.state['port'], flush=True); sys.stdin.read()\n"
        "server.close()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_two_holders_share_one_server_that_stops_with_the_last(hold: Callable[[], SharedServer], folder: Path) -> None:
    first, second = hold(), hold()
    assert first.state == second.state
    port = first.state["port"]
    assert until(lambda: listens(port))
    first.close()
    assert second.alive() and listens(port)
    second.close()
    assert not listens(port)
    assert processes_of(folder) == []
    assert (folder / "starts").read_text() == "x"


def test_a_server_can_be_started_again_after_it_stopped(hold: Callable[[], SharedServer], folder: Path) -> None:
    for _ in range(3):
        server = hold()
        assert until(lambda server=server: listens(server.state["port"]))
        server.close()
    assert (folder / "starts").read_text() == "xxx"


def test_closing_twice_is_no_error(hold: Callable[[], SharedServer]) -> None:
    server = hold()
    server.close()
    server.close()


def test_the_server_stops_when_its_only_holder_is_killed(folder: Path) -> None:
    process = holder(folder)
    port = port_of(process)
    assert until(lambda: listens(port))
    process.kill()
    process.wait()
    assert until(lambda: not listens(port) and not processes_of(folder))


def test_the_server_outlives_the_program_that_started_it(hold: Callable[[], SharedServer], folder: Path) -> None:
    starter = holder(folder)
    port = port_of(starter)
    server = hold()
    assert server.state["port"] == port
    starter.kill()
    starter.wait()
    assert until(lambda: listens(port))
    time.sleep(0.5)
    assert server.alive() and listens(port)


def test_a_new_server_starts_after_a_holder_was_killed(hold: Callable[[], SharedServer], folder: Path) -> None:
    process = holder(folder)
    port_of(process)
    process.kill()
    process.wait()
    server = hold()  # at once, while the old one is being stopped
    assert until(lambda: listens(server.state["port"]))
    time.sleep(0.3)
    assert server.alive() and listens(server.state["port"])


def test_ten_programs_that_start_at_once_share_one_server(folder: Path) -> None:
    servers: list[SharedServer] = []
    threads = [threading.Thread(target=lambda: servers.append(SharedServer(folder, recipe))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {server.state["port"] for server in servers} == {servers[0].state["port"]}
    assert (folder / "starts").read_text() == "x"
    threads = [threading.Thread(target=server.close) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert until(lambda: not listens(servers[0].state["port"]) and not processes_of(folder))


def test_the_watcher_takes_a_polite_signal_for_nothing(hold: Callable[[], SharedServer], folder: Path) -> None:
    server = hold()
    assert until(lambda: listens(server.state["port"]))
    (watcher,) = [p for p in processes_of(folder) if "shared_server.py" in " ".join(p.cmdline())]
    for number in (signal.SIGINT, signal.SIGTERM):
        watcher.send_signal(number)
    time.sleep(0.3)
    assert listens(server.state["port"])


def test_the_server_dies_with_its_watcher(hold: Callable[[], SharedServer], folder: Path) -> None:
    server = hold()
    assert until(lambda: listens(server.state["port"]))
    (watcher,) = [p for p in processes_of(folder) if "shared_server.py" in " ".join(p.cmdline())]
    watcher.kill()
    assert until(lambda: not listens(server.state["port"]) and not server.alive())


def test_a_server_that_crashes_is_noticed_and_replaced(hold: Callable[[], SharedServer], folder: Path) -> None:
    server = hold()
    assert until(lambda: listens(server.state["port"]))
    (crashed,) = [p for p in processes_of(folder) if "http.server" in p.cmdline()]
    crashed.kill()
    assert until(lambda: not server.alive())
    again = hold()
    assert until(lambda: listens(again.state["port"]))


def test_a_server_that_does_not_start_is_noticed_and_its_last_words_are_kept(folder: Path) -> None:
    def broken(_: Path) -> dict[str, Any]:
        return {"command": [sys.executable, "-c", "raise SystemExit('no luck')"], "env": {}, "state": {}}

    server = SharedServer(folder, broken)
    assert until(lambda: not server.alive())
    assert "no luck" in server.log_tail()
    server.close()


def test_a_recipe_that_fails_lets_go_of_the_folder(hold: Callable[[], SharedServer], folder: Path) -> None:
    def broken(_: Path) -> dict[str, Any]:
        raise LookupError("no program")

    with pytest.raises(LookupError):
        SharedServer(folder, broken)
    server = hold()
    assert until(lambda: listens(server.state["port"]))
    server.close()
    assert not listens(server.state["port"])


def test_what_holds_secrets_is_readable_by_the_owner_alone(hold: Callable[[], SharedServer], folder: Path) -> None:
    old = os.umask(0)
    try:
        hold()
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "server.json").stat().st_mode) == 0o600
    assert json.loads((folder / "server.json").read_text())["env"] == {"SECRET": "s3cret"}
    assert not any("s3cret" in " ".join(p.cmdline()) for p in processes_of(folder))


def test_a_server_that_ignores_the_polite_signal_is_killed(folder: Path) -> None:
    def stubborn(folder: Path) -> dict[str, Any]:
        program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
        return {"command": [sys.executable, "-c", program, str(folder)], "env": {}, "state": {}}

    server = SharedServer(folder, stubborn)
    assert until(lambda: len(processes_of(folder)) == 2)
    time.sleep(0.3)  # until it ignores the signal
    server.close()
    assert processes_of(folder) == []


def test_a_port_that_is_held_is_nobody_elses_before_the_server_listens_and_free_when_it_has_ended(folder: Path) -> None:
    def slow(folder: Path) -> dict[str, Any]:
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        script = (
            f"import socket, time; time.sleep(0.5); s = socket.socket(fileno={held.fileno()}); s.listen(); time.sleep(99)"
        )
        command = [sys.executable, "-c", script, str(folder)]
        return {"command": command, "env": {}, "state": {"port": held.getsockname()[1]}, "socket": held.detach()}

    server = SharedServer(folder, slow)
    port = server.state["port"]
    assert not listens(port)
    assert not port_is_free(port)
    assert until(lambda: listens(port))
    server.close()
    assert port_is_free(port)


def test_free_ports_are_free_and_leave_room_for_grpc() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert max(ports) + 10_000 < 65_536
    assert not any(listens(port) for port in ports)

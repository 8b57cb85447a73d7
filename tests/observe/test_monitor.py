"""The monitor: private, harmless, and honest about processes that are stuck or gone."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from linkbox import (
    Bytes,
    ClientAR,
    ClientP2P,
    EndpointState,
    EventKind,
    Json,
    LinkboxError,
    ServerAR,
    ServerP2P,
    StateError,
    aio,
    monitor,
)
from linkbox.monitor.folder import folder, sockets
from linkbox.monitor.reader import Reader
from linkbox.operations import process_hooks
from tests.threaded.helpers import Threads, wait_until

Start = Callable[[str], "subprocess.Popen[str]"]
SERVER = """
import time
from linkbox import ServerP2P
server = ServerP2P("tcp://127.0.0.1:0", name="that one").start()
print(server.address, flush=True)
input()
"""


@pytest.fixture
def reader(runtime: Path) -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


def test_a_process_answers_only_its_user(runtime: Path) -> None:
    address = monitor.start()
    assert monitor.start() == address, "once is enough"
    path = Path(address.removeprefix("unix://"))
    assert path == runtime / "linkbox" / f"{os.getpid()}.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    monitor.stop()
    assert not path.exists()


def test_a_folder_of_others_is_not_used(runtime: Path, tmp_path: Path) -> None:
    (runtime / "linkbox").mkdir(mode=0o755)
    (runtime / "linkbox").chmod(0o755)
    with pytest.raises(StateError, match="chmod 700"):
        monitor.start()
    (runtime / "linkbox").rmdir()
    (runtime / "linkbox").symlink_to(tmp_path)
    with pytest.raises(StateError, match="is not a folder of this user"):
        monitor.start()
    with pytest.raises(StateError, match="is not a folder of this user"):
        sockets()


def test_without_a_runtime_folder_it_is_below_tmp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)  # nobody may replace the folder of a user
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert folder().name == f"linkbox-{os.getuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert folder().name == f"linkbox-{os.getuid()}"


def test_endpoints_of_this_process(runtime: Path) -> None:
    with ServerP2P("tcp://127.0.0.1:0", name="here") as server, ClientP2P(server.address) as client:
        client.send(b"12345").wait()
        found = monitor.snapshot()
    assert found.pid == os.getpid()
    kinds = {each.kind: each for each in found.endpoints}
    assert kinds["ServerP2P"].messages_received == 1
    assert kinds["ServerP2P"].bytes_received == 5
    assert kinds["ServerP2P"].state == "listening"
    assert kinds["ServerP2P"].name == "here"
    assert kinds["ClientP2P"].state == "connected"
    (peer,) = kinds["ClientP2P"].peers
    assert peer.name == "here"
    assert not any(each.trouble for each in found.endpoints)
    assert monitor.snapshot().endpoints == []


def test_other_processes_are_read(reader: Reader, start_program: Start) -> None:
    process = start_program(SERVER)
    rows = wait_until(lambda: reader.rows()[0], "the monitor starts in the background")
    (row,) = rows
    assert (row.pid, row.endpoint.kind, row.endpoint.name) == (process.pid, "ServerP2P", "that one")
    with ClientP2P(row.endpoint.address, name="<b>") as client:
        wait_until(lambda: reader.rows()[0][0].endpoint.peers)
        for _ in range(50):
            client.send(b"x").wait()
        (row,) = reader.rows()[0]
        assert row.endpoint.messages_received == 50
        assert row.received_rate > 0
        assert row.endpoint.peers[0].name == "<b>"
    (found,) = monitor.processes()
    assert found.pid == process.pid


def test_a_killed_process_is_gone_and_its_socket_too(reader: Reader, start_program: Start) -> None:
    process = start_program(SERVER)
    wait_until(lambda: reader.rows()[0])
    (path,) = sockets().values()
    process.kill()
    process.wait()
    wait_until(lambda: reader.rows() == ([], []))
    assert not path.exists()


def test_a_stopped_process_does_not_answer(runtime: Path, start_program: Start) -> None:
    process = start_program(SERVER)
    reader = Reader(patience=0.3)
    try:
        wait_until(lambda: reader.rows()[0])
        process.send_signal(signal.SIGSTOP)
        rows, (failed,) = wait_until(lambda: (found := reader.rows())[1] and found)
        assert rows == []
        assert failed.pid == process.pid
        assert "does not answer" in failed.error
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: reader.rows()[0])
    finally:
        reader.close()


def test_what_arrives_that_is_no_question_does_no_harm(runtime: Path) -> None:
    address = monitor.start()
    path = address.removeprefix("unix://")
    for data in (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 100_000, b""):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(data)
            sock.settimeout(15)
            sock.shutdown(socket.SHUT_WR)
            try:
                while sock.recv(65536):
                    pass
            except OSError:
                pass
    with ClientAR(address, Json()) as client:
        with pytest.raises(LinkboxError):
            client.ask({"what": 1})
        answer: Any = client.ask({"what": "stop", "then": "anything"})
    assert answer["pid"] == os.getpid(), "there is one answer, whatever the question"


def test_off_by_default(runtime: Path) -> None:
    with ServerP2P("tcp://127.0.0.1:0"):
        assert not process_hooks.on_start
        assert not (runtime / "linkbox").exists()


@pytest.mark.parametrize("value", ["", "0"])
def test_the_variable_may_say_no(runtime: Path, value: str) -> None:
    code = "import linkbox; from linkbox.operations import process_hooks as p; print(len(p.on_start))"
    environment = os.environ | {"LINKBOX_MONITOR": value, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True, timeout=30)
    assert done == "0\n"


def test_a_program_works_where_the_monitor_cannot(runtime: Path) -> None:
    (runtime / "linkbox").write_text("in the way")
    code = f"""{SERVER}
server.stop()
print("stopped")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n",
        capture_output=True,
        env=os.environ | {"LINKBOX_MONITOR": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
        timeout=60,
        check=True,
    )
    assert "stopped" in done.stdout
    assert done.stderr.count("the monitor cannot start") <= 1


# -- troubles -------------------------------------------------------------------------------------------


def trouble_of(kind: str) -> str:
    return next(each.trouble for each in monitor.snapshot().endpoints if each.kind == kind)


@pytest.mark.patches
def test_a_callback_that_blocks_is_a_trouble(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linkbox.operations.inspecting.STUCK", 0.01)
    over = threading.Event()
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:

        @server.on(EventKind.DATA)
        def read_the_sensor(event: Any) -> None:
            over.wait(30)

        client.send(b"x")
        wait_until(lambda: "read_the_sensor" in trouble_of("ServerP2P"))
        over.set()
        wait_until(lambda: not trouble_of("ServerP2P"))


@pytest.mark.patches
def test_handlers_that_are_all_busy_are_a_trouble(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linkbox.operations.answering.STUCK", 0.01)
    over = threading.Event()

    def answer(request: Any) -> bytes:
        over.wait(30)
        return b""

    with ServerAR("tcp://127.0.0.1:0", handler=answer, workers=2) as server:
        with Threads() as threads, ClientAR(server.address, keep_alive=True) as client:
            for _ in range(2):
                threads.start(client.ask, b"x")
            wait_until(lambda: any(each.busy_workers == 2 for each in monitor.snapshot().endpoints))
            assert not trouble_of("ServerAR"), "no request waits"
            threads.start(client.ask, b"x")
            wait_until(lambda: "all 2 workers are busy" in trouble_of("ServerAR"))
            wait_until(lambda: "responses to 3 requests" in trouble_of("ClientAR"))
            over.set()
        assert not trouble_of("ServerAR")


def test_a_client_without_a_server_is_a_trouble(runtime: Path) -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        address = server.address
    client = ClientP2P(address).start(wait=False)
    try:
        wait_until(lambda: "attempts in a row have failed" in trouble_of("ClientP2P"))
        assert "nobody listens there" in trouble_of("ClientP2P")
    finally:
        client.stop(0.0)


def test_a_conversation_that_was_lost_is_a_trouble_and_one_that_has_ended_is_none(runtime: Path) -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        client = ClientP2P(server.address, reconnect=None).start()
        server.wait_connected()
        server.end()
        client.end()
        wait_until(lambda: client.state is EndpointState.ENDED)
        assert trouble_of("ClientP2P") == ""
        client.stop()
        client = ClientP2P(server.address, reconnect=None).start()
        wait_until(server.peers)
        server.disconnect(server.peers()[0], "too slow")
        wait_until(lambda: client.state is EndpointState.ENDED)
        assert "too slow" in trouble_of("ClientP2P")
        client.stop()


@pytest.mark.patches
def test_one_that_cannot_be_inspected_hides_no_other(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerP2P("tcp://127.0.0.1:0"), ServerAR("tcp://127.0.0.1:0") as other:
        monkeypatch.setattr(type(other._operations), "waits_for_workers", None)
        found = {each.kind: each for each in monitor.snapshot().endpoints}
    assert found["ServerP2P"].trouble == ""
    assert "cannot be inspected: TypeError" in found["ServerAR"].trouble


def test_a_blocked_event_loop_is_a_trouble(runtime: Path) -> None:
    is_blocked, over = threading.Event(), threading.Event()

    async def main() -> None:
        async with aio.ServerP2P("tcp://127.0.0.1:0", Bytes()):
            assert monitor.snapshot().endpoints[0].state == "listening", "from its own loop"
            is_blocked.set()
            over.wait(30)
            is_blocked.clear()
            over.clear()
            while not over.is_set():  # noqa: ASYNC110  (the event is of a thread)
                await asyncio.sleep(0.01)

    with Threads() as threads:
        threads.start(lambda: asyncio.run(main()))
        assert is_blocked.wait(30)
        (found,) = monitor.snapshot().endpoints
        assert (found.state, found.front) == ("blocked", "aio")
        assert "event loop" in found.trouble
        over.set()
        wait_until(lambda: not is_blocked.is_set())
        wait_until(lambda: monitor.snapshot().endpoints[0].state == "listening")
        over.set()


def test_a_forked_child_is_not_monitored(runtime: Path) -> None:
    code = """
import os, sys
from linkbox import ServerP2P, monitor
monitor.start()
pid = os.fork()
if pid == 0:
    monitor.stop()
    server = ServerP2P("tcp://127.0.0.1:0").start()
    from linkbox.monitor.folder import sockets
    print(sorted(sockets()) == [os.getppid()], flush=True)
    os._exit(0)
os.waitpid(pid, 0)
from linkbox.monitor.folder import sockets
print(sorted(sockets()) == [os.getpid()])
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True, timeout=60)
    assert done == "True\nTrue\n"

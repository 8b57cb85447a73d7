"""`linkbox record` and `linkbox replay`: real conversations between processes, written, and acted again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, TIMEOUT
from tests.threaded.helpers import dial, wait_until

LOCAL = "tcp://127.0.0.1:0"
HEADER: dict[str, Any] = {"linkbox": "recording", "version": 1}


@pytest.fixture
def scale() -> Iterator[str]:
    """A device that greets, and answers each line with a number that counts."""
    listener = socket.create_server(("127.0.0.1", 0))
    count = 0

    def serve(sock: socket.socket) -> None:
        nonlocal count
        with sock, suppress(OSError):
            sock.sendall(b"SCALE\r\n")
            while line := sock.recv(1000):
                count += 1
                sock.sendall(b"%d g\n" % count if line.endswith(b"W?\n") else b"\x00\xff" + line)

    def run() -> None:
        with suppress(OSError):
            while True:
                sock, _peer = listener.accept()
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def use(address: str, *lines: bytes) -> list[bytes]:
    """What a device sends: on connect, and for each line."""
    with dial(address) as sock:
        found = [sock.recv(1000)]
        for line in lines:
            sock.sendall(line)
            found.append(sock.recv(1000))
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    return found


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in (HEADER, *lines)))
    return path


def listening(command: Any) -> str:
    """Where a command listens."""
    return str(command.wait_said(r"listening at ([^\s,]+)")[1])


def test_recorded_stopped_appended_and_replayed(start, run, scale: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for number in (1, 2):
        recorder = start("record", LOCAL, scale, path)
        first, second = 2 * number - 1, 2 * number
        expected = [b"SCALE\r\n", b"%d g\n" % first, b"%d g\n" % second]
        assert use(listening(recorder), b"W?\n", b"W?\n") == expected
        wait_until(lambda: path.read_text().count('"end"') == 2 * number, "both ends are in the file")  # noqa: B023
        recorder.process.send_signal(signal.SIGINT if number == 1 else signal.SIGTERM)
        done = recorder.done()
        assert (done.status, done.out) == (0, b"")
        assert "1 connection, 6 bytes from clients, 15 from the server" in done.err
    assert "appending to 1 connection" in done.err
    header, opened, greeting, request, response, *_ = lines_of(path)
    assert header["target"] == scale
    assert opened["peer"].startswith("tcp://127.0.0.1:")
    assert (greeting["from"], greeting["text"]) == ("server", "SCALE\r\n")
    assert (request["from"], request["text"], request["connection"]) == ("client", "W?\n", 1)
    assert (response["from"], response["text"]) == ("server", "1 g\n")
    assert response["at"] >= request["at"] >= opened["at"] >= 0

    replay = start("replay", path, LOCAL, "--once", "--speed", "inf")
    address = listening(replay)
    assert use(address, b"W?\n", b"W?\n") == [b"SCALE\r\n", b"1 g\n", b"2 g\n"]
    assert use(address, b"W?\n", b"W?\n") == [b"SCALE\r\n", b"3 g\n", b"4 g\n"]
    done = replay.done()
    assert (done.status, done.out) == (0, b"")
    assert "everything as recorded" in done.err

    again = start("replay", path, LOCAL, "--once", "--speed", "inf")
    done = run("replay", path, listening(again), "--connect", "--speed", "inf")
    assert done == (0, b"", "linkbox: everything as recorded\n")
    assert again.done().status == 0


def test_the_client_shows_what_differs(run, scale: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.jsonl",
        {"from": "server", "text": "SCALE\r\n"},
        {"from": "client", "text": "W?\n"},
        {"from": "server", "text": "7 g\n"},
    )
    done = run("replay", path, scale, "--connect", "--speed", "inf")
    assert done.status == 1
    assert (
        done.err == r"linkbox: connection 1: the response to b'W?\n' is b'1 g\n' instead of b'7 g\n'" + "\n"
    )
    done = run("replay", path, scale, "--connect", "--speed", "inf", "-F", "lines", "-q")
    assert (done.status, done.out) == (1, b"")
    assert r"is b'2 g\n' instead of" in done.err


def test_the_device_shows_what_differs(start, tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.jsonl",
        {"from": "client", "text": "A?\n"},
        {"from": "server", "text": "a\n"},
        {"from": "client", "text": "B?\n"},
    )
    replay = start("replay", path, LOCAL, "--once")
    with dial(listening(replay)) as sock:
        sock.sendall(b"\x1b[2J")
        replay.wait_said(r"request b'\\x1b\[2J' was not recorded")
        sock.sendall(b"A?\n")
        assert sock.recv(10) == b"a\n"
    done = replay.done()
    assert done.status == 1
    assert r"request b'B?\n' of connection 1 was not sent" in done.err
    assert "\x1b" not in done.err


def test_ctrl_c_ends_the_device_with_a_report(start, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", {"from": "client", "text": "A?\n"}, {"from": "server", "text": "a\n"})
    replay = start("replay", path, LOCAL)
    with dial(listening(replay)) as sock:
        sock.sendall(b"A?\n")
        assert sock.recv(10) == b"a\n"
        replay.process.send_signal(signal.SIGINT)
        done = replay.done()
    assert done.status == 0
    assert "everything as recorded" in done.err


def test_a_modbus_device(start, run, tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.jsonl",
        {"from": "client", "hex": "0001 0000 0006 01 03 0000 0001"},
        {"from": "server", "hex": "0001 0000 0005 01 03 02 1234"},
    )
    replay = start(
        "replay", path, LOCAL, "--transaction", "0:2", "--framing", "length:2,offset=4,keep-header"
    )
    (tmp_path / "request").write_bytes(bytes.fromhex("beef00000006010300000001"))
    done = run("ask", listening(replay), "request", "-F", "length:2,offset=4,keep-header", "-n", "-q")
    assert done == (0, bytes.fromhex("beef00000005010302") + b"\x12\x34", "")


def test_a_stream_in_a_loop(start, tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.jsonl", {"from": "server", "text": "$GP,1\r\n"}, {"from": "server", "text": "$GP,2\r\n"}
    )
    replay = start("replay", path, LOCAL, "--loop", "--by-time")
    with dial(listening(replay)) as sock, sock.makefile("rb") as lines:
        assert [lines.readline() for _ in range(6)] == [b"$GP,1\r\n", b"$GP,2\r\n"] * 3


def test_the_client_in_a_loop(start, scale: str, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", {"from": "server", "text": "SCALE\r\n"})
    player = start("replay", path, scale, "--connect", "--loop", "--speed", "inf")
    player.wait_said(r"(?s)(everything as recorded.*){3}")
    player.process.send_signal(signal.SIGINT)
    assert player.done().status == 0


def test_killed_in_the_middle(start, run, scale: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    recorder = start("record", LOCAL, scale, path)
    with dial(listening(recorder)) as sock:
        assert sock.recv(100) == b"SCALE\r\n"
        sock.sendall(b"W?\n")
        assert sock.recv(100) == b"1 g\n"
        recorder.process.kill()
        recorder.process.wait()
    assert [each.get("text") for each in lines_of(path)[2:]] == ["SCALE\r\n", "W?\n", "1 g\n"]
    with path.open("ab") as file:
        file.write(b'{"at":1.5,"connection":1,"fr')
    replay = start("replay", path, LOCAL, "--once")
    assert use(listening(replay), b"W?\n") == [b"SCALE\r\n", b"1 g\n"]
    done = replay.done()
    assert done.status == 0
    assert f"{path}, line 6: the line is not complete and is left out" in done.err


def test_to_stdout(start, scale: str) -> None:
    recorder = start("record", LOCAL, scale, "-")
    assert use(listening(recorder), b"\x01\x02") == [b"SCALE\r\n", b"\x00\xff\x01\x02"]
    found = [json.loads(recorder.read_line()) for _ in range(7)]
    recorder.process.send_signal(signal.SIGINT)
    assert recorder.done().status == 0
    assert [each.get("hex") for each in found][3:5] == ["0102", "00ff0102"]
    assert [each.get("event") for each in found][5:] == ["end", "end"]


def test_without_a_target(start, run, tmp_path: Path) -> None:
    recorder = start("record", LOCAL, "-", "r.jsonl")
    assert "receiving only" in recorder.wait_said("listening at .*")[0]
    assert run("send", listening(recorder), "-F", "lines", stdin=b"one\ntwo\n").status == 0
    path = tmp_path / "r.jsonl"
    wait_until(lambda: '"end"' in path.read_text(), "everything is in the file")
    assert "".join(each.get("text", "") for each in lines_of(path)) == "one\ntwo\n"


def test_a_device_that_is_away(start, nobody: str) -> None:
    recorder = start("record", LOCAL, nobody, "-")
    with suppress(ConnectionResetError), dial(listening(recorder)) as sock:
        sock.recv(1)
    assert nobody in recorder.wait_said("cannot connect to .*nobody listens there")[0]


def test_a_file_that_cannot_grow_ends_it(scale: str, tmp_path: Path) -> None:
    """No recording is better than one with a gap that nobody sees."""
    command = f"ulimit -f 1; exec {' '.join(COMMAND)} record {LOCAL} {scale} r.jsonl"
    # Not measured: the data of coverage would not fit under this limit either.
    unmeasured = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_PROCESS")}
    with subprocess.Popen(
        ["bash", "-c", command], cwd=tmp_path, stderr=subprocess.PIPE, env=unmeasured
    ) as process:
        assert process.stderr is not None
        address = process.stderr.readline().decode().split()[3].rstrip(",")
        with suppress(ConnectionError), dial(address) as sock:
            while True:
                sock.sendall(b"x" * 1000)
                if not sock.recv(10000):
                    break
        said = process.stderr.read().decode()
        assert process.wait(TIMEOUT) == 1
    assert "the recording r.jsonl cannot be written: File too large" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (f"record {LOCAL} tcp://127.0.0.1:1 diary.txt", "line 1"),
        (f"record {LOCAL} tls://127.0.0.1:1 r.jsonl", "encrypted"),
        ("record tls://127.0.0.1:0 tcp://127.0.0.1:1 r.jsonl", "encrypted"),
        ("record tcp://0.0.0.0:0 tcp://127.0.0.1:1 r.jsonl", "--insecure"),
        (f"record {LOCAL} nonsense r.jsonl", "did you mean"),
        (f"record {LOCAL} tcp://127.0.0.1:1 no/such/folder", "No such file"),
        (f"replay no-such-file {LOCAL}", "no-such-file: No such file"),
        (f"replay diary.txt {LOCAL}", "line 1"),
        (f"replay empty.jsonl {LOCAL}", "no connections"),
        (f"replay good.jsonl {LOCAL} --speed 0", "above 0"),
        (f"replay good.jsonl {LOCAL} --framing linked", "plain framing"),
        (f"replay good.jsonl {LOCAL} --framing line", "did you mean lines"),
        (f"replay good.jsonl {LOCAL} --transaction 2", "such as 0:2"),
        (f"replay good.jsonl {LOCAL} --transaction 2:2", "two positions"),
        ("replay good.jsonl tcp://0.0.0.0:0", "--insecure"),
        ("replay good.jsonl tls://127.0.0.1:0", "encrypted"),
        ("replay good.jsonl tcp://127.0.0.1:1 --connect --once", "--connect is for the client"),
        ("replay good.jsonl nonsense --connect", "did you mean"),
    ],
)
def test_wrong_use(run: Callable[..., Any], tmp_path: Path, arguments: str, words: str) -> None:
    (tmp_path / "diary.txt").write_text("dear diary\n")
    write(tmp_path / "empty.jsonl")
    write(tmp_path / "good.jsonl", {"from": "server", "text": "a"})
    done = run(*arguments.split(" "))
    assert done.status == 2, done.err
    assert words in done.err
    assert done.out == b""
    assert "Traceback" not in done.err


def test_nobody_listens_for_the_client(run, tmp_path: Path, nobody: str) -> None:
    path = write(tmp_path / "r.jsonl", {"from": "client", "text": "a"})
    done = run("replay", path, nobody, "--connect")
    assert (done.status, done.out) == (1, b"")
    assert done.err == f"linkbox: cannot connect to {nobody}: nobody listens there\n"


@pytest.mark.parametrize("command", ["record", "replay"])
def test_an_address_in_use(start, run, tmp_path: Path, command: str) -> None:
    path = write(tmp_path / "r.jsonl", {"from": "client", "text": "a"})
    listener = start("listen", "p2m", LOCAL)
    arguments = (
        [listener.address, LOCAL.replace(":0", ":1"), "x.jsonl"]
        if command == "record"
        else [path, listener.address]
    )
    done = run(command, *arguments)
    assert done.status == 1
    assert "in use" in done.err

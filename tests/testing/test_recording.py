"""Recordings: what is written can be replayed, as the server and as the client; what differs is reported."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkbox import (
    AddressError,
    ClientAR,
    ClientP2P,
    ConnectFailed,
    DecodeError,
    LengthPrefixed,
    Lines,
    Linked,
    ListenFailed,
    ServerP2P,
    StateError,
    StoreError,
    Text,
    aio,
)
from linkbox.testing import Recording, _recorder
from linkbox.testing._recorder import Recorder
from linkbox.testing._serve import Replay
from linkbox.testing.recording import Line, RecordingWriter, data_line
from tests.threaded.helpers import dial, wait_until

HEADER: dict[str, Any] = {"linkbox": "recording", "version": 1}
MODBUS = LengthPrefixed(2, offset=4, keep_header=True)


def client(text: str, at: float = 0.0, connection: int = 1) -> dict[str, Any]:
    return {"at": at, "connection": connection, "from": "client", "text": text}


def server(text: str, at: float = 0.0, connection: int = 1) -> dict[str, Any]:
    return {"at": at, "connection": connection, "from": "server", "text": text}


def event(sender: str, what: str, at: float = 0.0, connection: int = 1) -> dict[str, Any]:
    return {"at": at, "connection": connection, "from": sender, "event": what}


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Recording]:
    """Writes a recording by hand."""

    def made(*lines: dict[str, Any], end: str = "\n") -> Recording:
        path = tmp_path / "made.jsonl"
        path.write_text("\n".join(json.dumps(each) for each in (HEADER, *lines)) + end)
        return Recording(path)

    return made


def read(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := sock.recv(size - len(found))):
        found += data
    return found


def read_all(sock: socket.socket) -> bytes:
    found = b""
    while data := sock.recv(65536):
        found += data
    return found


@contextmanager
def device(serve: Callable[[socket.socket], object], connections: int = 1) -> Iterator[str]:
    """A bare server that serves so many connections, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            for _ in range(connections):
                sock, _peer = listener.accept()
                sock.settimeout(10)
                with sock, suppress(ConnectionError):
                    serve(sock)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


# -- the file --------------------------------------------------------------------------------------------


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_all_bytes_survive_the_file(data: bytes) -> None:
    line = msgspec.json.encode(data_line(1.5, 3, "server", data))
    assert msgspec.json.decode(line, type=Line).data() == data
    assert b"\n" not in line
    text = line.decode()
    assert text.isprintable(), "what a device sends controls no terminal"


@pytest.mark.parametrize(
    ("data", "written"),
    [
        (b"*IDN?\r\n", {"text": "*IDN?\r\n"}),
        ("21.5 °C".encode(), {"text": "21.5 °C"}),
        (b"\x0bMSH|^~\\&|LAB\r\x1c\r", {"text": "\x0bMSH|^~\\&|LAB\r\x1c\r"}),
        (b"\0\1\0\0\0\6\1\3\0\0\0\2", {"hex": "000100000006010300000002"}),
        (b"\x06", {"hex": "06"}),
        (b"abcdefgh\x7f", {"hex": "61626364656667687f"}),
        ("abcdefgh\x9b".encode(), {"hex": "6162636465666768c29b"}),
        (b"\xff", {"hex": "ff"}),
    ],
)
def test_text_where_it_can_be_read_else_hexadecimal(data: bytes, written: dict[str, str]) -> None:
    line = json.loads(msgspec.json.encode(data_line(0.25, 1, "client", data)))
    assert line == {"at": 0.25, "connection": 1, "from": "client"} | written


def test_a_line_that_a_crash_has_cut_is_left_out(made) -> None:
    recording = made(client("a\n"), server("b\n"), end='\n{"at":1.2,"conn')
    assert recording.left_out == (4,)
    assert [step.data for step in recording.connections[0].steps] == [b"a\n", b"b\n"]


def test_a_recording_goes_on_behind_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(HEADER) + "\n" + json.dumps(client("a", 5.0)) + '\n{"at":1.2,"conn')
    writer = RecordingWriter(path, "tcp://127.0.0.1:1", "-")
    assert writer.connections == 1
    writer.write(data_line(0.5, 2, "client", b"c"))
    writer.close()
    recording = Recording(path)
    assert recording.left_out == (3,)
    assert [each.number for each in recording.connections] == [1, 2]
    assert [each.steps[0].at for each in recording.connections] == [5.0, 5.5], "its times follow"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("not json\n", "line 1"),
        ('{"at":0}\n', "the first line must be"),
        ('{"linkbox":"recording","version":2}\n', "newer"),
        ('{"linkbox":"recording","version":1}\n{"at":0\n{"at":0,"from":"client","text":"a"}\n', "line 2"),
        ('{"linkbox":"recording","version":1}\n{"at":0,"from":"client"\n', "line 2"),
        ('{"linkbox":"recording","version":1}\n{"from":"client","text":"a","hex":"00"}\n', "either text"),
        ('{"linkbox":"recording","version":1}\n{"from":"client","hex":"0"}\n', "line 2"),
        ('{"linkbox":"recording","version":1}\n{"text":"a"}\n', "from is missing"),
        ('{"linkbox":"recording","version":1}\n{"from":"dog","text":"a"}\n', "line 2"),
        ('{"linkbox":"recording","version":1}\n{"event":"open"}\n{"event":"open"}\n', "opened twice"),
    ],
)
def test_a_file_that_is_no_recording(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    with pytest.raises(DecodeError, match=words):
        Recording(path)


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="files are locked on POSIX only")
    path = tmp_path / "r.jsonl"
    first = RecordingWriter(path, "a", "b")
    with pytest.raises(StoreError, match="another program"):
        RecordingWriter(path, "a", "b")
    first.close()
    RecordingWriter(path, "a", "b").close()


def test_another_file_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "diary.txt"
    path.write_text("dear diary\n")
    with pytest.raises(DecodeError):
        RecordingWriter(path, "a", "b")
    assert path.read_text() == "dear diary\n"


def test_a_recording_is_private(tmp_path: Path) -> None:
    RecordingWriter(tmp_path / "r.jsonl", "a", "b").close()
    assert (tmp_path / "r.jsonl").stat().st_mode & 0o077 == 0


# -- as the server ---------------------------------------------------------------------------------------


def test_a_conversation_in_its_order_in_any_pieces(made) -> None:
    recording = made(
        server("hello\r\n"), client("*IDN?\n"), server("ACME\n"), client("VOLT 1"), client("2\n"),
        client("VOLT?\n"), server("1"), server("2\n"),
    )  # fmt: skip
    for size in (1, 2, 3, 100):
        with recording.serve() as replay, dial(replay.address) as sock:
            assert read(sock, 7) == b"hello\r\n"
            sent = b"*IDN?\nVOLT 12\nVOLT?\n"
            for at in range(0, len(sent), size):
                sock.sendall(sent[at : at + size])
            assert read(sock, 8) == b"ACME\n12\n"
            replay.check()


def test_requests_in_another_order_and_again(made) -> None:
    recording = made(
        client("A?\n"), server("a1\n"), client("B?\n"), server("b1\n"), client("A?\n"), server("a2\n")
    )
    with recording.serve() as replay, dial(replay.address) as sock:
        for request, response in zip("BAAB", ("b1", "a2", "a1", "b1"), strict=True):
            sock.sendall(f"{request}?\n".encode())
            assert read(sock, 3).decode() == f"{response}\n", "the next response that was recorded for it"
        replay.check()


def test_what_was_not_recorded_is_reported_and_the_rest_works(made) -> None:
    recording = made(client("A?\n"), server("a\n"), client("B?\n"), server("b\n"))
    seen: list[bytes] = []
    with recording.serve() as replay, dial(replay.address) as sock:
        replay.on_unknown = seen.append
        sock.sendall(b"\x1bX?\n")
        wait_until(lambda: replay.unknown, "the request is seen")
        sock.sendall(b"B?\n")
        assert read(sock, 2) == b"b\n"
        assert replay.differences() == [
            r"request b'\x1bX?\n' was not recorded",
            r"request b'A?\n' of connection 1 was not sent",
        ]
        with pytest.raises(AssertionError, match="was not recorded"):
            replay.check()
    assert seen == [b"\x1bX?\n"] == list(replay.unknown)


def test_what_was_not_used_is_an_assertion(made) -> None:
    recording = made(
        *(each for n in "12" for each in (client("A?\n"), server(n))), client("B\n", connection=2)
    )
    with recording.serve() as replay, dial(replay.address) as sock:
        sock.sendall(b"A?\n")
        assert read(sock, 1) == b"1"
        with pytest.raises(AssertionError, match=r"not sent, 1 of 2 times; connection 2 of the recording"):
            replay.check(timeout=0.01)


def test_check_waits_for_a_command_without_a_response(made) -> None:
    with made(client("RST\n")).serve() as replay, dial(replay.address) as sock:
        sock.sendall(b"RST\n")
        replay.check(timeout=10)


def test_a_modbus_client_with_other_transaction_numbers(tmp_path: Path) -> None:
    def pdu(transaction: int, body: bytes) -> bytes:
        return transaction.to_bytes(2, "big") + b"\0\0" + len(body).to_bytes(2, "big") + body

    path = tmp_path / "modbus.jsonl"
    writer = RecordingWriter(path, "a", "b")
    registers = [(b"\1\3\0\0\0\2", b"\1\3\4abcd"), (b"\1\3\0\7\0\1", b"\1\3\2xy")]
    for number, (asked, answered) in enumerate(registers):
        writer.write(data_line(number, 1, "client", pdu(number, asked)))
        writer.write(data_line(number, 1, "server", pdu(number, answered)))
    writer.close()
    recording = Recording(path)
    for framing in (None, MODBUS):
        with (
            recording.serve(transaction=(0, 2), framing=framing) as replay,
            ClientP2P(replay.address, framing=MODBUS) as plc,
        ):
            plc.send(pdu(4711, b"\1\3\0\7\0\1"))
            assert plc.data_get(timeout=10) == pdu(4711, b"\1\3\2xy")
            plc.send(pdu(4712, b"\1\3\0\0\0\2"))
            assert plc.data_get(timeout=10) == pdu(4712, b"\1\3\4abcd")
            replay.check()
    with recording.serve() as replay, dial(replay.address) as sock:
        sock.sendall(pdu(4711, b"\1\3\0\7\0\1"))
        wait_until(lambda: replay.unknown, "without transaction=, another number is another request")


def test_with_a_framing_requests_are_separated_by_it(made) -> None:
    recording = made(client("SET 1\nGET?\n"), server("1\n"), client("A\n"), server("a\n"))
    with recording.serve(framing=Lines()) as replay, dial(replay.address) as sock:
        sock.sendall(b"A\nFOO\nGET?\nSET 1\n")
        assert read(sock, 4) == b"a\n1\n"
        wait_until(lambda: replay.unknown == (b"FOO",), "only this one is unknown")
        with pytest.raises(AssertionError, match="FOO"):
            replay.check()
        assert replay.unused() == []


def test_a_recording_in_another_framing(made) -> None:
    recording = made({"from": "client", "hex": "7fffffffffffffff00"})
    with pytest.raises(ValueError, match="does not have this framing"):
        recording.serve(framing=LengthPrefixed(8))


def test_a_client_in_another_framing_is_closed(made) -> None:
    recording = made({"from": "client", "hex": "0000000161"})
    with recording.serve(framing=LengthPrefixed()) as replay, dial(replay.address) as sock:
        sock.sendall(b"\xff" * 8)
        assert read_all(sock) == b""
        assert replay.unknown == (b"\xff" * 8,)


def test_each_ask_on_a_connection_of_its_own(made) -> None:
    lines = []
    for number, word in enumerate("ABC", 1):
        lines += [client(f"{word}?\n", number, number), server(f"{word.lower()}\n", number, number)]
    recording = made(*lines)
    with (
        recording.serve() as replay,
        ClientAR(replay.address, Text, framing=Lines()) as instrument,
    ):
        assert [instrument.ask(f"{word}?") for word in "CAB"] == ["c", "a", "b"]
        replay.check()


def test_an_asyncio_client(made) -> None:
    recording = made(client("A?\n"), server("a\n"), client("B?\n"), server("b\n"))

    async def use(replay: Replay) -> None:
        async with aio.ClientAR(replay.address, Text, framing=Lines(), keep_alive=True) as instrument:
            assert [await instrument.ask("A?"), await instrument.ask("B?")] == ["a", "b"]
        await asyncio.to_thread(replay.check)

    with recording.serve() as replay:
        asyncio.run(use(replay))


def test_the_end_as_recorded(made) -> None:
    recording = made(client("A"), server("a"), event("client", "end"), server("rest"), event("server", "end"))
    with recording.serve() as replay, dial(replay.address) as sock:
        sock.sendall(b"A")
        assert read(sock, 1) == b"a"
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"rest"
        assert replay.finished.wait(10)


def test_a_server_that_closes_first(made) -> None:
    with made(server("busy\n"), event("server", "end")).serve() as replay, dial(replay.address) as sock:
        assert read_all(sock) == b"busy\n"


@pytest.mark.parametrize("line", [event("server", "reset"), {"event": "unreachable"}])
def test_a_reset_as_recorded(made, line: dict[str, Any]) -> None:
    recording = made({"event": "open"}, line)
    with recording.serve() as replay, pytest.raises(ConnectionResetError), dial(replay.address) as sock:
        sock.recv(1)


def test_a_client_that_resets_harms_nobody(made) -> None:
    with made(client("A"), server("a")).serve() as replay:
        for _ in range(3):
            sock = dial(replay.address)
            sock.sendall(b"A")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        with dial(replay.address) as sock:
            sock.sendall(b"A")
            assert read(sock, 1) == b"a"


def test_responses_take_their_time(made) -> None:
    recording = made(client("A", 10.0), server("a", 110.0))
    with recording.serve(speed=500) as replay, dial(replay.address) as sock:
        began = monotonic()
        sock.sendall(b"A")
        assert read(sock, 1) == b"a"
        assert monotonic() - began >= 0.2


def test_an_early_request_does_not_wait(made) -> None:
    hour = 3600.0
    recording = made(
        server("hello", hour),
        client("A", 2 * hour),
        server("a1", 2 * hour),
        server("a2", 3 * hour),
        client("B", 4 * hour),
    )
    with recording.serve(speed=1) as replay, dial(replay.address) as sock:
        sock.sendall(b"A")
        assert read(sock, 7) == b"helloa1", "in order, and nothing is left out"
        sock.sendall(b"B")
        assert read(sock, 2) == b"a2"


def test_a_stream_again_and_again(made) -> None:
    recording = made(server("$GPGGA,1\r\n"), server("$GPGGA,2\r\n"), event("server", "end"))
    with recording.serve(loop=True) as replay, dial(replay.address) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert read(sock, 200) == b"$GPGGA,1\r\n$GPGGA,2\r\n" * 10
    with recording.serve() as replay, dial(replay.address) as sock:
        assert read_all(sock) == b"$GPGGA,1\r\n$GPGGA,2\r\n"


def test_by_time_whatever_the_client_sends(made) -> None:
    recording = made(client("A"), server("a"), client("B"), server("b"))
    with recording.serve(by_time=True) as replay, dial(replay.address) as sock:
        sock.sendall(b"something else")
        assert read(sock, 2) == b"ab"
        replay.check()


def test_more_connections_than_recorded(made) -> None:
    recording = made(server("1", connection=1), server("2", connection=2))
    with recording.serve() as replay:
        found = []
        for _ in range(5):
            with dial(replay.address) as sock:
                found.append(read(sock, 1))
        assert found == [b"1", b"2", b"1", b"2", b"1"]
        assert replay.connections == 5


def test_serving_at_a_unix_socket(made, tmp_path: Path) -> None:
    recording = made(client("A"), server("a"))
    address = f"unix://{tmp_path}/x.sock"
    with recording.serve(address) as replay, socket.socket(socket.AF_UNIX) as sock:
        assert replay.address == address
        sock.connect(str(tmp_path / "x.sock"))
        sock.sendall(b"A")
        assert sock.recv(10) == b"a"
        assert recording.play(address) == []


def test_wrong_arguments(made, tmp_path: Path) -> None:
    recording = made(client("A"), server("a"))
    for options, words in (
        ({"speed": 0}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"framing": Linked()}, "plain framing"),
        ({"transaction": (2, 2)}, "transaction"),
    ):
        with pytest.raises(ValueError, match=words):
            recording.serve(**options)
    with pytest.raises(AddressError, match="encrypted"):
        recording.serve("tls://127.0.0.1:0")
    with pytest.raises(AddressError, match="needs sockets"):
        recording.play("memory://x")
    with pytest.raises(ValueError, match="timeout"):
        recording.play("tcp://127.0.0.1:1", timeout=0)
    with pytest.raises(ValueError, match="no connections"):
        made().serve()
    with recording.serve() as replay:
        with pytest.raises(StateError):
            replay.start()
        with pytest.raises(ListenFailed, match="in use"):
            recording.serve(replay.address).start()
    replay.stop()


# -- as the client ---------------------------------------------------------------------------------------


def echo_upper(sock: socket.socket) -> None:
    while data := sock.recv(100):
        sock.sendall(data.upper())


def test_playing_what_is_as_recorded(made) -> None:
    ends = (event("client", "end"), event("server", "end"))
    recording = made(client("a"), server("A"), client("b"), server("B"), *ends)
    with device(echo_upper) as address:
        assert recording.play(address) == []


def test_playing_by_time(made) -> None:
    recording = made(client("a"), client("b", 100), server("A", 100), server("B", 100))
    with device(echo_upper) as address:
        began = monotonic()
        assert recording.play(address, speed=500, by_time=True) == []
        assert monotonic() - began >= 0.2


def answer_once(sock: socket.socket) -> None:
    sock.sendall(sock.recv(1).upper())


MUCH = "abcdefghijklmnopqrst\n" * 9


@pytest.mark.parametrize(
    ("serve", "lines", "patience", "found"),
    [
        (echo_upper, [client("a"), server("B")], 10, r"the response to b'a' is b'A' instead of b'B'"),
        (answer_once, [client("a"), server("AA")], 10, r"the response to b'a' is b'A' instead of b'AA'"),
        (answer_once, [client("a"), server("AA")], 10, r"the server closed the connection, after the resp"),
        (echo_upper, [server("hi"), client("a")], 0.1, r"what the server sends is missing: b'hi'"),
        (echo_upper, [client("a"), event("server", "end")], 0.1, r"the server did not close the connection"),
        (echo_upper, [client(MUCH), server(MUCH.upper()[:168] + "X" * 21)], 10, r"from byte 168"),
    ],
)
def test_playing_shows_what_differs(
    made, serve: Callable[[socket.socket], None], lines: list[dict[str, Any]], patience: float, found: str
) -> None:
    with device(serve) as address:
        differences = made(*lines).play(address, timeout=patience)
    assert any(each.startswith("connection 1: ") and found in each for each in differences), differences


def test_playing_with_a_framing_waits_for_whole_messages(made) -> None:
    recording = made(client("a?\n"), server("21.55\n"), client("b?\n"), server("b\n"))

    def answers(sock: socket.socket) -> None:
        read(sock, 3)
        sock.sendall(b"9")
        sock.sendall(b".5\n")
        read(sock, 3)
        sock.sendall(b"b\n")

    with device(answers) as address:
        differences = recording.play(address, framing=Lines())
    assert differences == [r"connection 1: the response to b'a?\n' is b'9.5\n' instead of b'21.55\n'"]


def test_playing_to_a_server_that_closes(made) -> None:
    recording = made(client("a"), server("A"), client("b"), server("B"))
    with device(answer_once) as address:
        differences = recording.play(address, timeout=10)
    assert any("is missing" in each or "broke" in each for each in differences), differences


def test_playing_connections_one_after_the_other(made) -> None:
    lines = []
    for number in (1, 2, 3):
        lines += [{"connection": number, "event": "open"}]
        lines += [client("a", number, number), server("A", number, number)]
        lines += [event("client", "end", number, number), event("server", "end", number, number)]
    with device(echo_upper, connections=3) as address:
        assert made(*lines).play(address) == []


def test_playing_to_nobody(made, free_port: int) -> None:
    with pytest.raises(ConnectFailed, match="nobody listens"):
        made(client("a"), client("b", connection=2)).play(f"tcp://127.0.0.1:{free_port}")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# -- recording -------------------------------------------------------------------------------------------


@contextmanager
def recorder(path: Path, target: str | None) -> Iterator[Recorder]:
    writer = RecordingWriter(path, "tcp://127.0.0.1:0", target or "-")
    made = Recorder("tcp://127.0.0.1:0", target, writer)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        writer.close()


def lines_of(path: Path) -> list[dict[str, Any]]:
    """What is recorded so far, without the times."""
    found = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    return [{name: each[name] for name in each if name not in ("at", "peer")} for each in found]


def test_recorded_and_replayed(tmp_path: Path) -> None:
    """A conversation like that of a database: text and binary, with a half-close at the end."""
    path = tmp_path / "r.jsonl"
    dialogue = [
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        (b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n", b"$3\r\n\0\xff\x1b\r\n"),
    ]

    def database(sock: socket.socket) -> None:
        for request, response in dialogue:
            assert read(sock, len(request)) == request
            sock.sendall(response)
        assert sock.recv(1) == b""
        sock.sendall(b"bye")

    def use(address: str) -> None:
        with dial(address) as sock:
            for request, response in dialogue:
                sock.sendall(request)
                assert read(sock, len(response)) == response
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"bye"

    with device(database) as address, recorder(path, address) as made:
        use(made.address)
        wait_until(lambda: path.read_text().count('"end"') == 2, "both ends are recorded")
    assert made.passed == {"client": 34, "server": 19}
    with Recording(path).serve() as replay:
        use(replay.address)
        replay.check()
    with device(database) as address:
        assert Recording(path).play(address) == []


def test_a_reset_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"

    def rude(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with device(rude) as address, recorder(path, address) as made, dial(made.address) as sock:
        sock.sendall(b"a")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    ends = [each for each in lines_of(path) if each.get("event") in ("end", "reset")]
    assert ends == [{"connection": 1, "from": "server", "event": "reset"}]


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.patches
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux shows them")
def test_a_device_that_does_not_notice_the_end_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clients close, and it neither sends nor closes."""
    monkeypatch.setattr(_recorder, "HALF_CLOSED", 0.05)
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with recorder(tmp_path / "r.jsonl", target) as made:
            before = descriptors()
            for _ in range(5):
                with dial(made.address) as sock:
                    sock.sendall(b"x")
                held.append(listener.accept()[0])
            wait_until(lambda: descriptors() <= before + len(held), "only those of the device are open")
    for each in held:
        each.close()


@pytest.mark.patches
def test_a_half_closed_exchange_goes_on_while_it_flows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[object] = []
    check = _recorder._Connection._check

    def noted(self: Any, before: Any) -> None:
        checks.append(before)
        check(self, before)

    monkeypatch.setattr(_recorder._Connection, "_check", noted)
    monkeypatch.setattr(_recorder, "HALF_CLOSED", 0.2)

    def slow(sock: socket.socket) -> None:
        assert sock.recv(1) == b""
        while len(checks) < 4:  # the first one begins the time
            sock.sendall(b"x")
            time.sleep(0.001)
        sock.sendall(b"end")

    path = tmp_path / "r.jsonl"
    with device(slow) as address, recorder(path, address) as made, dial(made.address) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).endswith(b"xend")


def test_a_client_that_goes_while_the_device_floods(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both sides are closed, without a line in the log for each piece that finds nobody."""
    ended = threading.Semaphore(0)

    def flood(sock: socket.socket) -> None:
        with suppress(OSError):
            while True:
                sock.sendall(bytes(65536))
        ended.release()

    with device(flood, 5) as address, recorder(tmp_path / "r.jsonl", address) as made:
        for is_reset in (True, False, True, False, True):
            with dial(made.address) as sock:
                sock.recv(100)
                if is_reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                else:
                    sock.shutdown(socket.SHUT_WR)
            assert ended.acquire(timeout=10)
    assert not caplog.records


def test_an_unreachable_device_is_recorded(tmp_path: Path, free_port: int) -> None:
    path = tmp_path / "r.jsonl"
    seen: list[ConnectFailed] = []
    with recorder(path, f"tcp://127.0.0.1:{free_port}") as made:
        made.on_unreachable = seen.append
        with pytest.raises(ConnectionResetError), dial(made.address) as sock:
            sock.recv(1)
    assert "nobody listens there" in str(seen[0])
    opened, failed = lines_of(path)
    assert (opened["event"], failed["event"], failed["error"]) == ("open", "unreachable", str(seen[0]))


def test_recording_without_a_target_receives_only(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with recorder(path, None) as made:
        for number in range(3):
            with dial(made.address) as sock:
                sock.sendall(b"reading %d" % number)
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
    texts = [each["text"] for each in lines_of(path) if "text" in each]
    assert texts == ["reading 0", "reading 1", "reading 2"]


def test_much_at_once_arrives_and_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    body = bytes(range(256)) * 8192

    def echo(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            sock.sendall(data)

    with device(echo) as address, recorder(path, address) as made, dial(made.address) as sock:
        sender = threading.Thread(target=sock.sendall, args=(body,))
        sender.start()
        assert read(sock, len(body)) == body
        sender.join()
    steps = Recording(path).connections[0].steps
    for who in ("client", "server"):
        assert b"".join(step.data for step in steps if step.sender == who) == body


def test_what_is_ours_cannot_be_replayed(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with (
        ServerP2P("tcp://127.0.0.1:0") as real,
        recorder(path, real.address) as made,
        ClientP2P(made.address) as peer,
    ):
        peer.send(b"hello")
        assert real.data_get(timeout=10) == b"hello"
    with pytest.raises(ValueError, match="own protocol"):
        Recording(path).serve()

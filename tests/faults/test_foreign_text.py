"""Text of a peer, wherever it is shown: it cannot forge a line of the log, or write to a terminal.

Names, patterns, formats, reasons and the texts of exceptions arrive from peers. They are shown in log lines,
tracebacks, errors, events and on the stderr of the command line: escaped, and cut where they are long.
"""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from linkbox import AnswerError, EventKind, Json, Lines, LinkboxError, Typed
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from tests.faults.bare import Bare, HostileServer, as_json, data, opening
from tests.faults.place import AT_ONCE, PATIENCE, Place
from tests.threaded.helpers import Ear, Process, wait_until

FORGED = "x\r\n2026-01-01 CRITICAL forged"
EVIL = f"{FORGED}\x1b[31m\x9b31m\x00\u202e\u2028\u2029\u200f\ufeff"
"""A new line, colours with ESC and with CSI, NUL, the direction of text, invisible characters."""
LONG = EVIL + "y" * 20_000
LONGISH = EVIL + "y" * 3000
"""The longest that fits into a HELLO."""
MOST = 2500
"""More than any line of ours has."""


def is_safe(text: str) -> bool:
    return text.isprintable() and len(text) < MOST


class Log(logging.Handler):
    """Keeps what a formatter makes of each record of linkbox."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter().format(record))

    def has(self, text: str) -> bool:
        return any(text in each for each in self.texts)


@pytest.fixture
def log() -> Iterator[Log]:
    """Afterwards: each line is safe. Only tracebacks have more than one, and none of them is forged."""
    handler = Log()
    logger = logging.getLogger("linkbox")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
    for text in handler.texts:
        for line in text.split("\n"):
            assert is_safe(line), line
            assert not line.startswith("2026")


@pytest.fixture
def transport() -> str:
    """The text is above the transport."""
    return "tcp"


# --- a hostile client ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["pattern", "format"])
def test_a_client_with_a_hostile_pattern_or_format(place: Place, log: Log, field: str) -> None:
    with place.serving() as server, Bare(place, server.address) as bare:
        bare.say(opening(**{field: LONGISH}))
        assert is_safe(bare.refusal().reason)
        wait_until(lambda: log.has("forged"), "it is in the log")


def test_a_client_with_a_hostile_name(place: Place, log: Log) -> None:
    name = EVIL + "y" * 200
    with place.serving(format=Json) as server, Bare(place, server.address) as bare:
        ear = Ear()
        server.add_callback(ear, *EventKind)
        bare.meet(format="json", name=name)
        peer = place.peer(server, name)
        bare.say(data(b"no json"))
        bare.say(data(b'"' + b"\x1b[31m" * 1000 + b'"'))
        wait_until(lambda: server.statistics().rejected == 2)
        bare.reset()
        ear.wait(kind=EventKind.DISCONNECTED)
        for event in ear.events:
            assert is_safe(repr(event))
            assert event.error is None or is_safe(str(event.error))
        assert is_safe(str(peer))
        assert is_safe(repr(peer))
        assert peer.name == name
        wait_until(lambda: log.has("forged"), "it is in the log")


def test_a_hostile_name_in_accept(place: Place, log: Log, may_log_errors: None) -> None:
    shown: list[str] = []

    def accept(info: Any) -> bool:
        shown.append(repr(info))
        raise ValueError(f"who is {info.name}?")

    with place.server("P2P", accept=accept) as server, Bare(place, server.address) as bare:
        bare.say(opening(name=EVIL))
        bare.refusal()
        assert is_safe(shown[0])
        wait_until(lambda: log.has("who is x\\r\\n"), "the traceback is in the log")


def test_a_hostile_name_without_a_secret(place: Place, log: Log, may_log_errors: None) -> None:
    def lookup(name: str) -> bytes:
        raise LookupError(name)

    with place.server("P2P", secret=lookup) as server, Bare(place, server.address) as bare:
        bare.say(opening(name=EVIL))
        bare.until(frames.CHALLENGE)
        proof = as_json({"mac": "00" * 32, "nonce": "00" * 32})
        bare.say(frames.frame(frames.PROOF, proof))
        bare.refusal()
        wait_until(lambda: log.has("LookupError"), "it is in the log")


def test_the_exception_of_a_handler_has_text_of_a_peer(place: Place, log: Log, may_log_errors: None) -> None:
    """It is in the server's log with its traceback, and in the client's error."""

    def handle(request: Any) -> bytes:
        try:
            raise KeyError(request.data.decode())
        except KeyError as error:
            raise ValueError(f"no such city: {request.data.decode()}") from error

    with place.server("AR", handler=handle) as server, place.client("AR", server.address) as client:
        with pytest.raises(AnswerError) as caught:
            client.ask(LONG.encode(), timeout=PATIENCE)
        assert is_safe(str(caught.value))
        assert caught.value.text.startswith(f"no such city: {EVIL}")
    assert log.has("ValueError: no such city: x\\r\\n2026")
    assert log.has("KeyError: 'x\\r\\n2026")
    assert log.has("The above exception was the direct cause")


def test_the_exception_of_a_callback_has_text_of_a_peer(place: Place, log: Log, may_log_errors: None) -> None:
    def fail(event: Any) -> None:
        raise RuntimeError(event.peer.name)

    with place.server("P2P") as server, Bare(place, server.address) as bare:
        server.add_callback(fail, EventKind.CONNECTED)
        bare.meet(name=EVIL)
        wait_until(lambda: log.has("RuntimeError: x\\r\\n"), "it is in the log")


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    number: int = 0


def test_the_name_of_an_unknown_field(place: Place, log: Log) -> None:
    """The error that the decoder raises has it as it is; a traceback of ours does not show that one."""
    with pytest.raises(LinkboxError) as caught:
        Typed(Strict).decode(as_json({EVIL: 1}))
    shown = io.StringIO()
    traceback.print_exception(caught.value, file=shown)
    assert "forged" in shown.getvalue()
    assert all(is_safe(line) for line in shown.getvalue().split("\n"))


def test_bytes_that_a_plain_framing_does_not_allow(place: Place, log: Log) -> None:
    with place.server("P2P", Json, framing=Lines(), max_peers=5) as server:
        ear = Ear()
        server.add_callback(ear, EventKind.ERROR, EventKind.DISCONNECTED)
        sock = place.transport.dial(server.address)
        sock.sendall(EVIL.encode() + b"\n" + b"\x1b[31m" * 5000 + b"\n")
        assert is_safe(str(ear.wait(kind=EventKind.ERROR).error))
        sock.close()


# --- a hostile server -----------------------------------------------------------------------------------


def _welcomes(bare: Bare) -> None:
    bare.admit(name=EVIL)


@pytest.mark.parametrize("code", ["denied", "authentication", "disconnected", EVIL])
def test_a_server_that_refuses_with_hostile_text(place: Place, log: Log, code: str) -> None:
    def says(bare: Bare) -> None:
        bare.until(frames.HELLO)
        bare.say(frames.preface(), handshake.refuse(code, EVIL + "y" * 1000))

    with HostileServer(says) as server:
        client = place.client("P2P", server.address, reconnect=None, connect_timeout=PATIENCE)
        with pytest.raises(LinkboxError) as caught:
            client.start()
        assert "forged" in str(caught.value)
        assert is_safe(str(caught.value))


def test_a_server_that_rejects_with_hostile_text(place: Place, log: Log) -> None:
    def says(bare: Bare) -> None:
        _welcomes(bare)
        bare.until(frames.DATA)
        bare.say(frames.encode_reject(1, EVIL, LONG), frames.encode_ack(1, 1, 1 << 30, 1 << 30))

    with HostileServer(says) as server:
        client = place.client("P2P", server.address, reconnect=None).start()
        receipt = client.send(b"x")
        with pytest.raises(LinkboxError) as caught:
            receipt.wait(timeout=PATIENCE)
        assert "forged" in str(caught.value)
        assert is_safe(str(caught.value))
        assert all(is_safe(str(peer)) for peer in client.peers())
        client.stop(0)


def test_a_server_that_fails_a_request_with_hostile_text(place: Place, log: Log) -> None:
    def says(bare: Bare) -> None:
        _welcomes(bare)
        bare.until(frames.ASK)
        bare.say(frames.encode_fail(1, EVIL, LONG))

    with HostileServer(says) as server:
        client = place.client("AR", server.address, keep_alive=True, reconnect=AT_ONCE)
        with pytest.raises(LinkboxError) as caught:
            client.ask(b"x", timeout=PATIENCE)
        assert is_safe(str(caught.value))
        client.stop(0)


# --- the command line -----------------------------------------------------------------------------------


LISTEN = """
import runpy, sys
sys.argv = ["linkbox", "listen", *sys.argv[1:]]
runpy.run_module("linkbox.cli", run_name="__main__")
"""


def test_linkbox_listen_shows_hostile_peers(log: Log) -> None:
    pytest.importorskip("typer")
    place = Place("threaded")
    with Process(LISTEN, "p2p", "tcp://127.0.0.1:0", "--format", "json", "--max-peers", "5") as process:
        found = wait_until(lambda: "listening at" in process.stderr and process.stderr)
        address = found.split()[found.split().index("at") + 1]
        for more in ({"pattern": LONGISH}, {"format": LONGISH}):
            with Bare(place, address) as bare:
                bare.say(opening(**more)).ended()
        with Bare(place, address) as bare:
            bare.meet(format="json", name=EVIL)
            bare.say(data(b"\x1b[31m no json"))
            bare.until(frames.REJECT)
        with Bare(place, address) as bare:
            bare.say(f"{EVIL}".encode()).ended()
        wait_until(lambda: process.stderr.count("disconnected") >= 1)
        process.popen.send_signal(2)
        process.wait()
        lines = process.stderr.rstrip("\n").split("\n")
    assert sum("forged" in line for line in lines) >= 4
    for line in lines:
        assert line.startswith("linkbox: "), line
        assert is_safe(line), line

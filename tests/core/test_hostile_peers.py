"""What fuzzing has found: peers whose frames made errors escape, or memory grow. Each was one once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from linkbox.core.incoming_asks import OVERHEAD
from linkbox.core.link import State
from linkbox.core.patterns import AR
from linkbox.core.send_window import EARLY_BYTES
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.core.wire.framings import LengthPrefixed, Lines, Raw
from linkbox.errors import ProtocolViolation, TooLarge
from linkbox.limits import Limits
from tests.core.stored import StoredWire
from tests.core.wire import Probe, Wire, decode_message, greeting, probe_client, probe_server


def frame_of(kind: int, probe: Probe) -> list[bytes]:
    """The payloads of that kind which were heard since the last look."""
    return [payload for each, payload in probe.heard() if each == kind]


def violation(probe: Probe) -> str:
    assert probe.is_closed
    assert isinstance(probe.link.error, ProtocolViolation)
    return str(probe.link.error)


# --- the handshake --------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["pattern", "format", "name"])
@pytest.mark.parametrize("character", ["x", "\1", '"', "\u20ac", "\U0001f600"])
def test_a_refusal_fits_its_frame_whatever_was_asked_for(field: str, character: str) -> None:
    wire = Wire()
    probe = probe_server(wire, greets=False)
    size = 250 if field == "name" else 3700 // (len(msgspec.json.encode(character)) - 2)
    probe.say(greeting(wire, **({"pattern": "?"} | {field: character * size})))
    [no] = frame_of(frames.REFUSE, probe)
    assert isinstance(decode_message(frames.REFUSE, no), handshake.Refuse)


def test_a_welcome_and_the_next_hello_fit_their_frames() -> None:
    most = (1 << 64) - 1
    wire = Wire()
    probe = probe_server(wire, name="\1" * 256, epoch=most, credit=(most, most), message=most)
    assert probe.kinds() == ["WELCOME"]
    wire = Wire()
    probe = probe_client(wire, name="\1" * 256, incarnation="\1" * 100, born=most, credit=(most, most))
    session = wire.client.conversation
    assert session is not None and session.is_up
    wire.client.lost(probe.link, OSError("cut"), wire.now)
    wire.is_reachable = False
    session.timer.due_at = wire.now
    wire.client.sessions.session_due(session, wire.now)
    probe = probe_client(wire, session, greets=False)
    probe.say(frames.preface())  # nothing of the session was acknowledged: HELLO waits for this
    assert probe.kinds() == ["HELLO"]


def test_a_long_reason_for_disconnecting_is_cut() -> None:
    wire = Wire()
    session = wire.connect()
    wire.server.disconnect(wire.other(session), "\1" * 5000, wire.now)
    wire.run()
    assert "disconnected this end" in str(session.error)


def test_a_second_hello_while_the_proof_is_due() -> None:
    wire = Wire(server_secrets=lambda name: [b"secret"])
    probe = probe_server(wire)
    assert probe.kinds() == ["CHALLENGE"]
    probe.say(greeting(wire)[8:])
    assert "a HELLO that is out of place" in str(probe.link.error)
    assert probe.kinds() == ["REFUSE"]


def test_what_follows_a_refused_hello_does_not_destroy_the_refusal() -> None:
    wire = Wire()
    probe = probe_server(wire, greets=False)
    probe.say(greeting(wire, pattern="?") + bytes(frames.MAX_EARLY + 100))
    assert probe.link.state is State.CLOSING  # it drains
    assert probe.kinds() == ["REFUSE"]


def test_only_a_server_goes_away() -> None:
    probe = probe_server(Wire())
    probe.say(frames.encode_number(frames.GOAWAY, 0))
    assert "a GOAWAY that is out of place" in violation(probe)


# --- messages in pieces ---------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [100, 10])
def test_more_of_a_message_than_was_announced(limit: int) -> None:
    probe = probe_server(Wire(limits=Limits(message=limit)))
    probe.say(frames.encode_first_part(20, b"x" * 20), frames.frame(frames.PART, b"y"))
    assert "a message of 20 bytes was announced, and 21 were sent" in violation(probe)


def test_less_of_a_message_than_was_announced() -> None:
    probe = probe_server(Wire())
    probe.say(frames.encode_first_part(20, b"x"), frames.frame(frames.DATA, b"y"))
    assert "a message of 20 bytes was announced, and 2 were sent" in violation(probe)


def test_tiny_pieces_cost_little_more_than_their_bytes() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.say(frames.encode_first_part(1000, b""), frames.frame(frames.PART) * 500)
    for _ in range(999):
        probe.say(frames.frame(frames.PART, b"x"))
    [session] = wire.server.sessions.by_id.values()
    assert session.receiving.assembly is not None
    assert len(session.receiving.assembly._pieces) == 1
    probe.say(frames.frame(frames.DATA, b"x"))
    assert wire.server.mailbox.take_all() == [b"x" * 1000]


@pytest.mark.parametrize("overflow", ["block", "drop_newest"])
@pytest.mark.parametrize("is_parted", [False, True])
def test_what_waits_to_be_decoded_gets_no_credit(overflow: str, is_parted: bool) -> None:
    wire = Wire(limits=Limits(mailbox_bytes=100_000, mailbox_messages=5000), overflow=overflow)
    wire.decodes = False  # a format of the application's, and slow
    probe = probe_server(wire)
    message = frames.frame(frames.DATA, bytes(1000))
    if is_parted:
        message = frames.encode_first_part(1000, bytes(500)) + frames.frame(frames.DATA, bytes(500))
    for _ in range(102):
        probe.say(message, frames.frame(frames.ACK_NOW))
    assert "beyond its credit" in violation(probe)
    assert sum(len(arrival.payloads) for _, arrival in wire.undecoded) <= 101


def test_what_was_decoded_gives_its_credit_back() -> None:
    wire = Wire(limits=Limits(mailbox_bytes=100_000, mailbox_messages=10))
    probe = probe_server(wire)
    for _ in range(50):
        wire.decodes = False
        probe.say(frames.frame(frames.DATA, bytes(10_000)) * 9, frames.encode_first_part(9, b""))
        [session] = wire.server.sessions.by_id.values()
        wire.decodes = True
        wire.decode_all()
        probe.say(frames.frame(frames.DATA, bytes(9)))
        assert len(wire.server.mailbox.take_all()) == 10
        wire.acks()
        assert session.receiving.granted_units == session.receiving.arrived + 10
        assert session.receiving.granted_bytes == session.receiving.arrived_bytes + 100_000


# --- asks -------------------------------------------------------------------------------------------


def piece(id: int, body: bytes, flags: int = 0) -> bytes:
    return frames.encode_ask(id, flags, None, body)


@pytest.mark.parametrize("first", [piece(1, b"x"), piece(1, b"", frames.NO_MESSAGE)])
def test_an_ask_that_is_whole_is_asked_once(first: bytes) -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    probe.say(first, piece(1, b"y"), piece(1, b"", frames.NO_MESSAGE))
    [request] = wire.requests()
    request.answer(b"z")
    assert "ANSWER" in probe.kinds() and not probe.is_closed


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (piece(0, b"x"), "request 0"),
        (piece(0, b"", frames.NO_MESSAGE), "request 0"),
        (frames.encode_cancel(0, "enough"), "request 0"),
        (piece(1, b"x", frames.NO_MESSAGE), "no message, and a part of one"),
        (piece(1, b"", frames.NO_MESSAGE | frames.MORE_OF_ASK), "no message, and a part of one"),
        (piece(1, b"", frames.NO_MESSAGE | frames.MORE_OF_MESSAGE), "no message, and a part of one"),
        (
            piece(1, b"x", frames.MORE_OF_MESSAGE) + piece(1, b"", frames.NO_MESSAGE),
            "request 1 is complete in the middle of a message",
        ),
    ],
)
def test_an_ask_that_contradicts_itself(said: bytes, match: str) -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    probe.say(said)
    assert probe.is_closed and match in str(probe.link.error)
    assert not wire.requests()


def test_the_last_of_all_ids() -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    last = (1 << 64) - 1
    probe.say(piece(last, b"x"), piece(1, b"an id that is used up"))
    [request] = wire.requests()
    request.answer(b"y")
    [answer] = frame_of(frames.ANSWER, probe)
    assert frames.decode_answer(answer) == (last, 0, b"y") and not probe.is_closed


@pytest.mark.parametrize(
    ("body", "flag"),
    [(b"", frames.MORE_OF_ASK), (b"x" * 400, frames.MORE_OF_ASK), (b"x" * 400, frames.MORE_OF_MESSAGE)],
)
def test_an_ask_that_never_ends_fails_and_leaves_nothing(body: bytes, flag: int) -> None:
    wire = Wire(AR, limits=Limits(mailbox_total=5000, message=2000))
    probe = probe_server(wire)
    probe.say(piece(1, body, flag) * 60)
    [failure] = frame_of(frames.FAIL, probe)
    assert frames.decode_fail(failure)[:2] == (1, "linkbox.TooLarge")
    assert wire.server.asks.memory.gathered == 0 and wire.server.asks.open_count == 0
    [session] = wire.server.sessions.by_id.values()
    assert not wire.server.asks.has_open(session)
    probe.say(piece(2, b"x"))
    assert len(wire.requests()) == 1  # others are served


def test_what_is_kept_of_asks_is_given_back() -> None:
    wire = Wire(AR)
    memory = wire.server.asks.memory
    probe = probe_server(wire)
    half = 50 + OVERHEAD
    probe.say(*(piece(id, b"x" * 50, frames.MORE_OF_MESSAGE) for id in (1, 2, 3, 4)))
    assert memory.gathered == 4 * half
    probe.say(frames.encode_cancel(1, "enough"))
    assert memory.gathered == 3 * half
    probe.say(piece(2, b"y"))
    assert memory.gathered == 2 * half
    probe.say(piece(3, b"z"))
    assert memory.gathered == half
    wire.server.abort()
    assert memory.gathered == 0


def test_who_does_not_take_answers_asks_no_more() -> None:
    wire = Wire(AR, limits=Limits(window_messages=5, asks=1))
    probe = probe_server(wire, credit=(0, 0))
    [session] = wire.server.sessions.by_id.values()
    probe.say(*(piece(id, b"x") for id in range(1, 11)))
    wire.acks()
    granted = session.receiving.granted_units
    probe.say(*(piece(id, b"x") for id in range(11, 21)))
    wire.acks()
    assert session.receiving.granted_units == granted
    most = 1 << 62
    probe.say(frames.encode_ack(0, 0, most, most))
    assert len(frame_of(frames.FAIL, probe)) == 19
    probe.say(frames.encode_ack(19, 0, most, most))
    wire.acks()
    assert session.receiving.granted_units > granted


@pytest.mark.parametrize(
    "limits", [Limits(asks=3), Limits(mailbox_bytes=3 * OVERHEAD)], ids=["asks", "bytes"]
)
def test_asks_that_wait_for_their_turn_over_a_plain_framing_are_bounded(limits: Limits) -> None:
    """The server reads no further; it reads again when half of them have their answers."""
    wire = Wire(AR, framing=LengthPrefixed(1), limits=limits)
    memory = wire.server.asks.memory
    probe = probe_server(wire, greets=False)
    probe.say(b"\1x" * 3)
    assert not probe.link.paused
    probe.say(b"\1x")
    assert probe.link.paused and memory.gathered == 3 * (1 + OVERHEAD)
    answered = 0
    while probe.link.paused:
        wire.requests()[0].answer(b"y")
        answered += 1
    assert answered == 2 and memory.gathered == 1 + OVERHEAD
    for _ in range(2):
        wire.requests()[0].answer(b"y")
    assert memory.gathered == 0 and probe.raw() == b"\1y" * 4


@pytest.mark.parametrize("size", [90, 300])
def test_over_raw_an_ask_that_dribbles_costs_no_more_than_its_bytes(size: int) -> None:
    wire = Wire(AR, framing=Raw(), limits=Limits(message=200))
    probe = probe_server(wire, greets=False)
    for _ in range(size):
        probe.say(b"x")
    [session] = wire.server.sessions.by_id.values()
    parts = wire.server.asks._by_session[session].raw._parts
    assert parts is not None and parts.size <= 200 and len(parts._pieces) <= 1
    arrivals: Any = probe.link.receive_eof(wire.now)
    whole = arrivals[0].payloads[0]
    assert whole == b"x" * 90 if size == 90 else isinstance(whole, TooLarge)


# --- connections that close ---------------------------------------------------------------------------


def test_a_plain_connection_that_is_refused_is_read_to_a_limit() -> None:
    wire = Wire(framing=Lines(), secure=True)
    probe = probe_server(wire, greets=False)
    probe.link.insecure(ProtocolViolation("no TLS"), wire.now)
    wire.settle()
    probe.say(bytes(EARLY_BYTES))
    assert probe.link.state is State.CLOSING
    probe.say(b"x")
    assert probe.is_closed


def test_the_last_read_of_a_slow_peer_begins_when_everything_is_written() -> None:
    wire = Wire(framing=Lines())
    wire.connect()
    end = wire.end_of(wire.server)
    [session] = wire.server.sessions.by_id.values()
    end.is_full = True
    wire.send(wire.server, session, b"last")
    wire.server.shutdown(wire.now)
    wire.settle()
    wire.now += 10  # nothing happens until the kernel takes bytes again
    end.unblock(wire.now)
    wire.settle()
    assert end.link.state is State.CLOSING
    assert end.link.next_timer() == wire.now + 1


def test_of_a_session_that_a_store_keeps_no_half_of_a_message_stays_in_memory() -> None:
    wire = StoredWire(stores={"client"})
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    probe.say(frames.encode_first_part(100_000, bytes(50_000)))
    assert session.receiving.assembly is not None
    wire.client.abort()
    assert session.receiving.assembly is None
    wire.close()

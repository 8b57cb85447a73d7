"""One connection: handshake, violations, heartbeat, deadlines, an ordered close."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from linkbox import Framing, Lines, Linked
from linkbox.core.handshake import STEP
from linkbox.core.link import Link, State
from linkbox.core.patterns import P2M
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.errors import DecodeError, MailboxFull, PeerLost, ProtocolViolation, TooLarge
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from tests.core.wire import (
    Probe,
    Wire,
    decode_message,
    encode_message,
    greeting,
    probe_client,
    probe_server,
    welcome,
)

DATA = frames.frame(frames.DATA, b"x")


def number(kind: int, value: int) -> bytes:
    return frames.encode_number(kind, value)


# --- The handshake ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [None, 1, 3, 7, 8, 9])
def test_the_handshake_and_what_comes_behind_it_may_be_cut_anywhere(cut: int | None) -> None:
    wire = Wire()
    probe = probe_server(wire, greets=False)
    probe.say(greeting(wire), DATA, frames.frame(frames.DATA, b"y"), cut=cut)
    assert probe.kinds()[0] == "WELCOME"
    assert probe.preface == frames.preface()
    assert wire.server.mailbox.take_all() == [b"x", b"y"]


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"hello\n", bytes(8)])
def test_a_stranger_is_closed_and_explained_in_the_log(first: bytes) -> None:
    wire = Wire()
    probe = probe_server(wire, greets=False)
    probe.say(first)
    assert probe.is_closed
    assert "does not speak the linkbox protocol" in wire.notes[0]
    assert not wire.server.links.links and not wire.server.admission.pending


def test_another_version_is_refused_by_name() -> None:
    wire = Wire()
    probe = probe_server(wire, greets=False)
    probe.say(frames.PREFACE + b"\x07", b"anything")
    [(kind, payload)] = probe.heard()
    refuse = decode_message(kind, payload)
    assert isinstance(refuse, handshake.Refuse)
    assert (refuse.code, refuse.supported) == ("version", (frames.VERSION,))
    assert probe.sink.fin and probe.link.state is State.CLOSING


def test_who_says_nothing_is_closed_in_time() -> None:
    wire = Wire()
    probe = probe_server(wire, greets=False)
    probe.say(greeting(wire)[:20])
    wire.advance(4.9)
    assert not probe.is_closed
    wire.advance(0.2)
    assert probe.is_closed
    assert any("no handshake within 5 s" in note for note in wire.notes)


# --- Violations -------------------------------------------------------------------------------------

BEFORE: dict[str, Callable[[Wire], bytes]] = {
    "DATA before HELLO": lambda wire: frames.preface() + DATA,
    "ACK before HELLO": lambda wire: frames.preface() + frames.encode_ack(0, 0, 1, 1),
    "PING too soon is a frame too": lambda wire: frames.preface() + number(frames.END, 0),
    "unknown type": lambda wire: frames.preface() + b"\x7f\0\0\0",
    "garbage HELLO": lambda wire: frames.preface() + frames.frame(frames.HELLO, b"{}"),
    "oversize HELLO": lambda wire: frames.preface() + b"\x01\x00\x20\x00",
    "WELCOME to a server": lambda wire: welcome(),
    "REFUSE to a server": lambda wire: frames.preface() + encode_message(handshake.Refuse("busy", "because")),
}


@pytest.mark.parametrize("what", BEFORE)
def test_violations_before_the_welcome(what: str) -> None:
    wire = Wire()
    probe = probe_server(wire, greets=False)
    probe.say(BEFORE[what](wire))
    assert probe.link.state in (State.CLOSING, State.CLOSED)
    assert "WELCOME" not in probe.kinds()
    assert not wire.server.sessions.by_id


AFTER: dict[str, Callable[[Wire], bytes]] = {
    "a second HELLO": lambda wire: greeting(wire)[8:],
    "WELCOME to a server": lambda wire: welcome()[8:],
    "REFUSE to a server": lambda wire: encode_message(handshake.Refuse("busy", "because")),
    "ACK of what was not sent": lambda wire: frames.encode_ack(1, 0, 1, 1),
    "taken more than received": lambda wire: frames.encode_ack(0, 1, 1, 1),
    "short ACK": lambda wire: frames.frame(frames.ACK, bytes(31)),
    "REJECT of what was not sent": lambda wire: frames.encode_reject(1, "decode", "because"),
    "END too early": lambda wire: number(frames.END, 1),
    "END in the middle of a message": lambda wire: (
        frames.encode_first_part(10, b"abc") + number(frames.END, 1)
    ),
    "DATA after END": lambda wire: number(frames.END, 0) + DATA,
    "BATCH after END": lambda wire: number(frames.END, 0) + frames.encode_batch([b"a", b"b"]),
    "END_ACK without END": lambda wire: number(frames.END_ACK, 0),
    "BATCH inside a message": lambda wire: (
        frames.encode_first_part(10, b"abc") + frames.encode_batch([b"x", b"y"])
    ),
    "a message that is shorter than it said": lambda wire: frames.encode_first_part(10, b"abc") + DATA,
    "ANSWER where nothing is asked": lambda wire: frames.encode_answer(1, 0, b"x"),
    "DROPPED backwards": lambda wire: frames.encode_dropped(2, 1),
    "short PING": lambda wire: frames.frame(frames.PING, b""),
}


@pytest.mark.parametrize("what", AFTER)
@pytest.mark.parametrize("cut", [None, 1])
def test_violations_after_the_welcome(what: str, cut: int | None) -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.say(AFTER[what](wire), cut=cut)
    assert probe.is_closed
    assert isinstance(probe.link.error, ProtocolViolation)
    assert "broke the protocol" in str(probe.link.error)
    [notice] = wire.events(wire.server, EventKind.DISCONNECTED)
    has_ended = EventKind.END in wire.kinds(wire.server)
    assert has_ended or isinstance(notice[2], ProtocolViolation)
    assert len(wire.server.sessions.by_id) == 1  # the session may go on over another connection


CLIENT: dict[str, bytes] = {
    "HELLO to a client": frames.preface()
    + encode_message(handshake.Hello("p2p", "", "", "a" * 32, 1, (0, 0), 1)),
    "DATA before WELCOME": frames.preface() + DATA,
    "not our wire": b"HTTP/1.1 400 Bad Request\r\n",
}


@pytest.mark.parametrize("what", CLIENT)
def test_violations_of_a_server(what: str) -> None:
    wire = Wire()
    probe = probe_client(wire, greets=False)
    probe.say(CLIENT[what])
    assert probe.is_closed
    assert isinstance(probe.link.error, ProtocolViolation)


def test_a_second_welcome_is_a_violation() -> None:
    wire = Wire()
    probe = probe_client(wire)
    probe.say(welcome()[8:])
    assert isinstance(probe.link.error, ProtocolViolation)


def test_what_came_before_a_violation_is_still_good() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.say(DATA, b"\x7f\0\0\0")
    assert wire.server.mailbox.take_all() == [b"x"]
    assert probe.is_closed


def test_frames_of_the_future_are_skipped() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.say(b"\x80\x00\x00\x03abc", DATA)
    assert wire.server.mailbox.take_all() == [b"x"]


def test_more_than_the_credit_is_a_violation() -> None:
    wire = Wire(limits=Limits(mailbox_messages=1, mailbox_bytes=1))
    probe = probe_server(wire)
    for _ in range(4096):  # that many may be sent before the credit is known
        probe.say(frames.frame(frames.DATA))
    assert not probe.is_closed
    probe.say(frames.frame(frames.DATA))
    assert "beyond its credit" in str(probe.link.error)


# --- Messages of every size ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 1 << 20, (1 << 20) + 1, 5_000_000])
@pytest.mark.parametrize("chunk", [None, 100_003])
def test_messages_of_every_size_arrive_whole(size: int, chunk: int | None) -> None:
    wire = Wire()
    wire.chunk = chunk
    session = wire.connect()
    body = bytes(range(256)) * (size // 256) + b"." * (size % 256)
    wire.send(wire.client, session, b"before", body, b"after")
    wire.run()
    assert wire.server.mailbox.take_all() == [b"before", body, b"after"]
    wire.acks()
    assert session.in_flight() == session.sending.held_bytes == 0


def test_what_is_sent_together_without_receipts_is_one_frame() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.heard()
    [session] = wire.server.sessions.by_id.values()
    session.send_many([b"1", b"2", b"3"])
    session.flush()
    wire.settle()
    [(kind, payload)] = [each for each in probe.heard() if each[0] != frames.ACK]
    assert (kind, frames.decode_batch(payload)) == (frames.BATCH, [b"1", b"2", b"3"])


def test_control_frames_go_between_the_pieces_of_a_large_message() -> None:
    wire = Wire()
    probe = probe_server(wire)
    wire.send(wire.server, next(iter(wire.server.sessions.by_id.values())), bytes(3 << 20))
    first = len(probe.raw())
    assert first >= 3 << 20
    probe.say(frames.encode_first_part(3, b"a"), number(frames.PING, 7), frames.frame(frames.DATA, b"bc"))
    assert wire.server.mailbox.take_all() == [b"abc"]


def test_a_message_over_the_limit_is_rejected_and_costs_no_memory() -> None:
    wire = Wire(limits=Limits(message=100))
    probe = probe_server(wire)
    probe.heard()
    large = frames.encode_first_part(1 << 40, b"x" * 1000) + frames.frame(frames.PART, b"y" * 1000)
    probe.say(large)
    [session] = wire.server.sessions.by_id.values()
    assert session.receiving.assembly is not None and session.receiving.assembly.size == 0
    probe.say(frames.frame(frames.DATA, b"end"), frames.frame(frames.DATA, b"good"))
    wire.acks()
    rejects = [frames.decode_reject(payload) for kind, payload in probe.heard() if kind == frames.REJECT]
    [(seq, code, reason)] = rejects
    assert (seq, code) == (3, "too large") and "at most 100" in reason
    assert wire.server.mailbox.take_all() == [b"good"]


@pytest.mark.parametrize(
    "said",
    [
        frames.frame(frames.DATA, bytes(101)) + frames.frame(frames.DATA, b"good"),
        frames.encode_batch([bytes(101), b"good"]),
        frames.encode_batch([b"good", bytes(200)]),
    ],
)
def test_one_message_over_the_limit_does_not_hurt_its_neighbours(said: bytes) -> None:
    wire = Wire(limits=Limits(message=100))
    probe = probe_server(wire)
    probe.say(said)
    assert wire.server.mailbox.take_all() == [b"good"]
    assert wire.server.context.counters.rejected == 1
    [error] = [notice[2] for notice in wire.events(wire.server, EventKind.ERROR)]
    assert isinstance(error, TooLarge)


# --- Heartbeat and deadlines ----------------------------------------------------------------------------


def test_a_silent_peer_is_asked_and_an_answer_keeps_it() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.heard()
    wire.advance(19.9)
    assert probe.heard() == []
    wire.advance(0.2)
    [(kind, payload)] = probe.heard()
    assert kind == frames.PING
    wire.advance(1.5)
    probe.say(frames.frame(frames.PONG, payload))
    assert probe.link.round_trip == pytest.approx(1.6, abs=0.01)
    wire.advance(25)
    assert not probe.is_closed


def test_a_peer_that_does_not_answer_is_lost() -> None:
    wire = Wire()
    probe = probe_server(wire)
    wire.advance(39.9)
    assert not probe.is_closed
    wire.advance(0.2)
    assert probe.is_closed
    assert isinstance(probe.link.error, PeerLost)
    assert "no sign of life for 40.0 s" in str(probe.link.error)


def test_two_idle_ends_keep_each_other_alive() -> None:
    wire = Wire()
    session = wire.connect()
    wire.advance(600)
    assert session.link is not None
    assert len(wire.dialled) == 1
    assert session.link.round_trip == 0.0


def test_ping_is_answered_with_its_number() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.heard()
    probe.say(number(frames.PING, 77))
    assert probe.heard() == [(frames.PONG, (77).to_bytes(8))]


def test_a_flood_of_pings_closes_the_link() -> None:
    wire = Wire(limits=Limits(control_frames=10))
    probe = probe_server(wire)
    probe.end.is_full = True  # it does not read what it makes us write
    probe.say(number(frames.PING, 0))
    probe.say(*[number(frames.PING, 0)] * 10)
    assert not probe.is_closed
    probe.say(number(frames.PING, 0))
    assert "does not read the 10 control frames" in str(probe.link.error)


def test_a_message_that_never_gets_whole() -> None:
    wire = Wire()
    probe = probe_server(wire)
    frame = frames.frame(frames.DATA, bytes(100))
    probe.say(frame[:50])
    for _ in range(2):
        wire.advance(14)
        probe.say(b"\0")
    wire.advance(3)
    assert "did not finish a message within 30 s" in str(probe.link.error)


def test_progress_counts_from_the_newest_whole_frame() -> None:
    wire = Wire()
    probe = probe_server(wire)
    frame = frames.frame(frames.DATA, bytes(100))
    probe.say(frame[:50])
    wire.advance(20)
    probe.say(frame[50:], frame[:50])
    wire.advance(20)
    assert not probe.is_closed
    probe.say(frame[50:])
    assert wire.server.mailbox.count == 2
    assert probe.link._partial_at is None


def test_a_peer_that_takes_nothing_is_lost() -> None:
    wire = Wire()
    probe = probe_server(wire)
    [session] = wire.server.sessions.by_id.values()
    probe.end.is_full = True
    wire.send(wire.server, session, b"x")
    for _ in range(4):
        wire.advance(9.9)
        probe.say(number(frames.PONG, 0))
    assert not probe.is_closed
    wire.advance(0.5)
    assert "took nothing for 40 s" in str(probe.link.error)


def test_a_peer_that_takes_something_again_is_not_lost() -> None:
    wire = Wire()
    probe = probe_server(wire)
    [session] = wire.server.sessions.by_id.values()
    probe.end.is_full = True
    [receipt] = wire.send(wire.server, session, b"x")
    wire.advance(15)
    probe.link.write_stalled(wire.now)  # still full: the time goes on
    probe.end.unblock(wire.now)
    wire.settle()
    assert frames.DATA in [kind for kind, _ in probe.heard()]
    assert receipt.stage is Stage.SENT
    for _ in range(4):
        wire.advance(15)
        probe.say(number(frames.PONG, 0))
    assert not probe.is_closed


@pytest.mark.parametrize("framing", [Linked(), Lines()], ids=str)
def test_a_closed_link_keeps_nothing_of_a_message_that_was_under_way(framing: Framing) -> None:
    """A timer may remember the link for as long as its next heartbeat would have been away."""
    wire = Wire(framing=framing)
    linked = framing.linked
    probe = probe_server(wire, greets=linked)
    probe.say(frames.header(frames.DATA, 1000) + bytes(999) if linked else bytes(999))
    place = "reader" if linked else "_decoder"
    holder = getattr(probe.link, place)
    wire.server.lost(probe.link, ConnectionResetError("cut"), wire.now)
    assert getattr(probe.link, place) is not holder


def test_a_closed_link_hears_nothing() -> None:
    """Whoever carries the bytes may have read some before it was told."""
    wire = Wire()
    probe = probe_server(wire)
    probe.say(number(frames.END_ACK, 7))
    assert probe.is_closed
    probe.say(frames.frame(frames.DATA, b"late"))
    assert wire.server.mailbox.count == 0


def test_half_a_message_is_forgotten_with_its_session() -> None:
    wire = Wire()
    probe = probe_server(wire)
    [session] = wire.server.sessions.by_id.values()
    probe.say(frames.encode_first_part(2000, bytes(1000)))
    wire.server.sessions.close_session(session, None)
    assert session.receiving.assembly is None


def test_rejections_that_are_not_read_are_bounded() -> None:
    """Who sends what is bad again and again, and does not read that it is, is disconnected."""
    wire = Wire(limits=Limits(control_frames=10))
    probe = probe_server(wire)
    bad = frames.frame(frames.DATA, b"bad")
    probe.say(bad * 20)  # all of it is told at once
    assert [kind for kind, _ in probe.heard()].count(frames.REJECT) == 20
    probe.end.is_full = True
    probe.say(bad)
    probe.say(bad * 10)
    assert not probe.is_closed
    probe.say(bad)
    assert "does not read the 10 control frames" in str(probe.link.error)


# --- Closing ----------------------------------------------------------------------------------------------


def refused(wire: Wire) -> Probe:
    probe = probe_server(wire, greets=False)
    probe.say(greeting(wire, format="json"))
    assert probe.link.state is State.CLOSING
    assert probe.kinds() == ["REFUSE"]
    return probe


def test_after_a_refusal_the_rest_is_read_until_the_peer_closes() -> None:
    wire = Wire()
    probe = refused(wire)
    probe.say(DATA * 10)
    assert not probe.is_closed and probe.sink.fin
    probe.eof()
    wire.settle()
    assert probe.is_closed
    assert not wire.server.links.links


def test_but_not_more_than_a_little() -> None:
    wire = Wire()
    probe = refused(wire)
    probe.say(bytes(64 * 1024))
    assert not probe.is_closed
    probe.say(b"x")
    assert probe.is_closed


def test_and_not_for_ever() -> None:
    wire = Wire(limits=Limits(close=2.0))
    probe = refused(wire)
    wire.advance(1.9)
    assert not probe.is_closed
    wire.advance(0.2)
    assert probe.is_closed


def test_an_orderly_end_closes_without_losing_a_byte() -> None:
    wire = Wire()
    session = wire.connect()
    wire.chunk = 1
    there = wire.other(session)
    wire.send(wire.server, there, b"last word")
    session.end()
    wire.run()
    wire.acks()
    assert wire.client.mailbox.take_all() == [b"last word"]
    assert not wire.client.links.links and not wire.server.links.links


def test_fin_without_an_end_is_a_lost_connection() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.eof()
    assert probe.is_closed
    assert "closed the connection without an END" in str(probe.link.error)


def test_fin_before_the_end_was_confirmed() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.say(number(frames.END, 0))
    probe.eof()
    assert probe.is_closed
    assert "before the END was confirmed" in str(probe.link.error)
    assert len(wire.server.sessions.by_id) == 1


def test_fin_while_the_last_message_is_still_being_decoded() -> None:
    wire = Wire()
    probe = probe_server(wire, resumes=False)
    wire.decodes = False
    probe.say(DATA, number(frames.END, 1))
    wire.server.ended(probe.link, wire.now)
    assert not wire.server.arrivals
    wire.settle()
    assert not probe.is_closed
    wire.decode_all()
    wire.settle()
    assert wire.server.mailbox.take_all() == [b"x"]
    kinds = wire.kinds(wire.server)
    assert kinds == [EventKind.CONNECTED, EventKind.DATA, EventKind.END, EventKind.DISCONNECTED]
    assert wire.events(wire.server, EventKind.DISCONNECTED)[0][2] is None


def test_the_base_leaves_reading_and_writing_to_its_kinds() -> None:
    server = Wire().server
    link = Link(server.side, server.context, "tcp://x", 0.0)
    for call in (
        lambda: link.receive_eof(0.0),
        lambda: link.data_to_send(0.0),
        lambda: link.send_control(b""),
        lambda: link.forget_input(),
    ):
        with pytest.raises(NotImplementedError):
            call()
    assert link.output is None
    assert link.settle_eof(0.0) is None  # type: ignore[func-returns-value]
    assert link.process_late() is None  # type: ignore[func-returns-value]
    assert link.silence_deadline() == float("inf")
    assert link.on_silence(0.0) is None  # type: ignore[func-returns-value]


def test_a_closed_link_wants_nothing_more() -> None:
    wire = Wire()
    probe = probe_server(wire)
    probe.link.abort(DecodeError("first"))
    probe.link.abort(DecodeError("second"))
    assert str(probe.link.error) == "first"
    assert probe.link.next_timer() == float("inf")
    probe.link.handle_timer(1e9)  # nothing is due
    probe.link.close_soon(0.0)
    assert probe.link.closed


def test_garbage_behind_the_last_word_harms_nobody() -> None:
    wire = Wire(P2M)
    probe = probe_client(wire)
    probe.say(frames.encode_number(frames.GOAWAY, 0) + bytes([0x7F, 0, 0, 1]) + b"?")
    assert probe.link.state is State.CLOSING and probe.link.error is None


@pytest.mark.parametrize(
    ("code", "error"),
    [("too large", TooLarge), ("full", MailboxFull), ("decode", DecodeError), ("?", DecodeError)],
)
def test_a_rejection_says_why(code: str, error: type[Exception]) -> None:
    wire = Wire()
    probe = probe_client(wire)
    session = wire.client.conversation
    assert session is not None
    [receipt] = wire.send(wire.client, session, b"x")
    probe.say(frames.encode_reject(1, code, "because"))
    assert type(receipt.error) is error and "because" in str(receipt.error)


@pytest.mark.parametrize("behind", [0, 1, 3 * STEP])
def test_a_client_may_get_its_welcome_and_much_more_in_one_read(behind: int) -> None:
    wire = Wire()
    probe = probe_client(wire, greets=False)
    probe.say(welcome(), frames.frame(frames.DATA, bytes(behind)), DATA)
    assert wire.client.mailbox.take_all() == [bytes(behind), b"x"]


def test_a_client_reads_a_handshake_step_by_step() -> None:
    """Frames of the future may come before the welcome: many of them, in one read."""
    wire = Wire()
    probe = probe_client(wire, greets=False)
    future = b"\x80\x00\x0b\xb8" + bytes(3000)
    probe.say(frames.preface(), future * 20, welcome()[8:], DATA)
    assert wire.client.mailbox.take_all() == [b"x"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"\x7f\0\0\0", "there is no such type"),
        (frames.frame(frames.PROOF, b"{}"), "a PROOF that is out of place"),
        (frames.frame(frames.PONG, bytes(8)), "frames before the handshake was complete"),
        (DATA, "messages before the handshake was complete"),
    ],
)
def test_what_is_no_handshake_of_a_server(said: bytes, why: str) -> None:
    wire = Wire()
    probe = probe_client(wire, greets=False)
    probe.say(frames.preface(), said)
    assert isinstance(probe.link.error, ProtocolViolation)
    assert why in str(probe.link.error)


def test_tls_that_is_ready_too_late_changes_nothing() -> None:
    wire = Wire(secure=True)
    probe = probe_server(wire, greets=False)
    probe.link.abort(PeerLost("gone"))
    probe.link.secured("pump", b"c" * 32, wire.now)
    assert probe.link.closed and not wire.server.sessions.by_id

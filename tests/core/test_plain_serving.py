"""Servers of plain framings: greetings, errors as responses, half-closed, silent and replaced peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linkbox import Dialogue, LengthPrefixed, Lines, Raw, Skip
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.wire.frames import preface
from linkbox.errors import AnswerError, DecodeError, PeerLost
from linkbox.events import EventKind
from tests.core.wire import NO_BACKOFF, Probe, Wire, probe_client, probe_server


def serving(dialogue: Dialogue, **options: Any) -> Wire:
    """A server of requests with this dialogue."""
    wire = Wire(AR, framing=Lines(), **options)
    settings = wire.server.context.settings
    settings.dialogue, settings.encode = dialogue, bytes
    return wire


def test_the_greeting_comes_first() -> None:
    for asks_first in (False, True):
        wire = serving(Dialogue(), asks_first=asks_first)
        wire.server.context.settings.greeting = b"220 ready"
        probe = probe_server(wire, greets=False)
        probe.say(b"a\n")
        if asks_first:
            assert probe.raw() == b""
            wire.server.decide(wire.server.pending_accepts.take(), True, wire.now)
            wire.run()
        assert probe.raw() == b"220 ready\n"
        [request] = wire.requests()
        request.answer(b"A")
        assert probe.raw() == b"A\n"


def test_a_response_is_made_out_of_a_failure() -> None:
    seen: list[tuple[Any, Exception]] = []

    def on_error(request: Any, error: Exception) -> bytes:
        seen.append((request, error))
        return b"no: %d" % len(seen)

    wire = serving(Dialogue(on_error=on_error))
    probe = probe_server(wire, greets=False)
    probe.say(b"a\nbad\nc\n")
    [request] = wire.requests()
    request.fail("because")
    wire.run()
    assert probe.raw() == b"no: 1\nno: 2\n"
    assert seen[0][0] == b"a" and isinstance(seen[0][1], AnswerError)
    assert seen[1][0] is None and isinstance(seen[1][1], DecodeError)
    [request] = wire.requests()
    wire.server.fail(request._incoming, "ValueError", "oh", ValueError("oh"))
    wire.run()
    assert probe.raw() == b"no: 3\n" and isinstance(seen[2][1], ValueError)
    assert not probe.is_closed
    probe.say(b"d\n")
    [request] = wire.requests()
    wire.server.fail(request._incoming, "SystemExit", "1", SystemExit(1))
    wire.run()
    assert probe.raw() == b"no: 4\n" and isinstance(seen[3][1], AnswerError)


def test_a_failure_without_a_response_closes_the_connection() -> None:
    raising: list[Callable[..., Any] | None] = [None, lambda *both: None, lambda *both: 1 / 0]
    for on_error in raising:
        wire = serving(Dialogue(on_error=on_error))
        probe = probe_server(wire, greets=False)
        probe.say(b"bad\nb\n")
        assert not wire.requests()
        probe.eof()
        wire.settle()
        assert probe.raw() == b"" and probe.is_closed
        failures = wire.server.effects.failures
        assert [type(error) for _, error in failures] == [ZeroDivisionError] * (on_error is raising[2])
        failures.clear()


def test_the_failure_of_a_request_that_was_cancelled_has_no_response() -> None:
    wire = serving(Dialogue(on_error=lambda *both: b"no"))
    probe = probe_server(wire, greets=False)
    probe.say(b"a\n")
    [request] = wire.requests()
    probe.link.abort(None)
    wire.settle()
    request.fail("too late")
    assert probe.raw() == b""


def test_a_skipped_line_is_no_request() -> None:
    def decode(payload: bytes) -> bytes:
        if payload == b"alive":
            raise Skip
        return payload

    for keep_alive in (True, False):
        wire = serving(Dialogue(), keep_alive=keep_alive)
        wire.decode = decode
        probe = probe_server(wire, greets=False)
        probe.say(b"alive\nb\n")
        assert wire.server.context.counters.skipped == 1
        assert [each.data for each in wire.requests()] == ([b"b"] if keep_alive else [])


def test_a_client_may_read_with_another_framing() -> None:
    wire = Wire(AR, framing=Lines())
    wire.client.context.settings.responses = LengthPrefixed(1)
    session = wire.client.begin(wire.now)
    probe = probe_client(wire, session, greets=False)
    ask = wire.ask(b"CURVE?", session)
    probe.say(b"\3a\nb")
    assert ask.value == b"a\nb" and probe.raw() == b"CURVE?\n"


# -- peers that close one half, are silent, or come back -----------------------------------------------


def half_closed(wire: Wire) -> Probe:
    """A peer that has said one line and closed its half."""
    probe = probe_server(wire, greets=False)
    probe.say(b"hello\n")
    probe.eof()
    wire.settle()
    return probe


def to_peers(wire: Wire, half_close: float = 5.0, **options: Any) -> Wire:
    """The same wire, with these options of its server."""
    settings = wire.server.context.settings
    settings.half_close = half_close
    for name, value in options.items():
        setattr(settings, name, value)
    return wire


def test_a_peer_that_has_closed_its_half_can_be_sent_to_for_a_while() -> None:
    wire = to_peers(Wire(framing=Lines()))
    probe = half_closed(wire)
    assert wire.events(wire.server, EventKind.END)
    [session] = wire.server.sessions.by_id.values()
    wire.advance(3)
    wire.send(wire.server, session, b"answer")
    assert probe.raw() == b"answer\n" and not probe.is_closed
    wire.advance(3)
    assert probe.is_closed and not wire.server.sessions.by_id
    assert wire.events(wire.server, EventKind.DISCONNECTED)[0][2] is None


def test_it_can_be_sent_to_until_the_server_ends_or_stops() -> None:
    for stops in (False, True):
        wire = to_peers(Wire(framing=Lines()))
        probe = half_closed(wire)
        [session] = wire.server.sessions.by_id.values()
        wire.server.sessions.end_arrived(session)  # As when a message of it was decoded late.
        if stops:
            wire.server.shutdown(wire.now)
        else:
            session.end()
        wire.server.sessions.end_arrived(session)
        wire.run()
        assert probe.is_closed and not wire.server.sessions.by_id


def test_without_a_time_or_a_way_back_the_conversation_is_over_at_once() -> None:
    for wire in (to_peers(Wire(framing=Lines()), 0.0), to_peers(Wire(P2M, framing=Lines()))):
        probe = half_closed(wire)
        wire.run()
        assert probe.is_closed


def test_a_half_closed_peer_gives_its_slot_to_a_newcomer() -> None:
    wire = to_peers(Wire(framing=Lines()))
    first = half_closed(wire)
    [session] = wire.server.sessions.by_id.values()
    wire.send(wire.server, session, b"answer")
    second = probe_server(wire, greets=False)
    second.say(b"two\n")
    assert first.raw() == b"answer\n" and first.is_closed and not first.sink.reset
    assert not second.is_closed and wire.server.mailbox.take_all() == [b"hello", b"two"]
    assert wire.server.accept("tcp://third", None, wire.now) is None


def test_it_keeps_its_slot_while_its_answer_is_being_written() -> None:
    for newest_wins in (False, True):
        wire = to_peers(Wire(framing=Lines()), newest_wins=newest_wins)
        first = half_closed(wire)
        [session] = wire.server.sessions.by_id.values()
        receipt = session.send_later(b"answer")
        assert wire.server.accept("tcp://probe", None, wire.now) is None
        session.flush()
        wire.settle()
        assert first.raw() == b"answer\n" and not receipt.failed
        second = probe_server(wire, greets=False)
        assert first.is_closed and not second.is_closed


def test_it_keeps_its_slot_until_the_application_has_admitted_the_newcomer() -> None:
    wire = to_peers(Wire(framing=Lines(), asks_first=True))
    first = half_closed(wire)
    wire.server.decide(wire.server.pending_accepts.take(), True, wire.now)
    wire.run()
    second = probe_server(wire, greets=False)
    assert not first.is_closed
    wire.server.decide(wire.server.pending_accepts.take(), True, wire.now)
    wire.run()
    assert first.is_closed and not second.is_closed


def test_the_newest_connection_from_the_same_host_wins() -> None:
    wire = to_peers(Wire(framing=Lines(), max_peers=3), newest_wins=True)
    server = wire.server

    def connect(address: str) -> Probe:
        link = server.accept(address, None, wire.now)
        assert link is not None
        return Probe(wire, server, link)

    other, old, young = connect("tcp://10.0.0.9:1"), connect("tcp://10.0.0.1:1"), connect("tcp://10.0.0.1:2")
    wire.advance(1)
    young.say(b"alive\n")
    newest = connect("tcp://10.0.0.1:3")
    wire.run()
    assert old.is_closed
    assert not (other.is_closed or young.is_closed or newest.is_closed)
    lost = wire.events(server, EventKind.DISCONNECTED)[0][2]
    assert isinstance(lost, PeerLost) and "same host, tcp://10.0.0.1:3" in str(lost)
    assert server.accept("tcp://10.0.0.2:1", None, wire.now) is None
    server.context.settings.newest_wins = False
    assert server.accept("tcp://10.0.0.1:4", None, wire.now) is None


def test_a_silent_peer_is_disconnected() -> None:
    for secure in (False, True):
        wire = to_peers(Wire(framing=Lines(), secure=secure), idle_timeout=10.0)
        probe = probe_server(wire, greets=False)
        if secure:
            wire.advance(4)
            probe.link.secured(None, b"", wire.now)
            wire.settle()
        for _ in range(3):
            wire.advance(7)
            probe.say(b"x\n")
        wire.advance(11)
        assert probe.is_closed
        lost = wire.events(wire.server, EventKind.DISCONNECTED)[0][2]
        assert isinstance(lost, PeerLost) and "idle_timeout=10" in str(lost)


def test_a_peer_that_is_not_read_is_not_silent() -> None:
    wire = to_peers(Wire(framing=Lines()), idle_timeout=10.0)
    probe = probe_server(wire, greets=False)
    probe.link.paused = True
    wire.advance(25)
    assert not probe.is_closed
    probe.link.paused = False
    wire.advance(11)
    assert probe.is_closed


def test_a_peer_that_has_ended_is_not_silent() -> None:
    wire = to_peers(Wire(framing=Lines()), 100.0, idle_timeout=10.0)
    probe = half_closed(wire)
    wire.advance(50)
    assert not probe.is_closed


def test_a_client_leaves_a_silent_server() -> None:
    wire = Wire(P2P, framing=Lines(), secure=True, reconnect=NO_BACKOFF)
    wire.client.context.settings.idle_timeout = 10.0
    probe = probe_client(wire, greets=False)
    probe.link.secured(None, b"", wire.now)
    wire.settle()
    wire.advance(11)
    assert probe.is_closed
    assert "idle_timeout=10" in str(wire.events(wire.client, EventKind.DISCONNECTED)[0][2])


def test_a_proxy_header_that_nobody_expects_is_named() -> None:
    for header in (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0\n"):
        wire = Wire(P2M, framing=Lines(), asks_first=True)
        probe = probe_server(wire, greets=False)
        probe.say(header)
        wire.server.decide(wire.server.pending_accepts.take(), True, wire.now)
        wire.run()
        probe.say(header)
        assert wire.notes == ["tcp://probe: this looks like a PROXY protocol header; use proxy_protocol=True"]


def test_a_client_of_our_own_protocol_is_refused() -> None:
    """It may be one behind a proxy of bytes at a raw server, where anything is data."""
    for framing, is_refused in ((Lines(), True), (Raw(), False)):
        wire = Wire(P2M, framing=framing)
        probe = probe_server(wire, greets=False)
        probe.say(preface() + b"\0" * 100)
        assert bool(wire.notes) is is_refused
        assert (b"the framing here is lines" in probe.raw()) is is_refused
        assert bool(wire.server.mailbox.count) is not is_refused


def test_a_stopping_server_admits_nobody() -> None:
    wire = Wire(P2P, framing=Lines())
    wire.server.shutdown(wire.now)
    assert wire.server.accept("tcp://probe", None, wire.now) is None

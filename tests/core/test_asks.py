"""Ask and answer: pieces, deadlines, cancelling, failures, and what a hostile or lost peer leaves."""

from __future__ import annotations

import pytest

from linkbox import Lines, Linked, Raw
from linkbox.core.asks_client import Ask
from linkbox.core.patterns import AR
from linkbox.core.wire import frames
from linkbox.core.wire.framings import Framing
from linkbox.errors import (
    AnswerError,
    DeadlineExceeded,
    DecodeError,
    EndOfData,
    PeerLost,
    ProtocolViolation,
    StateError,
    TooLarge,
)
from linkbox.events import EventKind
from linkbox.limits import Limits
from tests.core.wire import Wire, probe_client, probe_server


def ask_frame(id: int, body: bytes, flags: int = 0) -> bytes:
    return frames.encode_ask(id, flags, None, body)


def test_an_ask_is_answered_once_and_failed_by_name() -> None:
    wire = Wire(AR)
    session = wire.connect()
    good, ill = wire.ask(b"good", session), wire.ask(b"ill", session)
    wire.run()
    first, second = wire.requests()
    assert "Request" in repr(first)
    first.answer(b"fine")
    second.fail("no such thing")
    wire.run()
    assert good.value == b"fine" and good.is_done
    assert isinstance(ill.error, AnswerError)
    assert str(ill.error).endswith("no such thing")


@pytest.mark.parametrize(
    ("type", "error"),
    [
        ("linkbox.TooLarge", TooLarge),
        ("linkbox.DecodeError", DecodeError),
        ("linkbox.DeadlineExceeded", DeadlineExceeded),
        ("ValueError", AnswerError),
    ],
)
def test_failures_of_the_library_have_their_own_errors(type: str, error: type[Exception]) -> None:
    wire = Wire(AR)
    ask = wire.ask(b"x")
    wire.run()
    [request] = wire.requests()
    wire.server.fail(request._incoming, type, "because")
    wire.run()
    assert isinstance(ask.error, error)


def test_a_cancelled_ask_leaves_the_rest_of_it_unheard() -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    probe.say(ask_frame(1, b"part", frames.MORE_OF_ASK))
    assert wire.events(wire.server, EventKind.PART)
    probe.say(frames.encode_cancel(1, "enough"))
    probe.say(ask_frame(1, b"the rest"))
    assert not wire.requests()
    [session] = wire.server.sessions.by_id.values()
    assert not wire.server.asks.has_open(session) and not wire.server.asks.open_count
    probe.say(frames.encode_cancel(1, "again"))  # ignored
    assert not probe.is_closed
    probe.say(frames.encode_cancel(2, "never asked"))
    assert isinstance(probe.link.error, ProtocolViolation)


def test_more_asks_at_once_than_allowed_fail_by_name() -> None:
    wire = Wire(AR, limits=Limits(asks=2))
    probe = probe_server(wire)
    probe.heard()
    probe.say(*(ask_frame(id, b"x") for id in (1, 2, 3)))
    [failure] = [payload for kind, payload in probe.heard() if kind == frames.FAIL]
    assert frames.decode_fail(failure)[:2] == (3, "limit")
    assert len(wire.requests()) == 2


def test_answers_to_what_was_never_asked_or_is_over() -> None:
    wire = Wire(AR)
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    ask = wire.ask(b"x", session)
    wire.client.asks.cancel(ask, "enough")
    wire.settle()
    assert "CANCEL" in probe.kinds()
    late = frames.encode_answer(ask.id, 0, b"late")
    probe.say(late, frames.encode_fail(ask.id, "X", "late"))
    assert ask.value is None and not probe.is_closed
    wire.client.asks.cancel(ask, "again")  # Nobody waits; nothing is said.
    assert "CANCEL" not in probe.kinds()
    probe.say(frames.encode_answer(7, 0, b"x"))
    assert isinstance(probe.link.error, ProtocolViolation)


@pytest.mark.parametrize("size", [0, 256 * 1024, 256 * 1024 + 1, 1_000_000])
def test_large_asks_and_answers_travel_in_pieces(size: int) -> None:
    wire = Wire(AR)
    ask = wire.ask(bytes(size))
    wire.run()
    [request] = wire.requests()
    assert request.data == bytes(size)
    request.answer(bytes(size))
    wire.run()
    assert ask.value == bytes(size)


def test_a_large_ask_over_the_limit_fails_and_costs_no_memory() -> None:
    wire = Wire(AR, limits=Limits(message=1000))
    probe = probe_server(wire)
    probe.heard()
    for _ in range(3):
        probe.say(ask_frame(1, bytes(600), frames.MORE_OF_MESSAGE))
    [session] = wire.server.sessions.by_id.values()
    [incoming] = wire.server.asks._by_session[session].open.values()
    assert incoming.assembler is not None and incoming.assembler.held <= 1000
    probe.say(ask_frame(1, b"end"), ask_frame(2, bytes(1001)), ask_frame(3, b"good"))
    failed = [frames.decode_fail(payload) for kind, payload in probe.heard() if kind == frames.FAIL]
    assert [(id, type) for id, type, _ in failed] == [(1, "linkbox.TooLarge"), (2, "linkbox.TooLarge")]
    assert [request.data for request in wire.requests()] == [b"good"]


def test_an_ask_of_several_messages_is_whole_with_its_end() -> None:
    wire = Wire(AR)
    session = wire.client.begin(wire.now)
    asks = wire.client.asks
    ask = Ask(session, False)
    for body in (b"a", b"b"):
        asks.add(ask, body, True, None)
    wire.run()
    assert not wire.requests()
    asks.finish(ask)
    wire.run()
    [request] = wire.requests()
    assert list(request.messages) == [b"a", b"b"]
    request.answer(b"both")
    wire.run()
    assert ask.value == b"both"


def test_a_lost_session_cancels_what_it_asked() -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    probe.say(ask_frame(1, b"x"))
    [request] = wire.requests()
    [session] = wire.server.sessions.by_id.values()
    wire.server.disconnect(session, "go", wire.now)
    wire.settle()
    assert request.cancelled()
    request.answer(b"nobody hears it")  # no error: it could not know
    assert "ANSWER" not in probe.kinds()


def test_a_dropped_request_is_failed_not_forgotten() -> None:
    wire = Wire(AR)
    ask = wire.ask(b"x")
    wire.run()
    wire.requests().clear()
    wire.advance(5)
    assert isinstance(ask.error, AnswerError)
    assert "unanswered" in str(ask.error)


# --- Over plain framings ----------------------------------------------------------------------------


def test_over_lines_asks_are_answered_in_turn() -> None:
    wire = Wire(AR, framing=Lines())
    probe = probe_server(wire, greets=False)
    probe.say(b"one\ntwo\n")
    [first] = wire.requests()
    assert first.data == b"one"
    first.answer(b"1")
    [second] = wire.requests()
    second.answer(b"2")
    assert probe.raw() == b"1\n2\n"


def test_over_lines_a_failure_closes_the_connection_behind_the_answers() -> None:
    wire = Wire(AR, framing=Lines())
    probe = probe_server(wire, greets=False)
    probe.say(b"one\ntwo\nthree\n")
    wire.requests()[0].answer(b"1")
    wire.requests()[0].fail("cannot say so in lines")
    probe.say(b"four\n")
    assert probe.raw() == b"1\n"
    assert probe.sink.fin and not probe.is_closed
    assert not wire.requests()
    wire.advance(wire.limits.close)  # the peer does not close its half
    assert probe.is_closed and not wire.server.sessions.by_id
    [event] = wire.events(wire.server, EventKind.DISCONNECTED)
    assert "a request" in str(event.error)


def test_over_lines_without_keep_alive_the_answer_closes_the_connection() -> None:
    wire = Wire(AR, framing=Lines(), keep_alive=False)
    probe = probe_server(wire, greets=False)
    probe.say(b"one\ntwo\n")
    wire.requests()[0].answer(b"1")
    assert probe.raw() == b"1\n"
    assert probe.sink.fin and not wire.requests()
    probe.eof()
    assert probe.is_closed
    [event] = wire.events(wire.server, EventKind.DISCONNECTED)
    assert event.error is None


def test_an_answer_nobody_asked_for_over_lines_goes_to_the_mailbox() -> None:
    wire = Wire(AR, framing=Lines())
    probe = probe_client(wire, greets=False)
    probe.say(b"hello?\n")
    [answer] = wire.client.mailbox.take_all()
    assert answer.value == b"hello?"
    assert wire.events(wire.client, EventKind.DATA)
    assert not probe.is_closed


def test_over_raw_the_end_of_the_stream_makes_an_ask_whole() -> None:
    wire = Wire(AR, framing=Raw())
    probe = probe_server(wire, greets=False)
    probe.say(b"in pie")
    probe.say(b"ces")
    assert not wire.requests()
    probe.eof()
    [request] = wire.requests()
    assert request.data == b"in pieces"


def test_over_raw_nothing_at_all_is_no_ask() -> None:
    wire = Wire(AR, framing=Raw())
    probe = probe_server(wire, greets=False)
    probe.eof()
    assert not wire.requests()


def test_over_raw_too_large_an_ask_costs_no_memory() -> None:
    wire = Wire(AR, framing=Raw(), limits=Limits(message=100))
    probe = probe_server(wire, greets=False)
    for _ in range(3):
        probe.say(bytes(90))
    [session] = wire.server.sessions.by_id.values()
    parts = wire.server.asks._by_session[session].raw._parts
    assert parts is not None and parts.size <= 100
    probe.eof()
    assert not wire.requests()
    [error] = [notice[2] for notice in wire.events(wire.server, EventKind.ERROR)]
    assert isinstance(error, TooLarge)


def test_a_server_that_is_gone_fails_its_asks_at_once() -> None:
    wire = Wire(AR)
    ask = wire.ask(b"x")
    wire.run()
    wire.is_reachable = False
    wire.drop_all()
    wire.advance(1)
    assert isinstance(ask.error, PeerLost)


# --- What crosses on the way ------------------------------------------------------------------------


def test_a_deadline_travels_as_the_time_that_is_left() -> None:
    wire = Wire(AR)
    session = wire.connect()
    ask = wire.ask(b"soon", session, deadline=wire.now + 5)
    wire.run()
    [request] = wire.requests()
    assert request.deadline == pytest.approx(wire.now + 5, abs=0.01)
    request.answer(b"in time")
    wire.run()
    assert ask.value == b"in time"
    wire.ask(b"late", session, deadline=wire.now - 1)
    wire.run()
    [late] = wire.requests()
    assert late.deadline == wire.now  # never less: the front end does not start on it


def test_a_request_is_answered_once() -> None:
    wire = Wire(AR)
    wire.ask(b"x")
    wire.run()
    [request] = wire.requests()
    request.answer(b"y")
    for again in (lambda: request.answer(b"z"), lambda: request.fail("z")):
        with pytest.raises(StateError, match="answered already"):
            again()


def test_a_request_that_was_cancelled_may_be_answered_failed_or_dropped_in_silence() -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    probe.say(*(ask_frame(id, b"x") for id in (1, 2, 3)))
    answered, failed, dropped = wire.requests()
    wire.server.asks.abandoned.append(dropped._incoming)  # it was dropped just before the CANCEL came
    probe.say(*(frames.encode_cancel(id, "enough") for id in (1, 2, 3)))
    probe.heard()
    answered.answer(b"y")
    failed.fail("why")
    wire.advance(5)
    assert {"ANSWER", "FAIL"}.isdisjoint(probe.kinds())
    assert not wire.server.asks.abandoned


def test_an_answer_that_was_being_decoded_when_the_ask_was_given_up_is_dropped() -> None:
    wire = Wire(AR)
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    ask = wire.ask(b"x", session)
    wire.decodes = False
    probe.say(frames.encode_answer(ask.id, 0, b"late"))
    wire.client.asks.cancel(ask, "enough")
    wire.decode_all()
    assert not ask.is_done


@pytest.mark.parametrize("body", [b"good", b"bad"])
def test_an_ask_that_was_being_decoded_when_it_was_cancelled_gets_no_answer(body: bytes) -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    probe.heard()
    wire.decodes = False
    probe.say(ask_frame(1, body), frames.encode_cancel(1, "enough"))
    wire.decode_all()
    assert wire.server.context.counters.rejected == (1 if body == b"bad" else 0)
    assert not wire.requests()
    assert "FAIL" not in probe.kinds()


@pytest.mark.parametrize("framing", [Linked(), Lines(), Raw()])
def test_an_ask_for_a_session_that_is_over_fails_at_once(framing: Framing) -> None:
    wire = Wire(AR, framing=framing)
    session = wire.connect()
    wire.client.sessions.close_session(session, PeerLost("gone"))
    ask = wire.ask(b"x", session)
    assert isinstance(ask.error, PeerLost)
    assert ask.receipt is not None and ask.receipt.error is ask.error
    assert not wire.client.asks.waiting


def test_an_ask_of_several_messages_moves_with_all_of_them() -> None:
    wire = Wire(AR)
    session = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    asks = wire.client.asks
    ask = Ask(session, False)
    asks.add(ask, b"one, ", True, None)
    asks.add(ask, b"two", True, None)
    asks.finish(ask)
    wire.settle()
    probe.say(frames.encode_number(frames.GOAWAY, 0))
    wire.advance(1)
    [request] = wire.requests()
    assert request.data == b"one, two"
    request.answer(b"three")
    wire.run()
    assert ask.value == b"three"


def test_a_server_does_not_ask_its_clients() -> None:
    wire = Wire(AR)
    probe = probe_client(wire, wire.client.begin(wire.now))
    probe.say(ask_frame(1, b"x"))
    assert "ASK from the wrong side" in str(probe.link.error)


def test_a_request_that_failed_already_leaves_no_error_event_of_its_message() -> None:
    """A message of a request fails with its session; the request says why, once."""
    wire = Wire(AR)
    session = wire.client.begin(wire.now)
    probe_client(wire, session)
    ask = wire.ask(b"x", session)
    wire.client.sessions.close_session(session, PeerLost("gone"))
    wire.settle()
    assert isinstance(ask.error, PeerLost) and ask.receipt is not None
    assert ask.receipt.error is ask.error
    assert [event.receipt for event in wire.events(wire.client, EventKind.ERROR)] == [None]


def test_a_connection_that_was_for_one_ask_ends_when_that_is_settled() -> None:
    wire = Wire(AR, framing=Lines())
    session = wire.client.begin(wire.now)
    asks = wire.client.asks
    ask = Ask(session, False, ends_session=True)
    asks.add(ask, b"x", False, None)
    wire.run()
    [request] = wire.requests()
    request.answer(b"y")
    wire.run()
    assert ask.value == b"y" and session.is_ending
    wire.advance(5)
    assert isinstance(session.error, EndOfData)


def test_over_raw_only_the_end_of_the_connection_cancels_an_ask() -> None:
    wire = Wire(AR, framing=Raw())
    session = wire.client.begin(wire.now)
    probe = probe_client(wire, session, greets=False)
    ask = wire.ask(b"x", session)
    assert wire.client.asks.cancel(ask, "enough")
    session.close(None)
    wire.settle()
    assert probe.is_closed and not ask.is_done


@pytest.mark.parametrize(("limit", "is_whole"), [(100, True), (10, False)])
def test_over_raw_the_answer_is_whole_when_the_server_closes(limit: int, is_whole: bool) -> None:
    wire = Wire(AR, framing=Raw(), client_limits=Limits(message=limit))
    session = wire.client.begin(wire.now)
    probe = probe_client(wire, session, greets=False)
    ask = wire.ask(b"x", session)
    probe.say(b"in pieces, ")
    probe.say(b"and more")
    assert not ask.is_done
    probe.eof()
    if is_whole:
        assert ask.value == b"in pieces, and more"
    else:
        assert isinstance(ask.error, TooLarge)

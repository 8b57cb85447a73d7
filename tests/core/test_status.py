"""What an endpoint reports about itself: log lines, state, statistics."""

from __future__ import annotations

from typing import Any

import pytest

from linkbox.core import full_mailbox
from linkbox.core.endpoint_core import EndpointCore
from linkbox.core.histogram import BUCKETS, Histogram
from linkbox.core.patterns import AR, P2M
from linkbox.core.session import WARN_AFTER
from linkbox.core.settings import Counters, kind_of
from linkbox.core.wire.framings import Lines
from linkbox.errors import ConnectFailed, PeerLost, Refused, StateError, StoreError
from linkbox.events import EndpointState
from linkbox.limits import Limits
from tests.core.wire import Wire, probe_server


def listened(*levels: str, **options: Any) -> Wire:
    """A wire whose log lines of these levels are read."""
    wire = Wire(**options)
    for hub in wire.hubs:
        hub.effects.is_logged = levels.__contains__
    return wire


def lines(wire: Wire, words: str) -> list[str]:
    return [line for line in wire.notes if words in line]


# -- log lines ------------------------------------------------------------------------------------------


def test_without_a_reader_no_line_is_made() -> None:
    wire = Wire()
    session = wire.connect()
    session.end()
    wire.run()
    assert wire.notes == []


def test_a_connection_comes_and_goes() -> None:
    wire = listened("info")
    session = wire.connect()
    assert len(lines(wire, "connected: ")) == 2
    wire.other(session).end()
    session.end()
    wire.run()
    assert len(lines(wire, "disconnected: ")) == 2
    assert len(lines(wire, "the conversation has ended")) == 2
    assert wire.client.statistics().errors_by_kind == {}


def test_a_resumed_connection_says_what_was_sent_again() -> None:
    wire = listened("info")
    session = wire.connect()
    wire.send(wire.client, session, b"1", b"2", b"3")
    wire.drop_all()
    wire.advance(1.0)
    (line,) = [line for line in lines(wire, "resumed") if "tcp://server" in line]
    assert "3 messages are sent again" in line
    (line,) = [line for line in lines(wire, "resumed") if "tcp://client" in line]
    assert "0 messages are sent again" in line
    assert wire.client.statistics().errors_by_kind == {"PeerLost": 1}
    assert isinstance(wire.client.context.counters.last_error, PeerLost)


def test_details() -> None:
    wire = listened("debug", limits=Limits(heartbeat=1.0))
    wire.connect()
    wire.advance(1.5)
    assert lines(wire, "connecting to tcp://server:1")
    assert len(lines(wire, "handshake begins")) == 2
    assert lines(wire, "nothing arrived for")
    assert lines(wire, "pong of")
    times = wire.client.statistics().round_trips
    assert times is not None
    assert times.count == 1


def test_failed_attempts_are_details_until_they_have_lasted_long() -> None:
    wire = listened("debug", connect_timeout=100.0)
    wire.is_reachable = False
    wire.client.begin(wire.now)
    wire.run()
    began = wire.now
    assert "attempt failed: nobody listens; the next one is in" in wire.notes[1]
    while wire.now <= began + WARN_AFTER + 1:
        wire.advance(1.0)
    (line,) = lines(wire, "no connection for")
    assert "no connection for 10 s" in line
    while wire.now <= began + 3 * WARN_AFTER:
        wire.advance(1.0)
    assert len(lines(wire, "no connection for")) == 2, "after twice as long"


def test_a_refusal_is_an_info() -> None:
    wire = listened("info", max_peers=1)
    wire.connect()
    second = wire.make_client()
    second.effects.is_logged = {"info"}.__contains__
    second.dialing.reconnect = None
    second.begin(wire.now)
    wire.run()
    wire.advance(3.0)
    assert lines(wire, "refused: tcp://server:1 refused: ")
    assert second.statistics().errors_by_kind == {"Refused: busy": 1}


def test_lines_of_a_minute_are_limited() -> None:
    wire = listened("info")
    effects = wire.server.effects
    assert [effects.reports("info") for _ in range(102)].count(True) == 100
    assert not effects.reports("debug"), "nobody reads them"


def test_a_full_mailbox_from_which_nothing_is_taken() -> None:
    wire = Wire(limits=Limits(mailbox_messages=5))
    session = wire.connect()
    wire.send(wire.client, session, *[b"x"] * 8)
    wire.run()
    wire.advance(full_mailbox.PATIENCE + 1)
    (line,) = lines(wire, "the mailbox is full")
    assert "5 messages of" in line
    assert "none was taken for 10 s" in line
    wire.advance(full_mailbox.PATIENCE)
    assert len(lines(wire, "the mailbox is full")) == 2
    wire.server.mailbox.take()
    wire.settle()
    wire.advance(4 * full_mailbox.PATIENCE)
    assert len(lines(wire, "the mailbox is full")) >= 2
    while wire.server.mailbox.count:
        wire.server.mailbox.take_all()
        wire.run()
    wire.notes.clear()
    wire.advance(20 * full_mailbox.PATIENCE)
    assert lines(wire, "the mailbox is full") == []


def test_a_timer_that_comes_early_logs_nothing() -> None:
    wire = Wire()
    watch = wire.server.context.full_mailbox
    watch.handle_timer(wire.now)
    assert wire.notes == []


def test_a_full_mailbox_over_a_plain_framing() -> None:
    wire = Wire(framing=Lines(), limits=Limits(mailbox_messages=5))
    session = wire.connect()
    wire.send(wire.client, session, *[b"x"] * 8)
    wire.run()
    (of_peer,) = wire.server.statistics(wire.now + 2).peers.values()
    assert of_peer.mailbox_share >= 1.0
    assert "messages fill the mailbox, the first for" in of_peer.waits_for
    assert of_peer.silence == 2.0
    wire.advance(full_mailbox.PATIENCE + 1)
    assert lines(wire, "the mailbox is full")


def test_a_mailbox_that_drops_is_never_full() -> None:
    wire = Wire(limits=Limits(mailbox_messages=5), overflow="drop_newest")
    session = wire.connect()
    wire.send(wire.client, session, *[b"x"] * 8)
    wire.run()
    wire.server.context.full_mailbox.watch(wire.other(session).receiving)
    wire.advance(full_mailbox.PATIENCE + 1)
    assert lines(wire, "the mailbox is full") == []
    assert wire.server.statistics(wire.now).waits_for == ""


def test_a_mailbox_that_a_peer_has_left_full() -> None:
    wire = Wire(P2M, limits=Limits(mailbox_messages=5))
    session = wire.connect()
    wire.send(wire.client, session, *[b"x"] * 5)
    wire.run()
    wire.other(session).close(None)
    assert wire.server.statistics(wire.now).waits_for == "", "not yet for long"
    numbers = wire.server.statistics(wire.now + 2)
    assert numbers.mailbox_share == 1.0
    assert numbers.waits_for == "the application: 5 messages fill the mailbox, the first for 2.0 s"
    wire.server.mailbox.take()
    assert wire.server.statistics(wire.now + 2).waits_for == ""


# -- state ----------------------------------------------------------------------------------------------


def test_a_server_listens() -> None:
    status = Wire().server.status
    assert status.state() is EndpointState.LISTENING
    assert status.retry_in(0.0) is None


def test_the_states_of_a_client() -> None:
    wire = Wire()
    status = wire.client.status
    assert status.state() is EndpointState.IDLE
    session = wire.client.conversation = wire.client.begin(wire.now)
    assert status.state() is EndpointState.CONNECTING
    wire.run()
    assert status.state() is EndpointState.CONNECTED
    session.close(None)
    assert status.state() is EndpointState.ENDED


def test_a_client_that_only_sends_does_not_end() -> None:
    wire = Wire(P2M)
    session = wire.connect()
    session.close(None)
    assert wire.client.status.state() is EndpointState.IDLE


def test_when_the_next_attempt_is() -> None:
    wire = Wire(connect_timeout=100.0)
    wire.is_reachable = False
    client = wire.client
    client.begin(wire.now)
    assert client.status.retry_in(wire.now) is None, "it has not failed yet"
    assert client.statistics(wire.now).waits_for == ""
    wire.advance(0.01)
    left = client.status.retry_in(wire.now)
    assert left is not None
    assert 0 < left <= 0.06
    assert "attempts in a row have failed, the next attempt is in" in client.statistics(wire.now).waits_for
    assert client.status.retry_in(wire.now + 100) == 0.0
    session = next(iter(client.sessions.by_id.values()))
    client.dialing.is_due(session, wire.now + 1)
    assert client.status.retry_in(wire.now) is None, "an attempt is being made"
    assert client.statistics(wire.now).waits_for.endswith("attempts in a row have failed")


def test_a_client_waits_for_its_server_again() -> None:
    wire = Wire()
    session = wire.connect()
    wire.is_reachable = False
    wire.drop_all()
    wire.advance(1.0)
    assert session.attempts.failures > 1
    assert wire.client.status.state() is EndpointState.CONNECTING
    wire.is_reachable = True
    wire.advance(1.0)
    assert wire.client.statistics(wire.now).waits_for == ""


def test_requests_that_wait() -> None:
    wire = Wire(AR)
    wire.ask(b"x")
    wire.run()
    assert wire.client.statistics(wire.now).waits_for == "", "not yet for long"
    later = wire.client.statistics(wire.now + 2).waits_for
    assert later == "responses to 1 requests, the oldest of 2.0 s ago"
    wire.now += 0.5
    for request in wire.requests():
        request.answer(b"y")
    wire.run()
    times = wire.client.statistics(wire.now).answer_times
    assert times is not None
    assert (times.count, times.p50) == (1, 2**19 / 1e6)


def test_a_store_that_cannot_be_written() -> None:
    wire = Wire()
    hub: EndpointCore = wire.server
    journal = hub.open_journal(1, 1, lambda: None)
    assert hub.status.waits_for(0.0) == ""
    journal.error = StoreError("the disk is full")
    assert hub.statistics().waits_for == "the store: the disk is full"


def test_credit_that_is_missing() -> None:
    wire = Wire(limits=Limits(mailbox_messages=5, window_messages=8))
    session = wire.connect()
    wire.send(wire.client, session, *[b"x"] * 8)
    wire.run()
    (of_peer,) = wire.client.statistics(wire.now).peers.values()
    assert of_peer.waits_for == "", "not yet for long"
    (of_peer,) = wire.client.statistics(wire.now + 3).peers.values()
    assert of_peer.waits_for.startswith("credit: the peer's mailbox is full")
    assert of_peer.waits_for.endswith("for 3.0 s")
    assert wire.client.statistics(wire.now + 3).waits_for == of_peer.waits_for
    assert 0 < of_peer.window_share < 1
    wire.send(wire.client, session, *[b"x"] * 5)
    assert wire.client.statistics(wire.now).window_share >= 1.0, "send() waits"
    (of_server,) = wire.server.statistics(wire.now).peers.values()
    assert (of_server.mailbox_share, of_server.waits_for) == (1.0, "")


def test_a_peer_without_a_connection_is_not_silent() -> None:
    wire = Wire()
    probe_server(wire)
    (session,) = wire.server.sessions.by_id.values()
    session.detach()
    (of_peer,) = wire.server.statistics(wire.now + 5).peers.values()
    assert (of_peer.silence, of_peer.round_trip) == (0.0, None)


# -- counting -------------------------------------------------------------------------------------------


def test_a_histogram() -> None:
    histogram = Histogram()
    assert histogram.percentiles() is None
    for _ in range(99):
        histogram.add(0.001)
    histogram.add(1e9)
    found = histogram.percentiles()
    assert found is not None
    assert (found.count, found.p50, found.p99) == (100, 1024 / 1e6, 1024 / 1e6)
    assert histogram.counts[BUCKETS - 1] == 1
    assert histogram.total == pytest.approx(1e9 + 0.099)


def test_errors_are_counted_once_and_by_kind() -> None:
    counters, error = Counters(), PeerLost("gone")
    counters.failed(error, 1.0)
    counters.failed(error, 2.0)
    counters.failed(ConnectFailed("nobody"), 3.0)
    counters.failed(Refused("no", "busy"), 4.0)
    counters.failed(Refused("no", "an invention of the peer"), 5.0)
    assert counters.errors_by_kind == {"PeerLost": 1, "ConnectFailed": 1, "Refused: busy": 1, "Refused": 1}
    assert counters.last_error_at == 5.0
    assert kind_of(Refused("no", "later")) == "Refused: later"


def test_warnings_about_retries_are_limited() -> None:
    wire = listened("debug", connect_timeout=1000.0)
    wire.is_reachable = False
    for _ in range(12):
        wire.client.begin(wire.now)
    wire.run()
    wire.advance(WARN_AFTER + 1)
    assert len(lines(wire, "no connection for")) == 10


def test_an_end_that_never_sends_does_not_say_what_is_sent_again() -> None:
    wire = listened("info", pattern=P2M)
    wire.connect()
    wire.drop_all()
    wire.advance(1.0)
    assert ["sent again" in line for line in lines(wire, "resumed") if "tcp://client" in line] == [False]
    assert ["sent again" in line for line in lines(wire, "resumed") if "tcp://server" in line] == [True]


def test_a_server_that_stops_without_an_end_does_not_say_that_there_was_one() -> None:
    wire = listened("info")
    wire.connect()
    wire.server.side.ends_conversations = False
    wire.server.shutdown(wire.now)
    wire.run()
    (line,) = [line for line in lines(wire, "disconnected: ") if "tcp://client" in line]
    assert "its clients may come back" in line


def test_a_conversation_that_never_had_a_connection_has_not_ended() -> None:
    wire = listened("info", connect_timeout=1.0)
    wire.is_reachable = False
    session = wire.client.begin(wire.now)
    wire.advance(5.0)
    with pytest.raises(StateError, match=r"never connected to tcp://server:1: nobody listens; start\(\)"):
        session.send(b"x")
    for comes_back, text in ((False, "never connected"), (True, "not connected")):
        wire = listened("info")
        wire.is_reachable = False
        wire.client.context.settings.comes_back = comes_back
        session = wire.client.begin(wire.now)
        wire.client.shutdown(wire.now)
        assert str(session.error).startswith(f"{text} to tcp://server:1")
        with pytest.raises(StateError, match="has ended"):
            session.send(b"x")

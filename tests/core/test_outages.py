"""What a client does while its server is away, and what it says about that."""

from __future__ import annotations

import math
from typing import Any

import pytest

from linkbox.core.asks_client import Ask
from linkbox.core.backoff import Backoff
from linkbox.core.dialing import SPACING
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.session import WARN_AFTER, Session
from linkbox.core.wire.framings import Lines
from linkbox.errors import ConnectFailed, LinkError, PeerLost
from linkbox.events import EndpointState, EventKind
from tests.core.wire import Wire

SLOW = Backoff(initial=30.0, maximum=30.0, jitter=0.0)


class Unanswered(Wire):
    """A network on which an attempt to connect has no result, as with a machine that is off."""

    hangs = True

    def _dial(self, hub: Any, session: Session) -> None:
        if self.hangs:
            self.dialled.append(self.now)
            self.pending = session
        else:
            super()._dial(hub, session)


def listened(wire: Wire, *levels: str) -> Wire:
    for hub in wire.hubs:
        hub.effects.is_logged = levels.__contains__
    return wire


def lines(wire: Wire, words: str) -> list[str]:
    return [line for line in wire.notes if words in line]


def ask(wire: Wire) -> Ask:
    """A request on the conversation that the client keeps."""
    return wire.ask(b"?", wire.client.conversations.current(wire.now))


# -- a request ends the pause ----------------------------------------------------------------------------


def slow(**options: Any) -> Wire:
    """A client of requests that waits long for its next attempt: the first one has failed."""
    wire = Wire(AR, **{"reconnect": SLOW, "connect_timeout": 600.0, **options})
    wire.is_reachable = False
    ask(wire)
    wire.run()
    wire.advance(2.0)
    return wire


def test_a_request_connects_at_once_when_the_server_is_back() -> None:
    wire = slow()
    wire.is_reachable = True
    ask(wire)
    wire.run()
    assert len(wire.requests()) == 2, "and so has the one that has waited"


def test_many_requests_cause_one_attempt() -> None:
    wire = slow()
    before = len(wire.dialled)
    for _ in range(100):
        ask(wire)
    assert len(wire.dialled) == before + 1
    wire.advance(SPACING)
    assert len(wire.dialled) == before + 2, "for those that came after the failure, together"
    wire.advance(5 * SPACING)
    assert len(wire.dialled) == before + 2, "then the pause is that of the Backoff again"


def test_a_request_during_an_attempt_causes_no_other() -> None:
    wire = Unanswered(AR, reconnect=SLOW)
    for _ in range(10):
        ask(wire)
    wire.advance(1.0)
    assert len(wire.dialled) == 1


def test_a_message_that_nobody_waits_for_leaves_the_pause_alone() -> None:
    """Else a sensor that sends all the time would connect all the time, with thousands of others."""
    wire = Wire(P2M, reconnect=SLOW, connect_timeout=600.0)
    wire.is_reachable = False
    session = wire.client.conversations.current(wire.now)
    wire.run()
    wire.advance(1.0)
    before = len(wire.dialled)
    assert wire.client.conversations.current(wire.now) is session
    wire.advance(1.0)
    assert len(wire.dialled) == before


def test_a_request_has_the_whole_patience_of_the_client() -> None:
    wire = slow(connect_timeout=40.0)
    first = wire.client.conversations.main
    wire.advance(20.0)
    late = ask(wire)
    wire.advance(25.0)
    assert not late.is_done, "the first request would have given up now"
    wire.advance(20.0)
    assert isinstance(late.error, ConnectFailed)
    assert first is not None
    assert first.error is late.error


def test_the_error_of_a_request_is_not_that_of_an_attempt_before_it() -> None:
    wire = Unanswered(AR, reconnect=SLOW, connect_timeout=600.0)
    wire.hangs = wire.is_reachable = False
    ask(wire)
    wire.advance(2.0)
    wire.hangs = True
    late = ask(wire)
    wire.advance(601.0)
    assert "no welcome from tcp://server:1 within 602 s" in str(late.error)


def test_an_attempt_that_has_just_begun_says_less_than_the_failure_before_it() -> None:
    wire = Unanswered(AR, reconnect=SLOW, connect_timeout=20.0)
    wire.hangs = wire.is_reachable = False
    late = ask(wire)
    wire.advance(1.0)
    wire.hangs = True
    wire.advance(20.0)
    assert "nobody listens" in str(late.error)


def test_with_all_connections_in_use_the_least_busy_one_is_hurried() -> None:
    wire = Wire(AR, framing=Lines(), reconnect=SLOW, connect_timeout=600.0)
    wire.client.context.settings.connections = 1
    wire.is_reachable = False
    session = wire.client.conversations.current(wire.now)
    wire.ask(b"?", session)
    wire.advance(2.0)
    wire.is_reachable = True
    assert wire.client.conversations.least_busy(wire.now) is session
    wire.run()
    assert session.is_up


# -- requests that have failed are not undelivered -------------------------------------------------------


def test_requests_that_have_failed_are_not_counted_as_undelivered() -> None:
    wire = Wire(AR, reconnect=None)
    wire.is_reachable = False
    assert isinstance(ask(wire).error, ConnectFailed)
    wire.is_reachable = True
    lost = ask(wire)
    wire.run()
    wire.drop_all()
    assert isinstance(lost.error, LinkError)
    assert wire.client.undelivered == 0


def test_a_cancelled_request_is_not_counted_nor_is_its_cancel() -> None:
    wire = Wire(AR)
    lost = ask(wire)
    wire.run()
    wire.client.asks.cancel(lost, "no longer wanted")
    wire.client.abort()
    assert wire.client.undelivered == 0


def test_a_request_that_the_stop_ends_is_counted() -> None:
    wire = Wire(AR)
    wire.connect()
    lost = ask(wire)
    wire.client.abort()
    assert lost.error is not None
    assert wire.client.undelivered == 1


# -- what is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [P2P, P2M])
def test_a_client_that_gives_up_says_so_once(pattern: Any) -> None:
    wire = listened(Wire(pattern), "warning")
    wire.is_reachable = False
    wire.client.conversation = wire.client.begin(wire.now)
    wire.run()
    wire.advance(11.0)
    (line,) = wire.notes
    assert "gave up after 9.95 s without a connection: nobody listens" in line
    assert isinstance(wire.client.context.counters.last_error, ConnectFailed)


def test_a_client_that_was_never_answered_says_so_and_has_an_error() -> None:
    wire = listened(Unanswered(connect_timeout=2.0), "warning")
    session = wire.client.conversation = wire.client.begin(wire.now)
    wire.run()
    wire.advance(3.0)
    (line,) = wire.notes
    assert "gave up after 2 s without a connection: no welcome from tcp://server:1 within 2 s" in line
    assert wire.client.status.state() is EndpointState.ENDED
    assert wire.client.context.counters.last_error is session.error


def test_a_start_that_waits_is_told_by_its_exception() -> None:
    wire = listened(Unanswered(connect_timeout=2.0), "warning")
    wire.client.begin(wire.now)
    wire.client.dialing.callers += 1
    wire.advance(3.0)
    assert wire.notes == []


def test_a_lost_server_that_stays_away_is_given_up_with_a_line() -> None:
    wire = listened(Wire(reconnect=Backoff(initial=1.0, maximum=1.0, jitter=0.0, attempts=3)), "warning")
    wire.connect()
    wire.is_reachable = False
    wire.drop_all()
    wire.advance(5.0)
    (line,) = lines(wire, "gave up")
    assert "gave up after 2 s without a connection: the connection to server" in line


def test_an_attempt_that_is_not_answered_is_warned_of() -> None:
    wire = listened(Unanswered(connect_timeout=math.inf), "warning")
    wire.client.begin(wire.now)
    wire.run()
    assert wire.client.statistics(wire.now).waits_for == ""
    wire.advance(2.0)
    said = wire.client.statistics(wire.now).waits_for
    assert said == "a connection: an attempt is not answered for 2.0 s"
    wire.advance(WARN_AFTER)
    (line,) = wire.notes
    why = "the attempt to connect to tcp://server:1 is not answered for 10 s"
    assert f"no connection for 10 s: {why}" in line
    wire.advance(WARN_AFTER)
    assert len(wire.notes) == 2, "after twice as long"
    assert len(wire.dialled) == 1


def test_a_server_that_accepts_and_says_nothing_is_warned_of() -> None:
    wire = listened(Unanswered(connect_timeout=math.inf), "warning")
    session = wire.client.begin(wire.now)
    wire.run()
    assert wire.client.connected(session, "tcp://server:1", wire.now) is not None
    wire.client.dialing.is_due(session, wire.now + 1.0)
    assert wire.notes == [], "not yet"
    wire.client.effects.now += WARN_AFTER
    wire.client.dialing.is_due(session, wire.client.effects.now)
    wire.settle()
    (line,) = wire.notes
    assert "is accepted, and there is no welcome for 10 s" in line


def test_the_time_without_a_connection_does_not_begin_with_the_first_failure() -> None:
    """An attempt that is not answered fails late."""
    wire = listened(Unanswered(reconnect=SLOW, connect_timeout=600.0), "warning")
    wire.client.begin(wire.now)
    wire.advance(7.0)
    wire.hangs = wire.is_reachable = False
    wire.client.connect_failed(wire.pending, ConnectFailed("no answer in time"), wire.now)
    wire.advance(31.0)
    (line,) = lines(wire, "no connection for")
    assert "no connection for 37 s, after 3 attempts in a row" in line


@pytest.mark.parametrize("pattern", [P2P, AR])
def test_after_a_loss_an_attempt_that_is_not_answered_is_warned_of(pattern: Any) -> None:
    wire = listened(Unanswered(pattern), "warning")
    wire.hangs = False
    session = wire.connect()
    wire.hangs = True
    wire.drop_all()
    wire.advance(WARN_AFTER + 0.5)
    (line,) = wire.notes
    assert "no connection for 10 s: the attempt to connect to tcp://server:1 is not answered" in line
    said = wire.client.statistics(wire.now).waits_for
    assert said == "a connection: 1 attempts in a row have failed, an attempt is not answered for 10.5 s"
    wire.hangs = False
    wire.client.connected(session, "tcp://server:1", wire.now)
    assert not session.is_up
    wire.advance(1.0)
    assert len(wire.notes) == 1


# -- a plain peer that goes away, and a client that connects again ----------------------------------------


def gone(comes_back: bool) -> Wire:
    """The peer closes the connection of a client with ``reconnect=``, or without it."""
    wire = listened(Wire(framing=Lines()), "info")
    wire.client.context.settings.comes_back = comes_back
    session = wire.connect()
    for each in wire.server.sessions.by_id.values():
        each.end()
    if not comes_back:
        session.end()
    wire.advance(20.0)
    return wire


def test_a_fin_after_which_the_client_connects_again_says_so() -> None:
    wire = gone(comes_back=True)
    why = "tcp://server:1 closed the connection; connecting again"
    assert lines(wire, f"disconnected: tcp://server:1 (tcp://server:1): {why}")
    (event,) = wire.events(wire.client, EventKind.DISCONNECTED)
    assert isinstance(event[2], PeerLost)
    assert why in str(event[2])


def test_a_fin_after_which_the_client_is_done_is_the_end() -> None:
    wire = gone(comes_back=False)
    (event,) = wire.events(wire.client, EventKind.DISCONNECTED)
    assert event[2] is None
    assert not lines(wire, "connecting again")

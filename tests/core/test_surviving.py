"""What the core survives by itself: see `linkbox.surviving` for the rule."""

from __future__ import annotations

from collections import deque

import pytest

from linkbox.core.arrival import Arrival
from linkbox.core.backlog import Backlog
from linkbox.core.session import Session
from linkbox.core.timers import NEVER, RETRY, Timers
from linkbox.core.wire import frames
from linkbox.errors import PeerLost
from tests.core.wire import Wire, probe_server


class Alarm:
    """A timer that fails the first time."""

    def __init__(self, fails: bool) -> None:
        self.timer_at = NEVER
        self.fails = fails
        self.handled: list[float] = []

    def next_timer(self) -> float:
        return NEVER

    def handle_timer(self, now: float) -> None:
        self.handled.append(now)
        if self.fails and len(self.handled) == 1:
            raise SystemExit


def test_a_timer_that_fails_delays_no_other_and_is_handled_again() -> None:
    timers = Timers()
    bad, good = Alarm(fails=True), Alarm(fails=False)
    timers.schedule(bad, 1.0)
    timers.schedule(good, 2.0)
    timers.handle(2.0)
    assert (bad.handled, good.handled) == ([2.0], [2.0])
    assert [(what, type(error)) for what, error in timers.failures] == [(bad, SystemExit)]
    assert timers.soonest == 2.0 + RETRY
    timers.handle(2.0 + RETRY)
    assert bad.handled == [2.0, 2.0 + RETRY]


@pytest.mark.patches
def test_a_connection_that_cannot_be_closed_keeps_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(max_peers=3)
    probes = [probe_server(wire, session=f"{number:032x}") for number in range(2)]
    first, second = wire.server.links.links
    with monkeypatch.context() as patch:
        patch.setattr(type(first), "abort", _fails_for(first, type(first).abort))
        wire.server.links.abort_all()
    assert second.closed and not first.closed and probes
    assert [what for what, _ in wire.server.effects.failures] == [first]


def _fails_for(link: object, then: object) -> object:
    def abort(self: object, error: Exception | None) -> None:
        if self is link:
            raise ValueError
        then(self, error)  # type: ignore[operator]

    return abort


@pytest.mark.parametrize(("arrived", "is_over"), [(0, False), (1, True)])
@pytest.mark.parametrize("has_pieces", [False, True])
def test_reading_fails(arrived: int, is_over: bool, has_pieces: bool) -> None:
    """Messages that arrived and were not stored end the conversation; pieces wait for the others."""
    wire = Wire()
    probe = probe_server(wire)
    if has_pieces:
        probe.say(frames.frame(frames.PART, (100).to_bytes(8, "big") + b"x" * 10))
    (link,) = wire.server.links.links
    session = link.session
    assert session is not None
    assert (session.receiving.assembly is not None) is has_pieces
    session.receiving.arrived += arrived
    wire.server.inbox.reading_failed(link, PeerLost("unexpected"))
    assert (session.error is not None) is is_over


def test_reading_fails_during_the_handshake() -> None:
    wire = Wire()
    link = wire.server.accept("tcp://x", "1.2.3.4", 0.0)
    assert link is not None
    wire.server.inbox.reading_failed(link, PeerLost("unexpected"))
    assert link.session is None


def _two_sessions() -> tuple[Wire, Session, Session, Backlog]:
    """A server with two clients, and a backlog for what arrives from them."""
    wire = Wire(max_peers=3)
    for number in range(2):
        probe_server(wire, session=f"{number:032x}")
    first, second = wire.server.sessions.by_id.values()
    assert isinstance(first, Session) and isinstance(second, Session)
    return wire, first, second, Backlog(wire.server.context)


def _all_of(backlog: Backlog) -> list[tuple[Session, int]]:
    """What is decoded, in this order: sessions, and numbers of messages."""
    found: list[tuple[Session, int]] = []
    while again := backlog.next(deque()):
        found += [(each.session, each.last) for each in again]
    return found


def test_what_a_signal_has_interrupted_is_decoded_again() -> None:
    """It goes back into the backlog, in its place: before what has arrived since."""
    wire, first, second, backlog = _two_sessions()
    group = backlog.next(deque([_arrival(first, 1), _arrival(second, 1), _arrival(first, 2)]))
    backlog.put_back(group)
    backlog.add(deque([_arrival(first, 3), _arrival(second, 2)]))
    found = _all_of(backlog)
    assert [last for session, last in found if session is first] == [1, 2, 3]
    assert [last for session, last in found if session is second] == [1, 2]
    assert wire.server.context.mailbox.undecoded == 0


def test_what_waits_of_a_conversation_that_is_over_is_not_decoded() -> None:
    """Its peer knows that it was not acknowledged."""
    wire, first, second, backlog = _two_sessions()
    backlog.add(deque([_arrival(first, 1), _arrival(first, 2), _arrival(second, 1)]))
    assert wire.server.context.mailbox.undecoded == 3
    wire.server.sessions.close_session(first, PeerLost("gone"))
    found = _all_of(backlog)
    assert found == [(second, 1)]
    assert wire.server.context.mailbox.undecoded == 0 and not backlog.queues


def _arrival(session: Session, last: int) -> Arrival:
    return Arrival(session, [b"x"], last)


@pytest.mark.patches
def test_a_session_that_cannot_be_closed_keeps_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(max_peers=3)
    probes = [probe_server(wire, session=f"{number:032x}") for number in range(2)]
    first, second = wire.server.sessions.by_id.values()
    close = wire.server.sessions.close_session

    def fails_once(session: Session, error: Exception | None) -> None:
        if session is first and not wire.server.effects.failures:
            raise ValueError
        close(session, error)

    with monkeypatch.context() as patch:
        patch.setattr(type(wire.server.sessions), "close_session", lambda _, *args: fails_once(*args))
        wire.server.abort()
    assert second.error is not None and probes
    assert [what for what, _ in wire.server.effects.failures] == [first.peer]

"""Servers that welcome clients and are no good after that: clients back off, and try the next address."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from linkbox.core.backoff import Backoff
from linkbox.core.patterns import AR, P2M, P2P, Pattern
from linkbox.core.session import Session
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.core.wire.framings import Lines
from linkbox.errors import PeerLost, SessionLost
from linkbox.events import EventKind, Stage
from tests.core.stored import StoredWire
from tests.core.wire import Probe, Wire, welcome

BACKOFF = Backoff(jitter=0.0)
FIRST, SECOND = "tcp://first:1", "tcp://second:1"
_runs = count(1)


class Alone(Wire):
    """A client whose connections are answered by the test, one by one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.pending: deque[Session] = deque()
        self.reached: list[str] = []
        """The addresses, in the order of the connections."""
        super().__init__(*args, **{"reconnect": BACKOFF, **options})

    def _dial(self, hub: Any, session: Session) -> None:
        self.pending.append(session)

    def is_dialling(self) -> bool:
        """Does the client connect without a pause?"""
        self.advance(0.0)
        return bool(self.pending)

    def is_at(self, address: str) -> bool:
        """Is this the address that the next connection reaches?"""
        addresses = self.client.dialing.addresses
        return addresses[self.pending[0].attempts.route % len(addresses)] == address

    def accept(self) -> Probe:
        """The server's end of the next connection, which is made at once."""
        assert self.is_dialling()
        session, dialing = self.pending.popleft(), self.client.dialing
        address = dialing.addresses[session.attempts.route % len(dialing.addresses)]
        self.reached.append(address)
        link = self.client.connected(session, address, self.now)
        assert link is not None
        return Probe(self, self.client, link)

    def welcomed(self, **changes: Any) -> Probe:
        probe = self.accept()
        probe.say(welcome(**changes))
        return probe

    def reset(self, probe: Probe) -> None:
        self.client.lost(probe.link, ConnectionResetError("reset"), self.now)
        self.settle()

    def serve(self, seconds: float, behave: Callable[[Any], None]) -> int:
        """Answer all connections in that way; how many were there?"""
        until, number = self.now + seconds, 0
        while self.now < until:
            while self.pending:
                number += 1
                assert number < 500, "connections without a pause"
                behave(self)
            self.advance(0.01)
        return number


class AloneStored(Alone, StoredWire):
    """The same, with a store."""


def with_two(wire: Alone) -> Alone:
    wire.client.dialing.addresses = [FIRST, SECOND]
    return wire


def begin(wire: Alone, payload: bytes = b"x") -> Session:
    """A conversation in which something is to be sent."""
    session = wire.client.conversations.current(wire.now)
    if wire.pattern.asks:
        wire.ask(payload, session)
    elif wire.client.has_store:
        wire.client.spool(session, [payload], True)
    else:
        session.send(payload)
    wire.settle()
    return session


def goaway(probe: Probe, accepted: int = 0) -> None:
    probe.say(frames.encode_number(frames.GOAWAY, accepted))


# -- what bad servers do ---------------------------------------------------------------------------------


def breaks(wire: Alone) -> None:
    wire.reset(wire.welcomed())


def keeps(wire: Alone) -> None:
    """The server has the session, and breaks the connection."""
    wire.reset(wire.welcomed(resumed=True))


def goes_away(wire: Alone) -> None:
    goaway(wire.welcomed())


def violates(wire: Alone) -> None:
    """A message arrives, and then what may not."""
    wire.welcomed(resumed=True).say(frames.frame(frames.DATA, b"y"), frames.frame(frames.WELCOME, b"{}"))


def forgets(wire: Alone) -> None:
    probe = wire.welcomed(incarnation=f"{next(_runs):x}")
    probe.say(frames.frame(frames.DATA, b"y"))
    wire.reset(probe)


def asks_to_come_later(wire: Alone) -> None:
    wire.welcomed().say(handshake.refuse("later", "not now"))


def stutters(wire: Alone) -> None:
    """The server keeps the session, and sends one message at a time."""
    probe = wire.welcomed(resumed=True)
    probe.say(frames.frame(frames.DATA, b"y"))
    wire.reset(probe)


def ends(wire: Alone) -> None:
    probe = wire.welcomed()
    probe.say(frames.encode_number(frames.END, 0))
    wire.reset(probe)


@pytest.mark.parametrize(
    ("pattern", "behave", "most"),
    [
        (P2P, breaks, 12),
        (P2P, keeps, 12),
        (P2M, goes_away, 12),
        (AR, goes_away, 12),
        (P2P, violates, 12),
        (P2P, forgets, 12),
        (P2M, asks_to_come_later, 12),
        (P2P, stutters, 202),  # of use each time, but 20 a second are enough
        (P2M, ends, 12),
        (AR, ends, 12),
    ],
)
def test_clients_back_off(pattern: Pattern, behave: Callable[[Any], None], most: int) -> None:
    """The 12th attempt is due after about 10 s; the first two are made at once."""
    wire = Alone(pattern, resumes=True)
    begin(wire)
    assert 8 < wire.serve(10, behave) <= most


def test_clients_with_a_store_back_off() -> None:
    wire = AloneStored(P2M, stores={"client"})
    begin(wire)
    assert 8 < wire.serve(10, goes_away) <= 12
    assert wire.stores["client"].counts()["spool"] == 1


# -- orderly ends count as nothing -----------------------------------------------------------------------


def test_an_orderly_restart_is_followed_at_once() -> None:
    wire = Alone(P2M)
    session = begin(wire)
    for _ in range(5):
        probe = wire.welcomed()
        wire.advance(1)
        begin(wire, b"y")
        goaway(probe, 1)
        assert wire.is_dialling()
        assert session.latest().attempts.failures == 0
    probe = wire.welcomed()
    probe.heard()
    goaway(probe)
    assert wire.is_dialling() and session.latest().attempts.failures == 1


def test_a_connection_that_lasted_counts_as_good() -> None:
    wire = Alone(P2P)
    session = begin(wire)
    wire.serve(2, forgets)
    wire.advance(10)
    probe = wire.welcomed(incarnation="aa")
    session = session.latest()
    assert session.attempts.renewals > 2 and session.attempts.failures > 1
    wire.advance(BACKOFF.maximum)
    wire.reset(probe)
    assert wire.is_dialling() and (session.attempts.renewals, session.attempts.failures) == (0, 1)


def test_a_server_that_resumes_has_not_forgotten() -> None:
    wire = Alone(P2P)
    session = begin(wire)
    wire.serve(1, forgets)
    wire.advance(10)
    session = session.latest()
    assert session.attempts.renewals > 1
    probe = wire.welcomed(resumed=True, incarnation=session.generation.incarnation)
    assert session.attempts.renewals == 0
    wire.advance(1)
    probe.say(frames.frame(frames.DATA, b"y"))
    wire.reset(probe)
    assert session.attempts.failures == 1 and wire.is_dialling()


@pytest.mark.parametrize("reconnect", [None, Backoff(attempts=2, jitter=0.0)])
def test_a_limit_of_attempts_counts_servers_that_go_away(reconnect: Backoff | None) -> None:
    wire = Alone(P2M, reconnect=reconnect)
    session = begin(wire)
    assert wire.serve(2, goes_away) == (1 if reconnect is None else 3)
    assert isinstance(session.latest().error, PeerLost) and not wire.client.sessions.by_id


@pytest.mark.parametrize(("reconnect", "attempts"), [(None, 2), (Backoff(attempts=2, jitter=0.0), 3)])
def test_with_a_store_the_limit_leaves_it_in_the_store(reconnect: Backoff | None, attempts: int) -> None:
    wire = AloneStored(P2M, stores={"client"}, reconnect=reconnect)
    session = begin(wire)
    assert wire.serve(2, goes_away) == attempts
    assert isinstance(session.latest().error, PeerLost) and not wire.client.sessions.by_id
    assert wire.stores["client"].counts()["spool"] == 1


def test_a_refusal_on_an_open_connection_is_a_lost_connection() -> None:
    """The session knows that it is down: otherwise it would never connect again."""
    wire = Alone(P2P)
    session = begin(wire)
    asks_to_come_later(wire)
    assert not session.is_up and wire.is_dialling()
    assert EventKind.DISCONNECTED in wire.kinds(wire.client)


def test_a_refusal_for_good_with_a_store_is_tried_again() -> None:
    wire = AloneStored(P2M, stores={"client"})
    begin(wire)
    wire.welcomed().say(handshake.refuse("disconnected", "out"))
    assert wire.is_dialling()


# -- several addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [P2M, AR])
def test_after_goaway_the_next_address_has_its_turn(pattern: Pattern) -> None:
    wire = with_two(Alone(pattern))
    session = begin(wire)
    goes_away(wire)
    probe = wire.welcomed()
    assert wire.reached == [FIRST, SECOND]
    kinds = probe.kinds()
    assert kinds[-1] == ("ASK" if pattern is AR else "DATA"), "nothing is in doubt: it is sent there"
    assert session.latest().error is None


def test_after_a_violation_the_next_address_has_its_turn() -> None:
    wire = with_two(Alone(P2P))
    session = wire.client.conversations.current(wire.now)
    wire.settle()
    violates(wire)
    breaks(wire)
    assert wire.reached == [FIRST, SECOND]
    assert isinstance(session.error, SessionLost) and not session.error.in_doubt


def test_a_violation_is_one_however_long_the_connection_lasted() -> None:
    wire = with_two(Alone(P2P))
    session = wire.client.conversations.current(wire.now)
    wire.settle()
    for _ in range(3):
        probe = wire.welcomed(resumed=True)
        wire.advance(BACKOFF.maximum)
        probe.say(frames.frame(frames.WELCOME, b"{}"))
        wire.advance(1)
    assert wire.reached == [FIRST, SECOND, FIRST] and session.attempts.failures == 3


@pytest.mark.parametrize("behave", [keeps, violates])
def test_what_is_in_doubt_is_asked_of_the_same_server_once(behave: Callable[[Any], None]) -> None:
    """It may have the message, and may say so. After that it is in doubt, and not sent to another server."""
    wire = with_two(Alone(P2P))
    session = wire.client.conversations.current(wire.now)
    receipt = session.send(b"x")
    wire.settle()
    behave(wire)
    behave(wire)
    assert receipt.error is None
    wire.advance(1)
    probe = wire.welcomed(incarnation="other")
    assert wire.reached == [FIRST, FIRST, SECOND]
    assert isinstance(receipt.error, SessionLost) and receipt.stage is Stage.FAILED
    assert "DATA" not in probe.kinds()


def test_attempts_before_the_welcome_do_not_count_against_a_server() -> None:
    wire = with_two(Alone(P2P))
    session = wire.client.conversations.current(wire.now)
    receipt = session.send(b"x")
    wire.settle()
    for _ in range(4):
        wire.accept().say(frames.preface(), handshake.refuse("busy", "no"))
        wire.advance(1)
    assert session.attempts.failures == 4
    keeps(wire)
    wire.advance(1)
    keeps(wire)
    assert wire.reached == [FIRST, SECOND] * 2 + [FIRST] * 2 and receipt.error is None


def test_a_server_that_forgets_each_session_is_left() -> None:
    wire = with_two(Alone(P2P))
    begin(wire)
    wire.serve(3, lambda wire: forgets(wire) if wire.is_at(FIRST) else wire.welcomed())
    assert wire.reached == [FIRST] * 4 + [SECOND]


def test_the_same_server_may_resume_first() -> None:
    wire = with_two(Alone(P2P))
    receipt = begin(wire).send(b"y")
    breaks(wire)
    probe = wire.welcomed(resumed=True, received=2)
    assert wire.reached == [FIRST, FIRST]
    probe.say(frames.encode_ack(2, 0, 1 << 30, 1 << 30))
    assert receipt.stage is Stage.RECEIVED
    wire.advance(1)
    wire.reset(probe)
    wire.welcomed(resumed=True, received=2)
    assert wire.reached == [FIRST] * 3, "a connection of use: its server comes first"


def test_a_bad_server_is_not_preferred_by_new_conversations() -> None:
    """Without keep_alive, each request has its own: the connection of one says what the next one does."""
    wire = with_two(Alone(AR, resumes=False))
    for _ in range(3):
        wire.ask(b"x")
        breaks(wire)
    assert wire.reached == [FIRST, SECOND, FIRST]


def test_another_session_that_has_moved_on_already_is_left_alone() -> None:
    wire = with_two(Alone(AR, resumes=False))
    wire.ask(b"x")
    wire.ask(b"y")
    first, second = wire.welcomed(), wire.welcomed()
    wire.reset(first)
    wire.reset(second)
    wire.ask(b"z")
    wire.welcomed()
    assert wire.reached == [FIRST, FIRST, SECOND]


# -- plain framings --------------------------------------------------------------------------------------


def plain_end(wire: Alone) -> None:
    probe = wire.accept()
    probe.eof()
    wire.settle()


def test_a_plain_server_that_answers_nothing_is_left() -> None:
    wire = with_two(Alone(AR, framing=Lines(), resumes=False))
    for _ in range(2):
        wire.ask(b"x")
        plain_end(wire)
    assert wire.reached == [FIRST, SECOND]


def test_a_gateway_without_its_device_is_left() -> None:
    wire = with_two(Alone(P2P, framing=Lines()))
    wire.client.context.settings.comes_back = True
    wire.client.conversations.current(wire.now)
    wire.settle()
    wire.serve(0.3, plain_end)
    assert wire.reached[:3] == [FIRST, SECOND, FIRST]

"""Events behind a callback that blocks: what waits is bounded."""

from __future__ import annotations

import pytest

import linkbox.core.event_queue
from linkbox.core.effects import LimitedLines
from linkbox.core.event_queue import EventQueue
from linkbox.core.patterns import AR
from linkbox.core.settings import Counters
from linkbox.core.wire.framings import Lines
from linkbox.events import EventKind, Peer
from linkbox.limits import Limits
from tests.core.wire import Wire, probe_client, probe_server

UP, DOWN, DATA = EventKind.CONNECTED, EventKind.DISCONNECTED, EventKind.DATA
PEERS = [Peer(name, "tcp://x", name, 0.0) for name in "ab"]


@pytest.mark.patches
def test_events_of_connections_are_dropped_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a peer there is CONNECTED and DISCONNECTED, or neither; what is dropped is counted, logged once."""
    monkeypatch.setattr(linkbox.core.event_queue, "MOST_EVENTS", 3)
    wire = Wire(max_peers=10)
    wire.calls_back = False
    wire.server.effects.events.listening = {UP, DOWN}
    for number in range(5):
        probe_server(wire, session=f"{number:032x}")
    wire.server.abort()
    queue = wire.server.effects.events
    found = [queue.take() for _ in range(len(queue.events))]
    ups = [each.peer for each in found if each.kind is UP]
    assert len(ups) == 3
    assert [each.peer for each in found if each.kind is DOWN] == ups
    assert wire.server.statistics().events_dropped >= 2
    wire.settle()
    assert len([text for text in wire.notes if "callback that blocks" in text]) == 1
    assert queue.others == 0 and not queue.is_overflowing


def test_messages_take_over_data_events_of_others_that_are_gone() -> None:
    queue = EventQueue(0.0, Counters(), most_data=2)
    assert not queue.takes_over(PEERS[0])  # nobody listens
    queue.listening = {DATA}
    for peer in PEERS:
        assert not queue.takes_over(peer)
        assert not queue.takes_over(peer, 2)
        assert queue.takes_over(peer)
        queue.add(DATA, peer, None, None, 1, 0.0)
        queue.add(DATA, peer, None, None, 2, 0.0)
    queue.take()
    assert queue.takes_over(PEERS[0])  # two wait
    while queue.events:
        queue.take()
    assert not queue.takes_over(PEERS[0])
    assert queue.forget_data() == 0


def test_where_credit_limits_them_nothing_takes_over() -> None:
    queue = EventQueue(0.0, Counters(), most_data=None)
    queue.listening = {DATA}
    assert not any(queue.takes_over(PEERS[0]) for _ in range(100))


def test_the_count_of_lines_is_not_logged_before_the_minute_is_over() -> None:
    wire = Wire()
    effects = wire.server.effects
    lines = LimitedLines(effects, "lines of this test")
    allowed = [lines.allows() for _ in range(20)]
    assert allowed.count(False) == 10
    lines.handle_timer(lines.next_timer() - 1.0)
    wire.settle()
    assert not any("of this test" in text for text in wire.notes)
    lines.handle_timer(lines.next_timer())
    wire.settle()
    assert any("10 more lines of this test" in text for text in wire.notes)


def test_responses_that_are_taken_leave_no_more_data_events_than_the_mailbox_has_room_for() -> None:
    """A callback blocks, and the application takes the responses without it."""
    wire = Wire(AR, framing=Lines(), client_limits=Limits(mailbox_messages=2))
    wire.calls_back = False
    probe = probe_client(wire, greets=False)
    for number in range(5):
        probe.say(b"%d\n" % number)
        [answer] = wire.client.mailbox.take_all()
        assert answer.value == b"%d" % number
    wire.calls_back = True
    wire.settle()
    assert len(wire.events(wire.client, DATA)) == 2

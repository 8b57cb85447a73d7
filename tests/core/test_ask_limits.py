"""What requests may cost a server: turns, shares of memory, answers that nobody takes, linear work."""

from __future__ import annotations

import sys
from itertools import count
from types import FrameType
from typing import Any

import pytest

from linkbox.core.asks_client import Ask
from linkbox.core.incoming_asks import OVERHEAD, IncomingAsk
from linkbox.core.patterns import AR, P2P
from linkbox.core.request_mailbox import RequestMailbox
from linkbox.core.session import Session
from linkbox.core.source import Source
from linkbox.core.wire import frames
from linkbox.core.wire.framings import Lines, Raw
from linkbox.errors import PeerLost
from linkbox.events import EventKind
from linkbox.limits import Limits
from linkbox.operations.predicates import HasSlot
from tests.core.wire import PEER, Probe, Wire, probe_client, probe_server

MOST = 1 << 62


def ask(id: int, body: bytes = b"", flags: int = 0) -> bytes:
    return frames.encode_ask(id, flags, None, body)


def session_of(wire: Wire, number: int = 0) -> Session:
    return list(wire.server.sessions.by_id.values())[number]


def probes(wire: Wire, number: int, **options: Any) -> list[Probe]:
    return [probe_server(wire, session=f"{each:032x}", **options) for each in range(number)]


def drop(wire: Wire, probe: Probe) -> None:
    wire.server.lost(probe.link, ConnectionResetError("cut"), wire.now)
    wire.settle()


# --- The mailbox --------------------------------------------------------------------------------------


class Sources:
    """A mailbox, and sources that put numbered items into it."""

    def __init__(self, number: int) -> None:
        self.box = RequestMailbox(Limits())
        self.sources = [Source(PEER) for _ in range(number)]
        self.numbers = [count(1) for _ in self.sources]

    def put(self, *which: int, at: float = 0.0) -> None:
        for each in which:
            number = next(self.numbers[each])
            self.box.put(self.sources[each], (f"{each}.{number}",), number, 10, at)


def test_sources_take_turns() -> None:
    all = Sources(3)
    all.put(0, 0, 0, 1, 2, 2)
    assert all.box.count == 6 and all.box.nbytes == 60
    taken = [all.box.take() for _ in range(4)]
    assert taken == ["0.1", "1.1", "2.1", "0.2"]
    all.put(1)
    assert all.box.take_count(2) == ["2.2", "0.3"]
    assert all.box.take_all() == ["1.2"]
    assert all.box.count == all.box.nbytes == 0 and not all.box.sources
    assert all.box.take_all() == []


def test_one_source_may_be_asked() -> None:
    all = Sources(2)
    all.put(0, 1, 1)
    item, batch, number = all.box.take_message(all.sources[1])
    assert (item, batch.source, number) == ("1.1", all.sources[1], 1)
    assert all.box.take_all(all.sources[1]) == ["1.2"]
    assert all.box.take_all(all.sources[1]) == []
    assert all.box.take(all.sources[0]) == "0.1"


@pytest.mark.parametrize(("ack_each", "asked_for"), [(True, [1, 2]), (False, [2])])
@pytest.mark.patches
def test_each_taken_request_may_have_to_be_acknowledged(ack_each: bool, asked_for: list[int]) -> None:
    class Acknowledging(Source):
        def request_ack(self, urgency: int) -> None:
            found.append(self.taken)

    found: list[int] = []
    all = Sources(1)
    all.sources = [Acknowledging(PEER)]
    all.put(0, 0)
    all.sources[0].ack_each = ack_each
    assert [all.box.take(), all.box.take()] == ["0.1", "0.2"]
    assert found == asked_for


def test_single_items_that_arrive_apart_are_batches_of_their_own() -> None:
    all = Sources(1)
    all.put(0, at=0.0)
    all.put(0, at=1.0)
    assert [all.box.take_message()[1].received_at for _ in range(2)] == [0.0, 1.0]


def test_what_is_suspended_does_not_count() -> None:
    all = Sources(2)
    box, (first, second) = all.box, all.sources
    box.suspend(first)
    all.put(0, 1, 0)
    assert box.count == 1 and box.nbytes == 10 and first.waiting == 2
    box.suspend(second)
    assert box.count == 0 and not box.has()
    box.resume(first)
    assert (box.count, box.nbytes) == (2, 20)
    assert box.take_all() == ["0.1", "0.2"]
    box.resume(first)
    assert box.count == 0
    box.resume(second)
    assert box.take() == "1.1"


def test_what_is_discarded_is_gone() -> None:
    all = Sources(3)
    all.put(0, 1, 2, 1)
    all.box.suspend(all.sources[2])
    for each in all.sources[1:]:
        all.box.discard(each)
        assert each.waiting == each.waiting_bytes == 0
    assert (all.box.count, all.box.nbytes) == (1, 10)
    all.put(0)
    assert [all.box.take(), all.box.take()] == ["0.1", "0.2"]


def test_requests_of_a_client_that_is_gone_are_not_kept() -> None:
    wire = Wire(AR)
    probe = probe_server(wire, resumes=False)
    probe.say(*(ask(id, b"x") for id in range(1, 10)))
    assert wire.server.mailbox.count == 9
    drop(wire, probe)
    assert wire.server.mailbox.count == 0 and not wire.server.sessions.by_id
    memory = wire.server.asks.memory
    assert memory.gathered == memory.kept == wire.server.asks.open_count == 0


# --- Answers that nobody takes ------------------------------------------------------------------------


def test_a_peer_that_takes_no_answers_is_suspended_until_it_does() -> None:
    limits = Limits(window_bytes=3 * (100 + OVERHEAD))
    wire = Wire(AR, limits=limits)
    [slow, quick] = probes(wire, 2)
    slow.say(*(ask(id, b"x") for id in range(1, 11)))
    requests = wire.requests()
    assert len(requests) == 10
    slow.say(*(ask(id, b"x") for id in range(11, 21)))
    slow.heard()
    for _ in range(3):
        requests.popleft().answer(bytes(100))
    assert wire.server.mailbox.count == 0
    assert frames.ACK_NOW in [kind for kind, _ in slow.heard()]
    quick.say(ask(1, b"y"))
    assert [request.data for request in wire.requests()] == [b"y"]  # others are not concerned
    requests.popleft().answer(bytes(200))  # what was begun may be answered
    slow.say(frames.encode_ack(1, 1, MOST, MOST))
    assert wire.server.mailbox.count == 0
    assert frames.ACK_NOW in [kind for kind, _ in slow.heard()]  # there is still too much
    slow.say(frames.encode_ack(1, 1, MOST, MOST))
    assert frames.ACK_NOW not in [kind for kind, _ in slow.heard()]  # nothing has changed
    slow.say(frames.encode_ack(2, 2, MOST, MOST))
    assert wire.server.mailbox.count == 10
    assert wire.server.asks.memory.kept == 2 * OVERHEAD + 300
    wire.advance(1.0)
    assert session_of(wire).receiving.granted_units > 1000


def test_over_lines_the_next_request_begins_when_the_answers_are_taken() -> None:
    wire = Wire(AR, framing=Lines(), limits=Limits(window_bytes=100))
    probe = probe_server(wire, greets=False)
    session = session_of(wire)
    probe.say(b"one\ntwo\n")
    [request] = wire.requests()
    wire.server.answer(request._incoming, bytes(100))  # nothing is written yet
    assert session.sending.queue and not wire.server.effects.to_read
    wire.settle()
    assert [request.data for request in wire.requests()] == [b"two"]


def test_answers_of_all_peers_share_a_limit() -> None:
    """Each may have as much as is left over then; one that has nothing may begin in any case."""
    wire = Wire(AR, limits=Limits(mailbox_total=4 * OVERHEAD, message=OVERHEAD // 2))
    for probe in probes(wire, 3):
        probe.say(*(ask(id) for id in range(1, 9)))
    limit, begun = wire.server.asks.memory.limit, 0
    while requests := wire.requests():
        for request in requests:
            request.answer(b"")
            begun += 1
        assert begun <= limit // OVERHEAD + 24
    assert wire.server.asks.memory.kept >= limit


def test_there_is_no_room_for_the_answers_of_many_that_are_gone() -> None:
    """A session whose answers are over its share is closed: when its connection is lost, and later."""
    wire = Wire(AR, limits=Limits(mailbox_total=20_000, message=4000))
    [first, second, third] = probes(wire, 3)
    for probe in (first, second, third):
        probe.say(ask(1), ask(2))
    requests = wire.requests()
    for request in list(requests)[:2]:
        request.answer(bytes(3500))  # of the first and the second
    drop(wire, first)
    drop(wire, second)
    assert len(wire.server.sessions.by_id) == 3
    drop(wire, third)
    list(requests)[2].answer(bytes(3500))
    list(requests)[3].answer(bytes(3500))
    assert len(wire.server.sessions.by_id) == 2
    list(requests)[4].answer(bytes(3500))
    errors = [event.error for event in wire.events(wire.server, EventKind.ERROR)]
    assert all(isinstance(error, PeerLost) for error in errors)
    assert wire.server.asks.memory.kept <= 20_000


# --- Halves -------------------------------------------------------------------------------------------

SMALL = Limits(mailbox_total=100_000, message=10_000)


def test_a_client_has_half_of_what_is_left() -> None:
    wire = Wire(AR, limits=SMALL)
    [greedy, other] = probes(wire, 2)
    greedy.say(*(ask(id, bytes(9000), frames.MORE_OF_MESSAGE) for id in range(1, 11)))
    failed = [payload for kind, payload in greedy.heard() if kind == frames.FAIL]
    assert {frames.decode_fail(each)[1] for each in failed} == {"linkbox.TooLarge"}
    assert "all clients share 100000" in frames.decode_fail(failed[0])[2]
    assert 40_000 < wire.server.asks.memory.gathered <= 50_000
    other.say(*(ask(id, bytes(9000), frames.MORE_OF_MESSAGE) for id in (1, 2)))
    assert "FAIL" not in other.kinds()
    greedy.say(ask(1, b"end"))
    [request] = wire.requests()
    assert len(request.data) == 9003


def test_halves_of_the_silent_make_room() -> None:
    """Who has sent nothing for long has the oldest halves: they fail when somebody else needs room."""
    wire = Wire(AR, limits=SMALL)
    [silent, slow, late] = probes(wire, 3)

    def halves(probe: Probe, *ids: int) -> list[str]:
        probe.heard()
        probe.say(*(ask(id, bytes(9000), frames.MORE_OF_MESSAGE) for id in ids))
        return probe.kinds()

    assert "FAIL" not in halves(silent, 1, 2, 3, 4) + halves(slow, 1, 2) + halves(late, 1, 2)
    assert halves(late, 3).count("FAIL") == 1  # for the moment there is no room
    wire.advance(SMALL.progress - 1)
    slow.say(ask(1, b"x", frames.MORE_OF_MESSAGE))
    wire.advance(2)
    assert "FAIL" not in halves(late, 4) + slow.kinds()
    failed = [frames.decode_fail(payload) for kind, payload in silent.heard() if kind == frames.FAIL]
    assert [id for id, *_ in failed] == [1, 2, 3, 4]
    assert failed[0][1] == "limit" and "not completed in time" in failed[0][2]


def test_halves_of_those_that_are_gone_make_room_first() -> None:
    """As many of them as it takes; the client learns of it when it returns."""
    wire = Wire(AR, limits=SMALL)
    all = probes(wire, 4)
    for probe, number in zip(all, (4, 2, 2, 1), strict=True):
        probe.say(*(ask(id, bytes(9000), frames.MORE_OF_MESSAGE) for id in range(1, number + 1)))
    [stays, first, second, late] = all
    drop(wire, first)
    drop(wire, second)
    late.heard()
    late.say(*(ask(id, bytes(9000), frames.MORE_OF_MESSAGE) for id in (2, 3)))
    assert {"FAIL"}.isdisjoint(late.kinds() + stays.kinds())
    again = probe_server(wire, session=f"{2:032x}", epoch=2, born=1)
    failed = [frames.decode_fail(payload)[:2] for kind, payload in again.heard() if kind == frames.FAIL]
    assert failed == [(1, "limit"), (2, "limit")]


def test_as_many_halves_fail_as_are_in_the_way() -> None:
    """One more piece may need the memory of several clients that are gone."""
    wire = Wire(AR, limits=SMALL)
    size = 9000 - OVERHEAD
    [stays, first, second, late] = all = probes(wire, 4)
    for probe, number in zip(all, (5, 1, 1, 2), strict=True):
        probe.say(*(ask(id, bytes(size), frames.MORE_OF_MESSAGE) for id in range(1, number + 1)))
    assert wire.server.asks.memory.gathered == 9 * 9000
    drop(wire, first)
    drop(wire, second)
    late.say(ask(3, bytes(size), frames.MORE_OF_MESSAGE))
    assert {"FAIL"}.isdisjoint(late.kinds() + stays.kinds())
    assert wire.server.asks.memory.gathered == (5 + 3) * 9000


def test_the_end_fails_what_is_not_complete() -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    probe.say(ask(1, b"half", frames.MORE_OF_ASK), ask(2, b"whole"), frames.encode_number(frames.END, 2))
    [failure] = [payload for kind, payload in probe.heard() if kind == frames.FAIL]
    assert frames.decode_fail(failure)[:2] == (1, "RequestFailed")
    [request] = wire.requests()
    request.answer(b"done")
    assert probe.kinds() == ["ANSWER", "END"]


def add(wire: Wire, probe: Probe, id: int, *memory: int, decodes: bool = True) -> None:
    """Say a message of a request that goes on for each of these: when it is decoded, it takes so much."""
    wire.decodes = False
    probe.say(*(ask(id, b"x", frames.MORE_OF_ASK) for _ in memory))
    for (_, arrival), each in zip(wire.undecoded[-len(memory) :], memory, strict=True):
        arrival.memory = each
    if decodes:
        wire.decodes = True
        wire.decode_all()


def failures(probe: Probe) -> list[tuple[int, str]]:
    return [frames.decode_fail(payload)[:2] for kind, payload in probe.heard() if kind == frames.FAIL]


def test_what_is_decoded_of_a_request_counts_as_what_it_takes() -> None:
    """A message of some bytes may be a thousand objects."""
    wire = Wire(AR, limits=SMALL)
    [greedy, other] = probes(wire, 2)
    add(wire, greedy, 1, 20_000, 20_000)
    memory = wire.server.asks.memory
    assert 40_000 < memory.gathered < 45_000 and not failures(greedy)
    [half] = wire.server.asks._of(session_of(wire)).open.values()
    add(wire, greedy, 1, 20_000)
    assert failures(greedy) == [(1, "linkbox.TooLarge")]
    assert memory.gathered == 0 and not half.messages
    add(wire, other, 1, 20_000)
    other.say(ask(1, b"end"))
    [request] = wire.requests()
    assert request.messages == (b"x", b"end") and not failures(other)
    assert memory.gathered == 0


def test_a_complete_request_counts_until_the_mailbox_has_it() -> None:
    """Its last message may have to wait for room; it is not one of the halves meanwhile."""
    wire = Wire(AR, limits=SMALL)
    [gone, late] = probes(wire, 2)
    add(wire, gone, 1, 20_000)
    add(wire, gone, 2, 20_000)
    wire.decodes = False
    gone.say(ask(1, b"end"))
    [waiting] = wire.undecoded
    drop(wire, gone)
    memory = wire.server.asks.memory
    assert memory.gathered > 40_000
    wire.undecoded.clear()
    add(wire, late, 1, 30_000)
    add(wire, late, 1, 5_000)  # makes room: request 2 of the peer that is gone fails
    assert not failures(late) and 55_000 < memory.gathered < 60_000
    add(wire, late, 2, 20_000)
    assert failures(late) == [(2, "linkbox.TooLarge")], "request 1 waits as before"
    wire.undecoded.append(waiting)
    wire.decode_all()
    assert 35_000 < memory.gathered < 40_000 and wire.server.mailbox.nbytes == 20_000
    [request] = wire.requests()
    assert request.messages == (b"x", b"end")


def test_the_end_leaves_a_complete_request_that_waits() -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    add(wire, probe, 1, 100)
    wire.decodes = False
    probe.say(ask(1, flags=frames.NO_MESSAGE), frames.encode_number(frames.END, 2))
    assert not failures(probe)
    wire.decode_all()
    [request] = wire.requests()
    assert request.messages == (b"x",)


def test_a_session_that_is_closed_keeps_nothing_of_its_requests() -> None:
    """What waits to be decoded may refer to them for a while."""
    wire = Wire(AR)
    probe = probe_server(wire, resumes=False)
    add(wire, probe, 1, 20_000)
    add(wire, probe, 1, 20_000, decodes=False)
    [(_, arrival)] = wire.undecoded
    drop(wire, probe)
    assert isinstance(arrival.ask, IncomingAsk) and not arrival.ask.messages and not arrival.ask.held
    wire.decode_all()
    assert wire.server.asks.memory.gathered == 0 and not arrival.ask.messages


@pytest.mark.parametrize("is_bytes", [False, True])
def test_a_full_mailbox_takes_no_large_request(is_bytes: bool) -> None:
    """Of each peer it has room for what one message may cost, not for all that was gathered before."""
    limits = Limits(mailbox_total=100_000, message=10_000, decoded=10_000)
    wire = Wire(AR, limits=limits, is_bytes=is_bytes)
    all = probes(wire, 5)

    def request(probe: Probe, size: int) -> list[tuple[int, str]]:
        for _ in range(0, size, 8000):
            probe.say(ask(1, bytes(8000), frames.MORE_OF_ASK))
        probe.say(ask(1, flags=frames.NO_MESSAGE))
        return failures(probe)

    for probe in all[:3]:
        assert not request(probe, 40_000)
    assert wire.server.mailbox.is_full_together()
    assert request(all[3], 16_000) == [(1, "limit")]
    assert not request(all[4], 8000)
    assert wire.server.asks.memory.gathered == 0
    assert len(wire.requests()) == 4


def test_over_raw_half_a_request_that_is_silent_makes_room() -> None:
    wire = Wire(AR, framing=Raw(), limits=SMALL)
    first = probe_server(wire, greets=False)
    first.say(bytes(9000))
    others = [probe_server(wire, greets=False) for _ in range(20)]
    for probe in others:
        probe.say(bytes(9000))
    assert not first.is_closed and any(probe.is_closed for probe in others)
    wire.advance(SMALL.progress + 1)
    late = probe_server(wire, greets=False)
    late.say(bytes(9000))
    assert first.is_closed and not late.is_closed
    late.eof()
    assert len(wire.requests()) == 1


def test_a_frame_of_the_other_side_is_a_violation() -> None:
    wire = Wire(AR)
    probe = probe_server(wire)
    probe.say(frames.encode_answer(1, 0, b"x"))
    assert probe.is_closed and "ANSWER from the wrong side" in str(probe.link.error)


def test_dropped_beyond_what_was_sent_is_a_violation() -> None:
    wire = Wire(P2P)
    probe = probe_server(wire)
    probe.say(frames.encode_dropped(1, 1))
    assert probe.is_closed and "dropped unit 1; 0 were sent" in str(probe.link.error)


def test_over_lines_a_command_is_ignored() -> None:
    wire = Wire(AR, framing=Lines())
    probe = probe_server(wire, greets=False)
    probe.say(b"command\nquestion\n")
    [command] = wire.requests()
    wire.server.ignore(command._incoming)
    wire.settle()
    [question] = wire.requests()
    question.answer(b"answer")
    assert probe.raw() == b"answer\n"


def test_over_lines_nothing_begins_after_the_end() -> None:
    wire = Wire(AR, framing=Lines())
    probe = probe_server(wire, greets=False)
    session_of(wire).ending.is_requested = True
    probe.say(b"too late\n")
    assert not wire.requests() and not wire.server.asks.memory.gathered


# --- The client ---------------------------------------------------------------------------------------


def _asks_without_credit(wire: Wire) -> tuple[Session, Probe, list[Ask]]:
    """Three requests; of the second, which is large, some pieces are sent, of the third nothing."""
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session, credit=(1000 + frames.MAX_ASK_PIECE, MOST))
    return session, probe, [wire.ask(bytes(size), session) for size in (900, 3 * frames.MAX_ASK_PIECE, 10)]


def test_a_request_that_was_not_sent_is_taken_back() -> None:
    wire = Wire(AR)
    session, probe, [first, large, last] = _asks_without_credit(wire)
    before = session.sending.held_bytes
    probe.heard()
    for each in (last, large, first):
        wire.client.asks.cancel(each, "enough")
    wire.settle()
    cancels = [frames.encode_cancel(each.id, "enough") for each in (large, first)]
    pieces = session.sending.unacked
    assert len(pieces) >= 2 and session.sending.held_bytes < before
    probe.say(frames.encode_ack(0, 0, MOST, MOST))
    assert [(kind, payload) for kind, payload in probe.heard() if kind == frames.CANCEL] == [
        (frames.CANCEL, each[4:]) for each in cancels
    ]
    assert not session.sending.queue
    sent = session.sending.sent
    probe.say(frames.encode_ack(sent, sent, MOST, MOST))
    assert session.sending.held_bytes == 0


def test_a_client_acknowledges_many_answers_soon() -> None:
    """A server keeps them until then; it may hold only so much."""
    wire = Wire(AR, client_limits=Limits(mailbox_bytes=4000))
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    asks = [wire.ask(b"x", session) for _ in range(4)]
    probe.heard()
    for each in asks:
        probe.say(frames.encode_answer(each.id, 0, bytes(600)))
    assert "ACK" in probe.kinds()


def test_a_request_that_is_over_lets_one_caller_go_on() -> None:
    """Of the callers that wait, the first: the others would find no slot."""
    wire = Wire(AR, client_limits=Limits(asks=2))
    session, asks = wire.connect(), wire.client.asks
    first, _ = wire.ask(b"1", session), wire.ask(b"2", session)
    asks.slots.waiters[object()] = HasSlot(asks)
    assert asks.slots.available() == 0
    asks.cancel(first, "enough")
    assert asks.slots in wire.client.effects.to_wake
    assert asks.slots.available() == 1


# --- The work is linear -------------------------------------------------------------------------------


class Steps:
    """Counts the lines of Python that are run, so that a loop over all requests is seen."""

    def __init__(self) -> None:
        self.count = 0

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        self.count += 1
        return self._step

    def __enter__(self) -> Steps:
        self._outer = sys.gettrace()
        sys.settrace(self._step)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._outer)


def _steps(connections: int, requests: int) -> float:
    """Lines for each request, if so many connections send so many lines at once."""
    wire = Wire(AR, framing=Lines())
    all = [probe_server(wire, greets=False) for _ in range(connections)]
    with Steps() as steps:
        for probe in all:
            probe.say(b"x\n" * requests)
        left = connections * requests
        while left:
            for request in wire.requests():
                request.answer(b"y")
                left -= 1
        for probe in all:
            drop(wire, probe)
    assert not wire.server.asks.open_count and not wire.server.asks.memory.gathered
    return steps.count / (connections * requests)


@pytest.mark.parametrize(("connections", "requests"), [(1, 990), (40, 25)])
def test_a_request_costs_the_same_however_many_there_are(connections: int, requests: int) -> None:
    assert _steps(connections, requests) < 1.3 * _steps(1, 50)

"""The mailbox: order, views, counts, limits, overflow; each message is taken exactly once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.channel import Channel, OutgoingMessage
from linkbox.core.durable.inbox import InboxMarks
from linkbox.core.durable.write_schedule import Touchable, WriteSchedule
from linkbox.core.effects import Effects
from linkbox.core.mailbox import FAST_COUNT, OVERFLOW_POLICIES, Mailbox
from linkbox.core.settings import Counters
from linkbox.core.source import Source
from linkbox.core.timers import NEVER
from linkbox.core.wait_queue import ENDLESS
from linkbox.errors import EndOfData
from linkbox.events import Peer
from linkbox.limits import Limits
from tests.core.wire import PEER


class Tap:
    """A source that counts how often it reports that something was taken (to its store)."""

    def __init__(self) -> None:
        self.told = 0
        self.taken: list[int] = []
        """What was taken each time."""
        self.schedule = WriteSchedule(Effects(0.0, 0.0, Counters()), self.tell)
        self.it = new_source()
        self.it.inbox = InboxMarks(Touchable(), self.schedule)

    def source(self) -> Source:
        return self.it

    def tell(self) -> None:
        self.told += 1
        self.taken.append(self.it.taken)
        self.schedule.due = NEVER  # Else it is not woken again.


def new_source() -> Source:
    return Source(copy.copy(PEER))


def put(box: Mailbox, source: Source, *items: bytes, at: float = 0.0) -> Any:
    """Store messages as if they had arrived together, right behind the last."""
    return box.put(source, items, source.processed + len(items), sum(map(len, items)), at)


@pytest.fixture(params=[Mailbox, BytesMailbox])
def box(request: pytest.FixtureRequest) -> Mailbox:
    kind: type[Mailbox] = request.param
    return kind(Limits())


# --- Taking one by one ----------------------------------------------------------------------------


def test_first_in_first_out_over_all_peers(box: Mailbox) -> None:
    a, b = new_source(), new_source()
    put(box, a, b"a1", b"a2")
    put(box, b, b"b1")
    put(box, a, b"a3")
    assert [box.take() for _ in range(4)] == [b"a1", b"a2", b"b1", b"a3"]
    assert not box.has()
    assert (box.count, box.nbytes, len(box.order), len(box.sources)) == (0, 0, 0, 0)


def test_a_view_takes_only_its_own_and_the_rest_stays_in_order(box: Mailbox) -> None:
    a, b = new_source(), new_source()
    put(box, a, b"a1", b"a2")
    put(box, b, b"b1", b"b2")
    put(box, a, b"a3")
    assert box.take(b) == b"b1"
    assert box.take_all(a) == [b"a1", b"a2", b"a3"]
    assert not box.has(a)
    assert box.take() == b"b2"
    assert not box.has()


def test_a_batch_emptied_through_a_view_is_passed_over(box: Mailbox) -> None:
    a, b = new_source(), new_source()
    put(box, a, b"a1")
    put(box, b, b"b1")
    put(box, a, b"a2")
    assert box.take(b) == b"b1"
    assert box.take_all() == [b"a1", b"a2"]
    assert box.take_all() == []


def test_batches_emptied_behind_a_peer_nobody_reads_do_not_pile_up(box: Mailbox) -> None:
    a, b = new_source(), new_source()
    put(box, a, b"never read")
    for _ in range(1000):
        put(box, b, b"b")
        box.take(b)
    assert len(box.order) <= 102
    assert box.take_all() == [b"never read"]


def test_message_with_its_batch_and_number(box: Mailbox) -> None:
    source = new_source()
    put(box, source, b"1", b"2", b"3", at=5.0)
    for number in (1, 2, 3):
        item, batch, found = box.take_message()
        assert (item, found) == (str(number).encode(), number)
        assert (batch.source, batch.received_at, batch.redelivered) == (source, 5.0, False)


# --- What joins a batch ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap", "seconds", "size", "receipt", "batches"),
    [
        (0, 0.0, 1, None, 1),
        (1, 0.0, 1, None, 2),  # something between them was rejected
        (0, 0.02, 1, None, 2),  # too much later for one time of arrival
        (0, 0.0, 300_000, None, 2),  # the first is large enough
        (0, 0.0, 1, OutgoingMessage(Channel(Peer("peer", "tcp://peer", "1", 0.0))), 2),
    ],
)
def test_what_trickles_in_shares_a_batch(
    gap: int, seconds: float, size: int, receipt: OutgoingMessage | None, batches: int
) -> None:
    box, source = Mailbox(Limits()), new_source()
    put(box, source, b"x" * size).receipt = receipt
    source.processed += gap
    put(box, source, b"y", at=seconds)
    assert len(box.order) == batches
    numbers = [box.take_message()[2] for _ in range(2)]
    assert numbers == [1, 2 + gap]


def test_a_batch_of_another_peer_between_keeps_the_order() -> None:
    box, a, b = Mailbox(Limits()), new_source(), new_source()
    put(box, a, b"1")
    put(box, b, b"2")
    put(box, a, b"3")
    assert box.take_all() == [b"1", b"2", b"3"]


# --- How many were taken ---------------------------------------------------------------------------


def test_taken_follows_from_what_is_left(box: Mailbox) -> None:
    source = new_source()
    put(box, source, b"1", b"2", b"3")
    seen = [source.taken]
    while box.has():
        box.take()
        seen.append(source.taken)
    assert seen == [0, 1, 2, 3]


def test_a_message_held_back_counts_as_taken_only_when_done(box: Mailbox) -> None:
    tap = Tap()
    source = tap.source()
    put(box, source, b"1", b"2", b"3")
    box.take()
    _, batch, number = box.take_message(hold=True)
    box.take()
    assert (number, source.taken) == (2, 1)
    told = tap.told
    box.unhold(batch.source, number)
    assert (source.taken, tap.told) == (3, told + 2)  # That one need not be kept; and what is taken.
    box.unhold(batch.source, number)  # once more does no harm
    assert source.taken == 3


def test_the_source_hears_of_an_empty_batch_and_of_each_message_when_eager(box: Mailbox) -> None:
    tap = Tap()
    source = tap.source()
    put(box, source, b"1", b"2")
    box.take()
    assert tap.told == 0
    box.take()
    assert tap.told == 1
    source.ack_each = True
    put(box, source, b"3", b"4")
    box.take()
    assert tap.told == 2
    box.take()
    assert tap.told == 3


def test_a_source_knows_how_much_of_a_message_is_taken() -> None:
    box, source = BytesMailbox(Limits()), new_source()
    assert source.cut == 0
    put(box, source, b"one", b"two")
    assert box.take_count(5) == b"onetw"
    assert (source.taken, source.cut) == (1, 2)
    assert box.take_count(1) == b"o"
    assert (source.taken, source.cut) == (2, 0)


def test_an_eager_source_hears_of_part_of_a_batch_taken_by_count() -> None:
    box, tap = Mailbox(Limits()), Tap()
    source = tap.source()
    source.ack_each = True
    put(box, source, b"1", b"2", b"3")
    assert box.take_count(2) == [b"1", b"2"]
    assert (tap.told, source.taken) == (1, 2)


# --- Counts of messages -----------------------------------------------------------------------------


def test_an_eager_source_hears_of_whole_messages_taken_as_bytes() -> None:
    box, tap = BytesMailbox(Limits()), Tap()
    source = tap.source()
    put(box, source, b"ab", b"cd", b"ef")
    source.ack_each = True
    assert box.take_count(4) == b"abcd"
    assert tap.taken and tap.taken[-1] == 2


def test_counts_of_messages_go_across_batches_and_peers() -> None:
    box, a, b = Mailbox(Limits()), new_source(), new_source()
    put(box, a, b"1", b"2")
    put(box, b, b"3", b"4", b"5")
    assert box.has_count(5) and not box.has_count(6)
    assert (box.size(), box.size(b), box.available(), box.available(b)) == (5, 3, 5, 3)
    assert box.take_count(3) == [b"1", b"2", b"3"]
    assert box.take_count(1, b) == [b"4"]
    assert box.take_count(1) == [b"5"]
    assert box.count_limit() == Limits().mailbox_total


# --- Counts of bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "taken"),
    [
        ([3, 2], [b"abc", b"de"]),
        ([2, 3], [b"ab", b"cde"]),
        ([1, 1, 3], [b"a", b"b", b"cde"]),
        ([4, 1], [b"abcd", b"e"]),
        ([5, 6], [b"abcde", b"fghijk"]),
        ([11], [b"abcdefghijk"]),
    ],
)
def test_a_count_cuts_messages_and_leaves_the_rest_first(counts: list[int], taken: list[bytes]) -> None:
    box, source = BytesMailbox(Limits()), new_source()
    put(box, source, b"abc", b"de")
    put(box, source, b"f", b"ghijk", at=1.0)
    assert [box.take_count(count) for count in counts] == taken
    rest = b"abcdefghijk"[sum(counts) :]
    assert box.nbytes == source.waiting_bytes == len(rest)
    assert b"".join(box.take_all()) == rest
    assert (box.count, box.nbytes, source.waiting, source.waiting_bytes) == (0, 0, 0, 0)


def test_the_rest_of_a_cut_message_is_bytes_again() -> None:
    box, source = BytesMailbox(Limits()), new_source()
    put(box, source, b"abcdef", b"gh")
    box.take_count(2)
    first = box.take()
    assert first == b"cdef" and type(first) is bytes
    put(box, source, b"ijkl")
    box.take_count(3)
    rest = box.take_all()
    assert rest == [b"jkl"] and type(rest[0]) is bytes


def test_byte_counts_never_mix_peers() -> None:
    box, a, b = BytesMailbox(Limits()), new_source(), new_source()
    put(box, a, b"aa")
    put(box, b, b"bbbb")
    assert not box.has_count(5)
    assert (box.size(), box.size(a), box.available(), box.available(a)) == (6, 2, 4, 2)
    assert box.take_count(3) == b"bbb"  # who waited longest has not enough
    assert box.take_count(1) == b"a"
    assert not box.has_count(2, b)
    assert box.take_count(1, b) == b"b"
    assert BytesMailbox(Limits()).available() == 0


def test_cutting_tells_the_source_and_takes_the_message_only_when_it_is_gone() -> None:
    box, tap = BytesMailbox(Limits()), Tap()
    source = tap.source()
    put(box, source, b"abcd", b"e")
    box.take_count(2)
    assert (tap.told, source.taken, box.count) == (1, 0, 2)
    box.take_count(2)
    assert (source.taken, box.count) == (1, 1)


# --- Limits and overflow ------------------------------------------------------------------------------


def bounded(policy: str, **limits: int) -> Mailbox:
    return Mailbox(Limits(**limits), policy)


def offer(box: Mailbox, source: Source, *items: bytes) -> list[tuple[bool, list[int]]]:
    """Store messages under the box's policy: for each, was it stored, and the numbers that went for it."""
    told = []
    for item in items:
        stored, gone = box.put_bounded(source, item, source.processed + 1, len(item), 0.0)
        told.append((stored, [number for _, number in gone]))
    return told


@pytest.mark.parametrize(
    ("policy", "told", "left"),
    [
        ("drop_oldest", [(True, []), (True, []), (True, [1])], [b"2", b"3"]),
        ("drop_newest", [(True, []), (True, []), (False, [])], [b"1", b"2"]),
        ("error", [(True, []), (True, []), (False, [])], [b"1", b"2"]),
    ],
)
def test_overflow(policy: str, told: Any, left: list[bytes]) -> None:
    box, source = bounded(policy, mailbox_messages=2), new_source()
    assert offer(box, source, b"1", b"2", b"3") == told
    assert (box.dropped, source.processed) == (1, 3)
    assert box.take_all() == left
    assert source.taken == 3


def test_several_small_messages_go_for_a_large_one() -> None:
    box, source = bounded("drop_oldest", mailbox_bytes=10), new_source()
    offer(box, source, b"aaaa", b"bbbb", b"cccc")  # one may overshoot
    assert offer(box, source, b"dddddddddd", b"e") == [(True, [1]), (True, [2, 3, 4])]
    assert box.take_all() == [b"e"]


def test_a_loud_peer_hurts_itself_first_and_others_only_for_the_total() -> None:
    box = bounded("drop_oldest", mailbox_total=10)
    loud, quiet = new_source(), new_source()
    offer(box, quiet, b"q" * 5)
    offer(box, loud, b"1" * 5, b"2" * 5)
    assert box.take_all(loud) == [b"2" * 5]
    assert box.has(quiet)
    offer(box, loud, b"3" * 4, b"4" * 9)
    stored, gone = box.put_bounded(new_source(), b"x", 1, 1, 0.0)
    assert stored and [source for source, _ in gone] == [quiet, loud]


@pytest.mark.parametrize(
    ("limits", "items"),
    [
        ({"mailbox_messages": 2}, [b"", b""]),
        ({"mailbox_bytes": 3}, [b"abc"]),
        ({"mailbox_total": 3}, [b"abcd"]),
    ],
)
def test_full_is_full_unless_somebody_waits_for_more(limits: dict[str, int], items: list[bytes]) -> None:
    box, source = bounded("block", **limits), new_source()
    assert not box.is_full(source)
    put(box, source, *items)
    assert box.is_full(source)
    box.requested = 100
    assert not box.is_full(source)


@pytest.mark.parametrize("policy", ["", "Block", "drop"])
def test_an_unknown_policy_is_refused_and_names_the_known_ones(policy: Any) -> None:
    with pytest.raises(ValueError, match=", ".join(OVERFLOW_POLICIES)):
        Mailbox(Limits(), policy)


def test_supply_says_for_how_many_waiters_there_is_something() -> None:
    box, source = Mailbox(Limits()), new_source()
    assert box.changed.available() == 0
    put(box, source, b"1", b"2")
    assert box.changed.available() == 2
    assert box.end_changed.available() == ENDLESS  # an end is an answer for everyone who waits
    assert box.end_changed.waiters is box.changed.waiters


# --- The hand -------------------------------------------------------------------------------------


def test_a_mailbox_that_is_cleared_has_nothing_in_hand_either(box: Mailbox) -> None:
    """A store has what was in it; who still knows the hand finds nothing there."""
    source = new_source()
    put(box, source, b"1", b"2", b"3")
    box.open_fast_queue()
    hand = box.fast_queue
    box.clear()
    assert not hand and not box.fast_queue and not box.has()
    assert (box.count, box.nbytes, len(box.order), len(box.sources)) == (0, 0, 0, 0)


def test_who_asks_whether_there_is_something_closes_the_hand(box: Mailbox) -> None:
    put(box, new_source(), b"1", b"2")
    box.open_fast_queue()
    box.fast_queue.popleft()
    assert box.has() and not box.fast_queue
    assert box.take() == b"2"


def test_a_hand_is_the_front_of_the_queue_and_no_more(box: Mailbox) -> None:
    tap = Tap()
    a, b = tap.source(), new_source()
    bodies = [b"%d" % number for number in range(FAST_COUNT + 10)]
    put(box, a, *bodies)
    put(box, b, b"b")
    box.open_fast_queue()
    assert list(box.fast_queue) == bodies[:FAST_COUNT]
    assert [box.fast_queue.popleft() for _ in range(FAST_COUNT - 1)] == bodies[: FAST_COUNT - 1]
    assert (a.taken, tap.told) == (FAST_COUNT - 1, 0)
    old = box.fast_queue
    assert box.size() == (12 if box.__class__ is Mailbox else sum(map(len, bodies[FAST_COUNT - 1 :])) + 1)
    assert not old and not box.fast_queue, "whoever still knows the hand finds nothing in it"
    assert box.take_all() == [*bodies[FAST_COUNT - 1 :], b"b"]
    assert (box.count, box.nbytes, a.waiting_bytes, a.taken) == (0, 0, 0, FAST_COUNT + 10)


def test_who_empties_the_hand_settles_it(box: Mailbox) -> None:
    tap = Tap()
    source = tap.source()
    put(box, source, b"1", b"2")
    box.open_fast_queue()
    put(box, source, b"3")  # does not join what is in hand
    assert list(box.fast_queue) == [b"1", b"2"]
    box.fast_queue.clear()
    box.settle_fast_queue()
    assert (box.count, box.nbytes, source.waiting, source.taken, tap.told) == (1, 1, 1, 2, 1)
    box.settle_fast_queue()  # and again: another thread saw it empty too
    assert (box.count, tap.told) == (1, 1)


def test_no_hand_for_one_message_or_where_each_taking_matters() -> None:
    box, source = Mailbox(Limits()), new_source()
    box.open_fast_queue()
    put(box, source, b"1")
    box.open_fast_queue()
    assert not box.fast_queue
    put(box, source, b"2")
    source.ack_each = True
    box.open_fast_queue()
    assert not box.fast_queue
    box, source = Mailbox(Limits(), "drop_oldest"), new_source()
    put(box, source, b"1", b"2")
    box.open_fast_queue()
    assert not box.fast_queue


def test_what_a_count_has_cut_comes_out_of_the_hand_as_bytes() -> None:
    box, source = BytesMailbox(Limits()), new_source()
    put(box, source, b"abc", b"d")
    assert box.take_count(1) == b"a"
    box.open_fast_queue()
    assert [box.fast_queue.popleft(), box.fast_queue.popleft()] == [b"bc", b"d"]
    assert not any(isinstance(each, memoryview) for each in box.fast_queue)
    box.settle_fast_queue()
    assert (box.nbytes, source.waiting_bytes) == (0, 0)


def test_taking_in_another_way_closes_the_hand_first(box: Mailbox) -> None:
    source = new_source()
    put(box, source, b"1", b"2", b"3")
    box.open_fast_queue()
    box.fast_queue.popleft()
    assert box.take() == b"2"
    assert not box.fast_queue
    assert (box.count, source.waiting, source.taken) == (1, 1, 2)


# --- Any sequence of puts and takes -----------------------------------------------------------------------


class AnySequence(RuleBasedStateMachine):
    """Two peers; each message is its peer's next ten-byte stretch, so order and loss show."""

    kind: type[Mailbox] = Mailbox

    @initialize()
    def begin(self) -> None:
        self.box = self.kind(Limits())
        self.sources = [new_source(), new_source()]
        self.waiting: list[list[tuple[int, bytes]]] = [[], []]  # per peer: number, what is left of it
        self.arrived: list[tuple[int, int]] = []  # peer and number, in order over all
        self.now = 0.0
        self.held: list[tuple[int, int]] = []

    def drop_taken(self, peer: int, size: int) -> None:
        """The model: the first ``size`` messages of that peer are gone."""
        for number, _ in self.waiting[peer][:size]:
            self.arrived.remove((peer, number))
        del self.waiting[peer][:size]

    def expect_next(self, peer: int | None) -> tuple[int, int, bytes]:
        if peer is None:
            peer = self.arrived[0][0]
        number, body = self.waiting[peer][0]
        return peer, number, body

    @rule(
        peer=st.integers(0, 1), sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5), later=st.booleans()
    )
    def put(self, peer: int, sizes: list[int], later: bool) -> None:
        source = self.sources[peer]
        first = source.processed + 1
        items = [bytes([number % 251]) * size for number, size in enumerate(sizes, first)]
        self.now += 1.0 if later else 0.001
        self.box.put(source, items, first + len(items) - 1, sum(sizes), self.now)
        for number, item in enumerate(items, first):
            self.waiting[peer].append((number, item))
            self.arrived.append((peer, number))

    @rule(peer=st.integers(0, 1))
    def reject(self, peer: int) -> None:
        self.sources[peer].processed += 1

    @precondition(lambda self: self.arrived)
    @rule(peer=st.sampled_from([None, 0, 1]), hold=st.booleans(), plain=st.booleans())
    def take(self, peer: int | None, hold: bool, plain: bool) -> None:
        view = None if peer is None else self.sources[peer]
        if not self.box.has(view):
            assert peer is not None and not self.waiting[peer]
            return
        owner, number, body = self.expect_next(peer)
        if plain:
            assert self.box.take(view) == body
        else:
            item, batch, found = self.box.take_message(view, hold)
            assert (item, batch.source, found) == (body, self.sources[owner], number)
            if hold:
                self.held.append((owner, number))
        self.drop_taken(owner, 1)

    @rule(count=st.integers(0, 5))
    def take_from_hand(self, count: int) -> None:
        self.box.open_fast_queue()
        while count and self.box.fast_queue:
            count -= 1
            owner, _, body = self.expect_next(None)
            assert self.box.fast_queue.popleft() == body
            self.drop_taken(owner, 1)
        if not self.box.fast_queue:
            self.box.settle_fast_queue()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def unhold(self, data: st.DataObject) -> None:
        peer, number = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.box.unhold(self.sources[peer], number)

    @rule(peer=st.sampled_from([None, 0, 1]))
    def take_all(self, peer: int | None) -> None:
        view = None if peer is None else self.sources[peer]
        expected = []
        while self.arrived if peer is None else self.waiting[peer]:
            owner, _, body = self.expect_next(peer)
            expected.append(body)
            self.drop_taken(owner, 1)
        assert self.box.take_all(view) == expected

    @rule(peer=st.sampled_from([None, 0, 1]), count=st.integers(1, 12))
    def take_count(self, peer: int | None, count: int) -> None:
        view = None if peer is None else self.sources[peer]
        there = len(self.arrived) if peer is None else len(self.waiting[peer])
        assert self.box.has_count(count, view) is (there >= count)
        if there >= count:
            expected = []
            for _ in range(count):
                owner, _, body = self.expect_next(peer)
                expected.append(body)
                self.drop_taken(owner, 1)
            assert self.box.take_count(count, view) == expected

    @rule(peer=st.integers(0, 1), eager=st.booleans())
    def set_eager(self, peer: int, eager: bool) -> None:
        self.box.settle_fast_queue()
        self.sources[peer].ack_each = eager

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "box"):
            return
        in_hand = self.box.fast_batch
        uncounted = self.box._fast_size - len(self.box.fast_queue) if in_hand else 0
        assert self.box.count - uncounted == len(self.arrived)
        for peer, source in enumerate(self.sources):
            waiting = self.waiting[peer]
            gone = uncounted if in_hand and in_hand.source is source else 0
            assert source.waiting - gone == len(waiting)
            taken = waiting[0][0] - 1 if waiting else source.processed
            held = [number for owner, number in self.held if owner == peer]
            assert source.taken <= min([taken, *(number - 1 for number in held)])
            if not waiting and not held:
                assert source.taken == source.processed
                assert source.waiting_bytes == 0
        assert self.box.nbytes == sum(source.waiting_bytes for source in self.sources)


class AnySequenceOfBytes(AnySequence):
    """The same where counts are bytes, and exact."""

    kind = BytesMailbox

    @rule(peer=st.sampled_from([None, 0, 1]), count=st.integers(1, 30))
    def take_count(self, peer: int | None, count: int) -> None:
        view = None if peer is None else self.sources[peer]
        candidates = [owner for owner in (0, 1) if peer in (None, owner)]
        enough = [each for each in candidates if self.size(each) >= count]
        assert self.box.has_count(count, view) is bool(enough)
        assert self.box.available(view) == max(map(self.size, candidates))
        if not enough:
            return
        before = {owner: self.size(owner) for owner in enough}
        taken = self.box.take_count(count, view)
        [owner] = [each for each in enough if self.sources[each].waiting_bytes == before[each] - count]
        assert taken == b"".join(body for _, body in self.waiting[owner])[:count]
        self.cut(owner, count)

    def size(self, peer: int) -> int:
        return sum(len(body) for _, body in self.waiting[peer])

    def cut(self, peer: int, count: int) -> None:
        """The model: so many bytes of that peer are gone; empty messages behind them may be, too."""
        while count:
            number, body = self.waiting[peer][0]
            if len(body) > count:
                self.waiting[peer][0] = (number, body[count:])
                return
            count -= len(body)
            self.drop_taken(peer, 1)
        while len(self.waiting[peer]) > self.sources[peer].waiting:
            assert not self.waiting[peer][0][1]
            self.drop_taken(peer, 1)

    @invariant()
    def bytes_agree(self) -> None:
        if hasattr(self, "box"):
            for peer, source in enumerate(self.sources):
                in_hand = self.box.fast_batch
                gone = 0
                if in_hand and in_hand.source is source:
                    gone = in_hand.nbytes - sum(map(len, in_hand.items))
                assert source.waiting_bytes - gone == self.size(peer)


TestAnySequence = AnySequence.TestCase
TestAnySequenceOfBytes = AnySequenceOfBytes.TestCase


def test_ready_is_who_has_something_and_who_never_will(box: Mailbox) -> None:
    source, other = new_source(), new_source()
    assert not box.is_ready(None) and not box.is_ready(source)
    put(box, source, b"a", b"b")
    assert box.is_ready(None) and box.is_ready(source) and not box.is_ready(other)
    assert box.is_ready(source, 2) and not box.is_ready(source, 3)
    source.end_reason = EndOfData("over")
    assert box.is_ready(source, 3) and not box.is_ready(None, 3)
    box.end_reason = EndOfData("over")
    assert box.is_ready(None, 3) and box.is_ready(other)


def test_a_source_without_a_framing_has_nothing_undecoded() -> None:
    assert new_source().undecoded() == 0

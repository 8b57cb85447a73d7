"""One conversation: units and marks, credit, refusals, resumes, and what an interruption leaves."""

from __future__ import annotations

from typing import Any

import pytest

from linkbox.core import frames
from linkbox.core import sending as module
from linkbox.core.mailbox import ENDLESS, MailboxState
from linkbox.core.patterns import P2P
from linkbox.core.sending import BATCH_BODIES, EARLY_UNITS
from linkbox.core.session import Session
from linkbox.core.stream import Assembly
from linkbox.core.units import Bundle, Delivery, Piece, add_range, count_of, size_of
from linkbox.errors import DecodeError, MailboxFull, ProtocolViolation, TooLarge
from linkbox.events import Stage
from linkbox.limits import Limits
from tests.core.wire import PEER


class FakeHub:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.pending_events = 0
        self.pattern = P2P
        self.owed: list[int] = []
        self.failed: list[Delivery] = []
        self.due: list[float] = []

    def on_ack_owed(self, session: Session) -> None:
        self.owed.append(session.ack_owed)

    def on_ack_told(self, session: Session) -> None:
        pass

    def on_delivery_failed(self, session: Session, delivery: Delivery) -> None:
        self.failed.append(delivery)

    def on_session_due(self, session: Session, now: float) -> None:
        self.due.append(now)


def make(limits: Limits | None = None, overflow: str = "block") -> Session:
    limits = limits or Limits()
    session = Session("f" * 32, PEER, MailboxState(limits, overflow), limits, Delivery)
    session.hub = FakeHub()
    session.peer_bytes = session.peer_messages = ENDLESS
    return session


def sizes(units: list[Any]) -> list[int]:
    return [unit.stop - unit.start if isinstance(unit, Piece) else len(unit.payload) for unit in units]


def pull_all(session: Session) -> list[list[int]]:
    """Everything that may be written now: the sizes of each frame's units."""
    written = []
    while session.may_send():
        written.append(sizes(session.pull(BATCH_BODIES)))
    return written


def arrive(session: Session, *bodies: bytes) -> None:
    """Messages arrive and are stored, one by one."""
    for body in bodies:
        session.on_units(1, len(body), len(body))
        session.mailbox.put(session.source, (body,), session.arrived, len(body), 0.0)
        session.processed_bytes = session.arrived_bytes
        session.owe_ack(1)


# --- What goes into one frame ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "frames_written"),
    [
        ([5], [[5]]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([0, 0], [[0, 0]]),
        ([BATCH_BODIES, 1, 2], [[BATCH_BODIES], [1, 2]]),
        ([1, 2, BATCH_BODIES], [[1, 2], [BATCH_BODIES]]),
        ([1, BATCH_BODIES - 1, 1], [[1, BATCH_BODIES - 1], [1]]),
        ([frames.MAX_PIECE], [[frames.MAX_PIECE]]),
        ([frames.MAX_PIECE + 1, 2, 3], [[frames.MAX_PIECE], [1], [2, 3]]),
        ([1, 3 * frames.MAX_PIECE], [[1], *[[frames.MAX_PIECE]] * 3]),
    ],
)
def test_what_is_waiting_is_cut_into_frames(lengths: list[int], frames_written: list[list[int]]) -> None:
    session = make()
    for length in lengths:
        session.queue_one(bytes(length))
    assert pull_all(session) == frames_written
    assert (session.sent_bytes, session.held_bytes) == (sum(lengths), sum(lengths))
    assert session.sent == len(session.unacked) == sum(map(len, frames_written))
    assert (session.messages_sent, session.bytes_sent) == (len(lengths), sum(lengths))


def test_numbers_are_those_of_the_last_unit() -> None:
    session = make()
    receipts = [session.queue_one(bytes(size)) for size in (1, frames.MAX_PIECE + 1, 2, 3)]
    pull_all(session)
    assert [receipt.number for receipt in receipts] == [1, 3, 4, 5]


def test_a_batch_never_mixes_messages_and_other_frames() -> None:
    session = make()
    session.queue_one(b"1")
    session.queue_one(b"2")
    session.send_frame(Delivery(session, b"cancel", frames.CANCEL, id=1))
    session.queue_one(b"3")
    session.queue_one(b"4")
    assert pull_all(session) == [[1, 1], [6], [1, 1]]


def test_asks_take_turns_piece_by_piece_and_messages_of_one_ask_do_not() -> None:
    session = make()
    size = frames.MAX_ASK_PIECE
    first = Delivery(session, bytes(2 * size), frames.ASK, id=1)
    second = Delivery(session, bytes(size + 1), frames.ASK, id=2)
    for each in (first, second):
        session.send_frame(each)
    order = []
    while session.may_send():
        [unit] = session.pull(BATCH_BODIES)
        order.append((unit.delivery.id, unit.start))
    assert order == [(1, 0), (2, 0), (1, size), (2, size)]

    parts = make()
    for flags in (frames.MORE_OF_ASK, 0):
        parts.send_frame(Delivery(parts, bytes(size + 1), frames.ASK, id=1, flags=flags))
    order = []
    while parts.may_send():
        [unit] = parts.pull(BATCH_BODIES)
        order.append((unit.delivery.flags, unit.start))
    assert order == [(2, 0), (2, size), (0, 0), (0, size)]


# --- Credit for sending -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("byte_limit", "unit_limit", "written"),
    [
        (0, 10, []),
        (1, 10, [[5]]),
        (5, 10, [[5]]),
        (6, 10, [[5, 5]]),
        (10, 10, [[5, 5]]),
        (11, 10, [[5, 5, 5]]),
        (100, 0, []),
        (100, 1, [[5]]),
        (100, 2, [[5, 5]]),
        (100, 3, [[5, 5, 5]]),
    ],
)
def test_a_unit_may_start_while_those_before_it_are_below_the_limit(
    byte_limit: int, unit_limit: int, written: list[list[int]]
) -> None:
    session = make()
    session.peer_bytes, session.peer_messages = byte_limit, unit_limit
    for _ in range(3):
        session.queue_one(b"12345")
    assert pull_all(session) == written


def test_credit_is_never_lowered() -> None:
    session = make()
    session.peer_bytes, session.peer_messages = 100, 10
    session.on_ack(0, 0, 50, 5)
    assert (session.peer_bytes, session.peer_messages) == (100, 10)
    session.on_ack(0, 0, 150, 15)
    assert (session.peer_bytes, session.peer_messages) == (150, 15)


@pytest.mark.parametrize(("limits", "room_for"), [({"window_bytes": 10}, 2), ({"window_messages": 3}, 3)])
def test_the_send_window(limits: dict[str, int], room_for: int) -> None:
    session = make(Limits(**limits))
    for _ in range(room_for):
        assert session.has_room()
        session.queue_one(b"12345")
    assert not session.has_room()
    pull_all(session)
    assert not session.has_room()
    session.on_ack(1, 0, 0, 0)
    assert session.has_room()


def test_what_the_peer_does_not_take_fails_here() -> None:
    session = make()
    large, good = session.queue_one(bytes(11)), session.queue_one(b"ok")
    session.peer_message = 10
    assert session.pull(100) == []
    assert isinstance(large.error, TooLarge) and large.stage is Stage.FAILED
    assert session.hub.failed == [large]
    assert session.pull(100) == [good]
    assert (good.number, session.held_bytes) == (1, 2)


# --- Marks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("acked", "taken"), [(4, 0), (0, 0), (1, 1), (2, 3), (3, 0)])
def test_marks_that_cannot_be(acked: int, taken: int) -> None:
    session = make()
    for _ in range(3):
        session.queue_one(b"x")
    pull_all(session)
    session.on_ack(2, 2, 0, 0)
    with pytest.raises(ProtocolViolation, match="acknowledged"):
        session.on_ack(acked, taken, 0, 0)


def test_stages_follow_the_marks() -> None:
    session = make()
    receipts = [session.queue_one(b"x") for _ in range(4)]
    session.pull(1)
    for _ in range(2):
        session.pull(1)
    done = session.on_ack(2, 1, 0, 0)
    assert done == receipts[:2]
    stages = [receipt.stage for receipt in receipts]
    assert stages == [Stage.TAKEN, Stage.RECEIVED, Stage.SENT, Stage.QUEUED]
    assert [receipt.payload for receipt in done] == [None, None]  # nothing is kept for nothing


def test_a_parted_message_is_acknowledged_with_its_last_piece() -> None:
    session = make()
    receipt = session.queue_one(bytes(frames.MAX_PIECE + 1))
    pull_all(session)
    assert session.on_ack(1, 0, 0, 0) == []
    assert (receipt.stage, session.held_bytes) == (Stage.SENT, 1)
    assert session.on_ack(2, 0, 0, 0) == [receipt]
    assert (receipt.stage, session.held_bytes, session.held) == (Stage.RECEIVED, 0, 0)


def test_a_refused_message_fails_once_also_when_it_was_parted() -> None:
    session = make()
    small, large = session.queue_one(b"x"), session.queue_one(bytes(frames.MAX_PIECE + 1))
    pull_all(session)
    assert session.on_reject(1, DecodeError("bad")) is small
    assert session.on_reject(3, TooLarge("large")) is large
    assert session.on_reject(3, DecodeError("again")) is None
    assert isinstance(large.error, TooLarge)
    session.on_ack(3, 0, 0, 0)
    assert small.stage is large.stage is Stage.FAILED
    assert session.on_reject(1, DecodeError("said again after a drop")) is None


@pytest.mark.parametrize("number", [0, 2])
def test_a_refusal_of_what_was_not_sent(number: int) -> None:
    session = make()
    session.queue_one(b"x")
    pull_all(session)
    with pytest.raises(ProtocolViolation, match="rejected unit"):
        session.on_reject(number, DecodeError("bad"))


def test_a_message_dropped_after_it_was_acknowledged_never_counts_as_taken() -> None:
    session = make()
    receipts = [session.queue_one(b"x") for _ in range(3)]
    pull_all(session)
    session.on_ack(3, 0, 0, 0)
    session.on_dropped(2, 2)
    session.on_ack(3, 3, 0, 0)
    assert [receipt.stage for receipt in receipts] == [Stage.TAKEN, Stage.FAILED, Stage.TAKEN]
    assert isinstance(receipts[1].error, MailboxFull)


def test_ranges_grow_and_only_the_newest_thousand_are_kept() -> None:
    ranges: list[tuple[int, int]] = []
    for number in (1, 2, 3, 7, 7):
        add_range(ranges, number, number)
    assert ranges == [(1, 3), (7, 7)]
    for number in range(10, 4010, 2):
        add_range(ranges, number, number)
    assert len(ranges) == 1000 and ranges[-1] == (4008, 4008)


def test_ranges_are_in_order_whatever_they_are_told() -> None:
    ranges: list[tuple[int, int]] = []
    for first, last in ((10, 12), (1, 2), (11, 11), (12, 14), (20, 20), (15, 15), (10, 12), (0, 0)):
        add_range(ranges, first, last)
    assert ranges == [(0, 0), (1, 2), (10, 15), (20, 20)]


# --- Resumes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrived", [0, 1, 2, 3, 4, 5])
def test_a_resume_sends_the_rest_again_in_the_same_units(arrived: int) -> None:
    session = make()
    for size in (1, frames.MAX_PIECE + 1, 3):
        session.queue_one(bytes(size))
    session.peer_messages = 4
    session.queue_one(b"1234")
    before = [size for frame in pull_all(session) for size in frame]
    assert before == [1, frames.MAX_PIECE, 1, 3]
    if arrived > 4:
        with pytest.raises(ProtocolViolation, match="resumes at unit 5; 0 to 4 are possible"):
            session.rewind(arrived)
        return
    session.end_sent, session.peer_end = True, 7
    session.rewind(arrived)
    assert (session.end_sent, session.end_acked, session.peer_end) == (False, False, None)
    assert session.sent_bytes == sum(before[:arrived])
    session.peer_messages = 5
    again = [size for frame in pull_all(session) for size in frame]
    assert again == [*before, 4][arrived:]
    assert session.messages_sent == 4
    assert session.bytes_sent == frames.MAX_PIECE + 9
    assert len(session.on_ack(5, 0, 0, 0)) == 4
    assert session.held_bytes == 0


def test_a_resume_before_what_was_acknowledged_is_a_violation() -> None:
    session = make()
    session.queue_one(b"x")
    pull_all(session)
    session.on_ack(1, 0, 0, 0)
    with pytest.raises(ProtocolViolation):
        session.rewind(0)


def test_what_an_abandoned_session_leaves() -> None:
    session = make()
    session.queue_one(b"acked")
    doubt = session.queue_one(b"sent")
    parted = session.queue_one(bytes(2 * frames.MAX_PIECE))
    unsent = session.queue_one(b"unsent")
    session.peer_messages = 3
    pull_all(session)
    session.on_ack(1, 0, 0, 0)
    assert session.abandon() == ([doubt], [parted, unsent])
    assert (parted.offset, parted.number, session.held, session.held_bytes) == (0, 0, 0, 0)
    heir = make()
    session.successor = heir
    for delivery in (parted, unsent):
        heir.adopt(delivery)
    assert session.latest() is heir.latest() is heir
    assert pull_all(heir) == [[frames.MAX_PIECE], [frames.MAX_PIECE], [6]]


# --- Receiving ------------------------------------------------------------------------------------------------  # noqa: E501


def test_credit_is_the_window_beyond_what_was_taken() -> None:
    session = make(Limits(mailbox_bytes=100_000, mailbox_messages=10))
    assert session.credit() == (100_000, 10)
    arrive(session, b"12345", b"123")
    assert session.credit() == (100_000, 10)
    session.mailbox.take_all()
    assert session.credit() == (100_008, 12)


def test_one_peer_may_not_fill_what_is_for_all() -> None:
    session = make(Limits(mailbox_total=10))
    session.credit()
    other = make().source
    session.mailbox.put(other, (bytes(10),), 1, 10, 0.0)
    before = session.granted_messages
    arrive(session, b"x")
    session.mailbox.take(session.source)
    assert session.credit()[1] == before + 1  # an empty mailbox always grants
    arrive(session, b"x")
    arrive(session, b"y")
    session.mailbox.take(session.source)
    assert session.credit()[1] == before + 1  # a full one does not
    session.mailbox.take(other)
    assert session.credit()[1] == before + 2


def test_events_that_wait_for_a_callback_count_as_messages() -> None:
    session = make(Limits(mailbox_messages=2))
    session.credit()
    arrive(session, b"x", b"y")
    session.mailbox.take_all()
    session.hub.pending_events = 2
    assert session.credit()[1] == 2
    session.hub.pending_events = 1
    assert session.credit()[1] == 4


def test_a_mailbox_that_drops_always_grants() -> None:
    session = make(Limits(mailbox_messages=2), "drop_oldest")
    session.credit()
    arrive(session, b"x", b"y")
    assert session.credit()[1] == 4


def test_who_waits_for_more_gets_more() -> None:
    session = make(Limits(mailbox_messages=2, mailbox_bytes=10))
    session.mailbox.wanted = 50
    assert session.credit() == (50, 50)


def test_answers_need_no_credit() -> None:
    session = make()
    session.endless_credit = True
    assert session.credit() == (ENDLESS, ENDLESS)


def test_early_messages_are_not_beyond_credit() -> None:
    session = make(Limits(mailbox_messages=1, mailbox_bytes=1))
    session.credit()
    session.on_units(EARLY_UNITS, 64 * 1024 + 5, 6)  # one unit may overshoot
    with pytest.raises(ProtocolViolation, match="beyond its credit"):
        session.on_units(1, 0, 0)


def test_bytes_beyond_credit() -> None:
    session = make(Limits(mailbox_bytes=1))
    session.credit()
    session.on_units(1, 64 * 1024, 64 * 1024)
    with pytest.raises(ProtocolViolation):
        session.on_units(1, 2, 1)


def test_acknowledgements_are_lazy_until_they_would_open_a_quarter_of_the_window() -> None:
    session = make(Limits(mailbox_messages=8))
    session.credit()
    arrive(session, b"a", b"b")
    assert session.hub.owed == [1]
    session.mailbox.take()
    assert session.hub.owed == [1]  # owed already
    session.mailbox.take()
    assert session.hub.owed == [1, 2]
    assert session.marks() == (2, 2, Limits().mailbox_bytes + 2, 10)
    assert session.ack_owed == 0


def test_who_asks_for_acknowledgements_gets_each_at_once_up_to_there() -> None:
    session = make()
    session.credit()
    arrive(session, b"a", b"b")
    session.on_ack_now()
    assert session.ack_owed == 2
    session.marks()
    session.mailbox.take()
    assert session.ack_owed == 2 and session.marks()[1] == 1
    assert session.source.eager
    session.mailbox.take()
    assert session.marks()[1] == 2
    assert not session.source.eager
    arrive(session, b"c")
    assert session.ack_owed == 1


# --- Timers, and what an interruption leaves -----------------------------------------------------------------  # noqa: E501


def test_a_session_is_looked_at_when_it_is_due_and_never_after_its_end() -> None:
    session = make()
    session.due_at = 5.0
    session.handle_timer(4.9)
    assert session.hub.due == []
    session.handle_timer(5.0)
    assert (session.hub.due, session.due_at) == ([5.0], float("inf"))
    session.due_at = 9.0
    assert session.next_timer() == 9.0
    session.error = DecodeError("over")
    assert session.next_timer() == float("inf")


def test_back_to_a_mark_forgets_half_of_what_was_received() -> None:
    session = make()
    session.on_units(1, 3, 3)
    session.assembly = Assembly(100, 1000)
    session.assembly.put(b"abc")
    mark = session.arrival_mark()
    session.on_units(1, 2, 2)
    session.assembly.put(b"de")
    session.back_to(mark)
    assert (session.arrived, session.arrived_bytes, session.assembly.size) == (1, 3, 3)
    session.on_units(1, 97, 97)
    assert session.assembly.whole(bytes(97)) == b"abc" + bytes(97)


class Interrupted(BaseException):
    """Ctrl-C in the middle of a step."""


class FailingAt:
    """A deque, interrupted right behind the n-th call of a method: signals are looked at between calls."""

    def __init__(self, queue: Any, method: str, nth: int) -> None:
        self.queue, self.method, self.left = queue, method, nth

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.queue, name)
        if name != self.method:
            return found

        def call(*args: Any) -> Any:
            result = found(*args)
            self.left -= 1
            if self.left < 0:
                raise Interrupted
            return result

        return call

    def __len__(self) -> int:
        return len(self.queue)

    def __iter__(self) -> Any:
        return iter(self.queue)

    def __getitem__(self, index: int) -> Any:
        return self.queue[index]


@pytest.mark.parametrize(
    ("queue", "method", "nth"),
    [
        ("queue", "popleft", 0),
        ("queue", "popleft", 1),
        ("queue", "popleft", 3),
        ("unacked", "append", 0),
        ("unacked", "extend", 0),
        ("unacked", "popleft", 0),
        ("unacked", "popleft", 2),
    ],
)
@pytest.mark.parametrize("lengths", [[1, 2, 3, 4], [150, 1, 2], [90, 10]])
@pytest.mark.parametrize("bundle", [0, 1, 2])
def test_an_interruption_anywhere_is_mended(
    monkeypatch: pytest.MonkeyPatch, queue: str, method: str, nth: int, lengths: list[int], bundle: int
) -> None:
    monkeypatch.setattr(frames, "MAX_PIECE", 50)
    session = make()
    bodies = [bytes([65 + index]) * length for index, length in enumerate(lengths)]
    for body in bodies[: len(bodies) - bundle]:
        session.queue_one(body)
    if bundle:
        session.send_all(bodies[-bundle:])
    session.peer_messages = len(lengths) + 1
    inner = getattr(session, queue)
    setattr(session, queue, FailingAt(inner, method, nth))
    try:
        while session.may_send():
            session.pull(40)
        session.on_ack(session.sent, 0, 0, 0)
    except Interrupted:
        pass
    if isinstance(getattr(session, queue), FailingAt):
        setattr(session, queue, inner)
    session.mend()
    assert sum(map(count_of, session.unacked)) == session.sent - session.acked
    session.rewind(session.acked)
    acked = session.acked
    session.peer_messages = ENDLESS
    written = b"".join(written_by(session))
    assert b"".join(bodies).endswith(written)
    assert session.sent - acked == session.held == sum(map(count_of, session.unacked))
    assert session.held_bytes == len(written)


def written_by(session: Session) -> list[bytes]:
    out = []
    while session.may_send():
        for unit in session.pull(40):
            if isinstance(unit, Piece):
                out.append(unit.delivery.payload[unit.start : unit.stop])
            elif isinstance(unit, Bundle):
                out += unit.payloads
            else:
                out.append(unit.payload)
    return out


def test_one_batch_is_bounded_also_when_messages_are_empty() -> None:
    session = make()
    for _ in range(module.BATCH_COUNT + 10):
        session.queue_one(b"")
    assert len(session.pull(BATCH_BODIES)) <= min(module.BATCH_COUNT, 8192)


# --- Bundles: many messages without receipts ------------------------------------------------------------


def bundled(*bodies: bytes) -> Session:
    session = make()
    assert session.send_all(list(bodies)) == len(bodies)
    return session


def test_a_bundle_goes_out_in_one_piece_and_is_acknowledged_in_one() -> None:
    session = bundled(b"a", b"bc", b"")
    session.queue_one(b"d")
    assert (session.held, session.held_bytes) == (4, 4)
    [bundle] = session.pull(BATCH_BODIES)
    assert isinstance(bundle, Bundle)
    assert (bundle.payloads, bundle.number, size_of(bundle)) == ([b"a", b"bc", b""], 3, 3)
    [single] = session.pull(BATCH_BODIES)
    assert (single.number, session.sent, session.sent_bytes) == (4, 4, 4)
    assert (session.messages_sent, session.bytes_sent) == (4, 4)
    assert session.on_ack(3, 0, 0, 0) == [bundle]
    assert (session.held, session.held_bytes) == (1, 1)


@pytest.mark.parametrize(
    ("limit", "value", "pulled"),
    [
        ("peer_messages", 2, [b"a", b"bc"]),
        ("peer_bytes", 2, [b"a", b"bc"]),  # the second may overshoot
    ],
)
def test_what_may_not_go_whole_goes_message_by_message(limit: str, value: int, pulled: list[bytes]) -> None:
    session = bundled(b"a", b"bc", b"d")
    setattr(session, limit, value)
    assert [unit.payload for unit in session.pull(BATCH_BODIES)] == pulled
    assert session.held == 3


def test_a_message_of_a_bundle_that_the_peer_does_not_take_fails_alone() -> None:
    session = bundled(b"a", b"bc", b"d")
    session.peer_message = 1
    written = []
    while session.may_send():
        written += session.pull(1)
    assert [unit.payload for unit in written] == [b"a", b"d"]
    assert [receipt.payload for receipt in session.hub.failed] == [b"bc"]


def test_half_a_bundle_may_be_acknowledged() -> None:
    session = bundled(b"a", b"bc", b"d")
    session.pull(BATCH_BODIES)
    [receipt] = session.on_ack(1, 0, 0, 0)
    assert (receipt.number, receipt.stage) == (1, Stage.RECEIVED)
    assert [(unit.number, unit.payload) for unit in session.unacked] == [(2, b"bc"), (3, b"d")]
    assert (session.held, session.held_bytes) == (2, 3)


def test_one_message_of_a_bundle_may_be_refused() -> None:
    session = bundled(b"a", b"b", b"c")
    session.queue_one(b"d")
    session.pull(BATCH_BODIES)
    session.pull(BATCH_BODIES)
    refused = session.on_reject(2, DecodeError("no"))
    assert refused is not None
    assert (refused.payload, refused.number, refused.stage) == (b"b", 2, Stage.FAILED)
    assert session.on_reject(2, DecodeError("no")) is None  # said again: it failed once
    assert len(session.on_ack(4, 4, 0, 0)) == 4
    assert (session.held, session.held_bytes) == (0, 0)


@pytest.mark.parametrize("arrived", [0, 1, 2, 3, 4])
def test_a_resume_may_cut_a_bundle(arrived: int) -> None:
    bodies = [b"a", b"bc", b"d", b"efg"]
    session = bundled(*bodies)
    session.pull(BATCH_BODIES)
    session.rewind(arrived)
    assert (session.sent, session.sent_bytes) == (arrived, len(b"".join(bodies[:arrived])))
    assert (session.messages_sent, session.bytes_sent) == (session.sent, session.sent_bytes)
    assert (session.held, session.held_bytes) == (4, 7)
    assert written_by(session) == bodies[arrived:]
    session.on_ack(4, 0, 0, 0)
    assert (session.held, session.held_bytes) == (0, 0)


def test_an_abandoned_bundle_is_its_messages() -> None:
    session = bundled(b"a", b"b")
    session.pull(BATCH_BODIES)
    session.send_all([b"c", b"d"])
    doubt, unsent = session.abandon()
    assert [(each.payload, each.number) for each in doubt] == [(b"a", 1), (b"b", 2)]
    assert [(each.payload, each.number) for each in unsent] == [(b"c", 0), (b"d", 0)]
    assert (session.held, session.held_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("limits", "queued"),
    [({"window_messages": 3}, 3), ({"window_bytes": 1}, 1), ({"window_bytes": 5}, 3), ({}, 4)],
)
def test_a_bundle_holds_what_the_window_has_room_for(limits: dict[str, int], queued: int) -> None:
    session = make(Limits(**limits))
    assert session.send_all([b"aa", b"bb", b"cc", b"dd"]) == queued
    assert (session.held, session.held_bytes) == (queued, 2 * queued)


def test_large_messages_make_no_bundle() -> None:
    session = make()
    assert session.send_all([bytes(BATCH_BODIES), b"a"]) == 2
    assert pull_all(session) == [[BATCH_BODIES], [1]]

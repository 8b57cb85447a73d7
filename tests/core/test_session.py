"""One conversation: units and marks, credit, rejections, resumes."""

from __future__ import annotations

from typing import Any

import pytest

from linkbox.core import send_window as module
from linkbox.core.asks_client import ClientAsks
from linkbox.core.asks_server import ServerAsks
from linkbox.core.channel import AskHeader
from linkbox.core.context import ACK_DELAY, Context
from linkbox.core.frame_writer import may_send
from linkbox.core.mailbox import Mailbox
from linkbox.core.outgoing import Bundle, OutgoingMessage, Piece, add_range, size_of
from linkbox.core.patterns import AR, P2P, Pattern
from linkbox.core.send_window import BATCH_BODIES, EARLY_UNITS
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.core.settings import Settings
from linkbox.core.wait_queue import ENDLESS
from linkbox.core.wire import frames
from linkbox.core.wire.framings import Linked
from linkbox.errors import DecodeError, MailboxFull, PeerLost, ProtocolViolation, TooLarge
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from tests.core.wire import PEER, Wire, entropy


def make(
    limits: Limits | None = None, overflow: str = "block", pattern: Pattern = P2P, is_client: bool = False
) -> Session:
    """A session without a connection, whose peer takes everything."""
    limits = limits or Limits()
    settings = Settings(pattern, "bytes", Linked(), limits, "tester", OutgoingMessage, entropy)
    context = Context(settings, Mailbox(limits, overflow), is_client)
    context.effects.events.listening = {EventKind.ERROR}
    session = SessionTable(context, ClientAsks(context), ServerAsks(context)).open(PEER)
    session.sending.peer_bytes = session.sending.peer_units = ENDLESS
    return session


def failed(session: Session) -> list[OutgoingMessage | None]:
    """The messages that ERROR was emitted for."""
    return [event.receipt for event in session.context.effects.events.events]


def mailbox(session: Session) -> Mailbox:
    return session.context.mailbox


def part(session: Session, payload: bytes, kind: int, id: int, flags: int = 0) -> None:
    """Queue a frame of a request."""
    message = session.sending.message_type(session, payload, AskHeader(kind, id, flags))
    session.sending.enqueue(message)


def pull(session: Session, byte_budget: int = BATCH_BODIES) -> list[Any]:
    """What is written now; a message that the peer does not take fails."""
    units = session.sending.pull(byte_budget)
    if not units:
        session.owner.message_failed(session, session.sending.pop_too_large())
    return units


def marks(session: Session) -> tuple[int, int, int, int]:
    """What an ACK that is written now says."""
    return frames.decode_ack(session.ack_frame()[4:])


def sizes(units: list[Any]) -> list[int]:
    return [unit.stop - unit.start if isinstance(unit, Piece) else len(unit.payload) for unit in units]


def pull_all(session: Session) -> list[list[int]]:
    """Everything that may be written now: the sizes of each frame's units."""
    written = []
    while may_send(session):
        written.append(sizes(pull(session)))
    return written


def arrive(session: Session, *bodies: bytes) -> None:
    """Messages arrive and are stored, one by one."""
    for body in bodies:
        session.receiving.add_units(1, len(body), len(body))
        mailbox(session).put(session.receiving, (body,), session.receiving.arrived, len(body), 0.0)
        session.receiving.processed_bytes = session.receiving.arrived_bytes
        session.receiving.request_ack(1)


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
        session.send(bytes(length))
    assert pull_all(session) == frames_written
    assert (session.sending.sent_bytes, session.sending.held_bytes) == (sum(lengths), sum(lengths))
    assert session.sending.sent == len(session.sending.unacked) == sum(map(len, frames_written))
    assert (session.sending.messages_sent, session.sending.bytes_sent) == (len(lengths), sum(lengths))


def test_numbers_are_those_of_the_last_unit() -> None:
    session = make()
    receipts = [session.send(bytes(size)) for size in (1, frames.MAX_PIECE + 1, 2, 3)]
    pull_all(session)
    assert [receipt.number for receipt in receipts] == [1, 3, 4, 5]


def test_a_batch_never_mixes_messages_and_other_frames() -> None:
    session = make()
    session.send(b"1")
    session.send(b"2")
    part(session, b"cancel", frames.CANCEL, 1)
    session.send(b"3")
    session.send(b"4")
    assert pull_all(session) == [[1, 1], [6], [1, 1]]


def test_asks_take_turns_piece_by_piece_and_messages_of_one_ask_do_not() -> None:
    session = make()
    size = frames.MAX_ASK_PIECE
    part(session, bytes(2 * size), frames.ASK, 1)
    part(session, bytes(size + 1), frames.ASK, 2)
    order = []
    while may_send(session):
        [unit] = pull(session)
        order.append((unit.message.header.id, unit.start))
    assert order == [(1, 0), (2, 0), (1, size), (2, size)]

    parts = make()
    for flags in (frames.MORE_OF_ASK, 0):
        part(parts, bytes(size + 1), frames.ASK, 1, flags)
    order = []
    while may_send(parts):
        [unit] = pull(parts)
        order.append((unit.message.header.flags, unit.start))
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
    session.sending.peer_bytes, session.sending.peer_units = byte_limit, unit_limit
    for _ in range(3):
        session.send(b"12345")
    assert pull_all(session) == written


def test_credit_is_never_lowered() -> None:
    session = make()
    session.sending.peer_bytes, session.sending.peer_units = 100, 10
    session.sending.on_ack(0, 0, 50, 5)
    assert (session.sending.peer_bytes, session.sending.peer_units) == (100, 10)
    session.sending.on_ack(0, 0, 150, 15)
    assert (session.sending.peer_bytes, session.sending.peer_units) == (150, 15)


@pytest.mark.parametrize(("limits", "room_for"), [({"window_bytes": 10}, 2), ({"window_messages": 3}, 3)])
def test_the_send_window(limits: dict[str, int], room_for: int) -> None:
    session = make(Limits(**limits))
    for _ in range(room_for):
        assert session.has_room()
        session.send(b"12345")
    assert not session.has_room()
    pull_all(session)
    assert not session.has_room()
    session.sending.on_ack(1, 0, 0, 0)
    assert session.has_room()


def test_what_the_peer_does_not_take_fails_here() -> None:
    session = make()
    large, good = session.send(bytes(11)), session.send(b"ok")
    session.sending.peer_message = 10
    assert pull(session, 100) == []
    assert isinstance(large.error, TooLarge) and large.stage is Stage.FAILED
    assert failed(session) == [large]
    assert session.first_failure is large.error
    assert pull(session, 100) == [good]
    assert (good.number, session.sending.held_bytes) == (1, 2)


# --- Marks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("acked", "taken"), [(4, 0), (0, 0), (1, 1), (2, 3), (3, 0)])
def test_marks_that_cannot_be(acked: int, taken: int) -> None:
    session = make()
    for _ in range(3):
        session.send(b"x")
    pull_all(session)
    session.sending.on_ack(2, 2, 0, 0)
    with pytest.raises(ProtocolViolation, match="acknowledged"):
        session.sending.on_ack(acked, taken, 0, 0)


def test_stages_follow_the_marks() -> None:
    session = make()
    receipts = [session.send(b"x") for _ in range(4)]
    pull(session, 1)
    for _ in range(2):
        pull(session, 1)
    done = session.sending.on_ack(2, 1, 0, 0)
    assert done == receipts[:2]
    stages = [receipt.stage for receipt in receipts]
    assert stages == [Stage.TAKEN, Stage.RECEIVED, Stage.SENT, Stage.QUEUED]
    assert [receipt.payload for receipt in done] == [None, None]  # nothing is kept for nothing


def test_a_parted_message_is_acknowledged_with_its_last_piece() -> None:
    session = make()
    receipt = session.send(bytes(frames.MAX_PIECE + 1))
    pull_all(session)
    assert session.sending.on_ack(1, 0, 0, 0) == []
    assert (receipt.stage, session.sending.held_bytes) == (Stage.SENT, 1)
    assert session.sending.on_ack(2, 0, 0, 0) == [receipt]
    assert (receipt.stage, session.sending.held_bytes, session.in_flight()) == (Stage.RECEIVED, 0, 0)


def test_a_refused_message_fails_once_also_when_it_was_parted() -> None:
    session = make()
    small, large = session.send(b"x"), session.send(bytes(frames.MAX_PIECE + 1))
    pull_all(session)
    assert session.sending.on_reject(1, DecodeError("bad")) is small
    assert session.sending.on_reject(3, TooLarge("large")) is large
    assert session.sending.on_reject(3, DecodeError("again")) is None
    assert isinstance(large.error, TooLarge)
    session.sending.on_ack(3, 0, 0, 0)
    assert small.stage is large.stage is Stage.FAILED
    assert session.sending.on_reject(1, DecodeError("said again after a drop")) is None


@pytest.mark.parametrize("number", [0, 2])
def test_a_refusal_of_what_was_not_sent(number: int) -> None:
    session = make()
    session.send(b"x")
    pull_all(session)
    with pytest.raises(ProtocolViolation, match="rejected unit"):
        session.sending.on_reject(number, DecodeError("bad"))


def test_a_message_dropped_after_it_was_acknowledged_never_counts_as_taken() -> None:
    session = make()
    receipts = [session.send(b"x") for _ in range(3)]
    pull_all(session)
    session.sending.on_ack(3, 0, 0, 0)
    session.sending.on_dropped(2, 2)
    session.sending.on_ack(3, 3, 0, 0)
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
        session.send(bytes(size))
    session.sending.peer_units = 4
    session.send(b"1234")
    before = [size for frame in pull_all(session) for size in frame]
    assert before == [1, frames.MAX_PIECE, 1, 3]
    if arrived > 4:
        with pytest.raises(ProtocolViolation, match="resumes at unit 5; 0 to 4 are possible"):
            session.rewind(arrived)
        return
    session.ending.is_sent, session.ending.peer_last = True, 7
    session.rewind(arrived)
    assert (session.ending.is_sent, session.ending.is_acked, session.ending.peer_last) == (False, False, None)
    assert session.sending.sent_bytes == sum(before[:arrived])
    session.sending.peer_units = 5
    again = [size for frame in pull_all(session) for size in frame]
    assert again == [*before, 4][arrived:]
    assert session.sending.messages_sent == 4
    assert session.sending.bytes_sent == frames.MAX_PIECE + 9
    assert len(session.sending.on_ack(5, 0, 0, 0)) == 4
    assert session.sending.held_bytes == 0


def test_a_resume_before_what_was_acknowledged_is_a_violation() -> None:
    session = make()
    session.send(b"x")
    pull_all(session)
    session.sending.on_ack(1, 0, 0, 0)
    with pytest.raises(ProtocolViolation):
        session.rewind(0)


def test_what_an_abandoned_session_leaves() -> None:
    session = make()
    session.send(b"acked")
    doubt = session.send(b"sent")
    parted = session.send(bytes(2 * frames.MAX_PIECE))
    unsent = session.send(b"unsent")
    session.sending.peer_units = 3
    pull_all(session)
    session.sending.on_ack(1, 0, 0, 0)
    assert session.sending.abandon() == ([doubt], [parted, unsent])
    assert (parted.offset, parted.number, session.in_flight(), session.sending.held_bytes) == (0, 0, 0, 0)
    heir = make()
    session.successor = heir
    for delivery in (parted, unsent):
        heir.sending.enqueue(delivery)
    assert session.latest() is heir.latest() is heir
    assert pull_all(heir) == [[frames.MAX_PIECE], [frames.MAX_PIECE], [6]]


# --- Receiving --------------------------------------------------------------------------------------------


def test_credit_is_the_window_beyond_what_was_taken() -> None:
    session = make(Limits(mailbox_bytes=100_000, mailbox_messages=10))
    assert session.credit() == (100_000, 10)
    arrive(session, b"12345", b"123")
    assert session.credit() == (100_000, 10)
    mailbox(session).take_all()
    assert session.credit() == (100_008, 12)


def test_one_peer_may_not_fill_what_is_for_all() -> None:
    session = make(Limits(mailbox_total=10, mailbox_messages=1000))
    session.credit()
    other = make().receiving
    mailbox(session).put(other, (bytes(10),), 1, 10, 0.0)
    before = session.receiving.granted_units
    arrive(session, b"x")
    mailbox(session).take(session.receiving)
    assert session.credit()[1] == before + 1  # an empty mailbox always grants
    arrive(session, b"x")
    arrive(session, b"y")
    mailbox(session).take(session.receiving)
    assert session.credit()[1] == before + 1  # a full one does not
    mailbox(session).take(other)
    assert session.credit()[1] == before + 2


def test_events_that_wait_for_a_callback_count_as_messages() -> None:
    session = make(Limits(mailbox_messages=2))
    session.credit()
    arrive(session, b"x", b"y")
    mailbox(session).take_all()
    session.context.effects.events.pending = 2
    assert session.credit()[1] == 2
    session.context.effects.events.pending = 1
    assert session.credit()[1] == 4


def test_a_mailbox_that_drops_always_grants() -> None:
    session = make(Limits(mailbox_messages=2), "drop_oldest")
    session.credit()
    arrive(session, b"x", b"y")
    assert session.credit()[1] == 4


def test_who_waits_for_more_gets_more() -> None:
    session = make(Limits(mailbox_messages=2, mailbox_bytes=10))
    mailbox(session).requested = 50
    assert session.credit() == (Limits().mailbox_total, 50), "nobody knows how large 50 messages are"


def test_answers_need_no_credit() -> None:
    session = make(pattern=AR, is_client=True)
    assert session.credit() == (ENDLESS, ENDLESS)


def test_early_messages_are_not_beyond_credit() -> None:
    session = make(Limits(mailbox_messages=1, mailbox_bytes=1))
    session.credit()
    session.receiving.add_units(EARLY_UNITS, 64 * 1024 + 5, 6)  # one unit may overshoot
    with pytest.raises(ProtocolViolation, match="beyond its credit"):
        session.receiving.add_units(1, 0, 0)


def test_bytes_beyond_credit() -> None:
    session = make(Limits(mailbox_bytes=1))
    session.credit()
    session.receiving.add_units(1, 64 * 1024, 64 * 1024)
    with pytest.raises(ProtocolViolation):
        session.receiving.add_units(1, 2, 1)


def test_acknowledgements_are_lazy_until_they_would_open_a_quarter_of_the_window() -> None:
    session = make(Limits(mailbox_messages=8))
    session.credit()
    arrive(session, b"a", b"b")
    route, effects = session.route, session.context.effects
    assert (route.ack_due, effects.acks_due, effects.acks_due_at) == (1, {route: None}, ACK_DELAY)
    effects.now = 1.0
    mailbox(session).take()
    assert (route.ack_due, effects.acks_due_at) == (1, ACK_DELAY)  # due already
    mailbox(session).take()
    assert route.ack_due == 2
    assert marks(session) == (2, 2, Limits().mailbox_bytes + 2, 10)
    assert session.route.ack_due == 0


def test_who_asks_for_acknowledgements_gets_each_at_once_up_to_there() -> None:
    session = make()
    session.credit()
    arrive(session, b"a", b"b")
    session.receiving.acknowledge_each()
    assert session.route.ack_due == 2
    marks(session)
    mailbox(session).take()
    assert session.route.ack_due == 2 and marks(session)[1] == 1
    assert session.receiving.ack_each
    mailbox(session).take()
    assert marks(session)[1] == 2
    assert not session.receiving.ack_each
    arrive(session, b"c")
    assert session.route.ack_due == 1


# --- Timers -----------------------------------------------------------------------------------------------


def test_a_session_is_looked_at_when_it_is_due_and_never_after_its_end() -> None:
    server = Wire().server
    session = server.sessions.open(PEER)
    session.timer.due_at = 5.0
    session.timer.handle_timer(4.9)
    assert (session.error, session.timer.due_at) == (None, 5.0)
    session.timer.handle_timer(5.0)
    assert isinstance(session.error, PeerLost)  # what a server does with one that is due
    assert session.timer.due_at == float("inf")
    session = server.sessions.open(PEER)
    session.timer.due_at = 9.0
    assert session.timer.next_timer() == 9.0
    error = DecodeError("over")
    session.close(error)
    assert session.timer.next_timer() == float("inf")
    session.timer.due_at = 9.0
    session.timer.handle_timer(9.0)
    assert session.error is error


def written_by(session: Session) -> list[bytes]:
    out = []
    while may_send(session):
        for unit in pull(session, 40):
            if isinstance(unit, Piece):
                out.append(unit.message.payload[unit.start : unit.stop])
            elif isinstance(unit, Bundle):
                out += unit.payloads
            else:
                out.append(unit.payload)
    return out


def test_one_batch_is_bounded_also_when_messages_are_empty() -> None:
    session = make()
    for _ in range(module.BATCH_COUNT + 10):
        session.send(b"")
    assert len(pull(session)) <= min(module.BATCH_COUNT, 8192)


# --- Bundles: many messages without receipts ------------------------------------------------------------


def bundled(*bodies: bytes) -> Session:
    session = make()
    assert session.send_many(list(bodies)) == len(bodies)
    return session


def test_a_bundle_goes_out_in_one_piece_and_is_acknowledged_in_one() -> None:
    session = bundled(b"a", b"bc", b"")
    session.send(b"d")
    assert (session.in_flight(), session.sending.held_bytes) == (4, 4)
    [bundle] = pull(session)
    assert isinstance(bundle, Bundle)
    assert (bundle.payloads, bundle.number, size_of(bundle)) == ([b"a", b"bc", b""], 3, 3)
    [single] = pull(session)
    assert (single.number, session.sending.sent, session.sending.sent_bytes) == (4, 4, 4)
    assert (session.sending.messages_sent, session.sending.bytes_sent) == (4, 4)
    assert session.sending.on_ack(3, 0, 0, 0) == [bundle]
    assert (session.in_flight(), session.sending.held_bytes) == (1, 1)


@pytest.mark.parametrize(
    ("limit", "value", "pulled"),
    [
        ("peer_units", 2, [b"a", b"bc"]),
        ("peer_bytes", 2, [b"a", b"bc"]),  # the second may overshoot
    ],
)
def test_what_may_not_go_whole_goes_message_by_message(limit: str, value: int, pulled: list[bytes]) -> None:
    session = bundled(b"a", b"bc", b"d")
    setattr(session.sending, limit, value)
    assert [unit.payload for unit in pull(session)] == pulled
    assert session.in_flight() == 3


def test_a_message_of_a_bundle_that_the_peer_does_not_take_fails_alone() -> None:
    session = bundled(b"a", b"bc", b"d")
    session.sending.peer_message = 1
    written = []
    while may_send(session):
        written += pull(session, 1)
    assert [unit.payload for unit in written] == [b"a", b"d"]
    assert [receipt and receipt.payload for receipt in failed(session)] == [b"bc"]


def test_half_a_bundle_may_be_acknowledged() -> None:
    session = bundled(b"a", b"bc", b"d")
    pull(session)
    [receipt] = session.sending.on_ack(1, 0, 0, 0)
    assert (receipt.number, receipt.stage) == (1, Stage.RECEIVED)
    assert [(unit.number, unit.payload) for unit in session.sending.unacked] == [(2, b"bc"), (3, b"d")]
    assert (session.in_flight(), session.sending.held_bytes) == (2, 3)


def test_one_message_of_a_bundle_may_be_refused() -> None:
    session = bundled(b"a", b"b", b"c")
    session.send(b"d")
    pull(session)
    pull(session)
    refused = session.sending.on_reject(2, DecodeError("no"))
    assert refused is not None
    assert (refused.payload, refused.number, refused.stage) == (b"b", 2, Stage.FAILED)
    assert session.sending.on_reject(2, DecodeError("no")) is None  # said again: it failed once
    assert len(session.sending.on_ack(4, 4, 0, 0)) == 4
    assert (session.in_flight(), session.sending.held_bytes) == (0, 0)


@pytest.mark.parametrize("arrived", [0, 1, 2, 3, 4])
def test_a_resume_may_cut_a_bundle(arrived: int) -> None:
    bodies = [b"a", b"bc", b"d", b"efg"]
    session = bundled(*bodies)
    pull(session)
    session.rewind(arrived)
    assert (session.sending.sent, session.sending.sent_bytes) == (arrived, len(b"".join(bodies[:arrived])))
    assert (session.sending.messages_sent, session.sending.bytes_sent) == (
        session.sending.sent,
        session.sending.sent_bytes,
    )
    assert (session.in_flight(), session.sending.held_bytes) == (4, 7)
    assert written_by(session) == bodies[arrived:]
    session.sending.on_ack(4, 0, 0, 0)
    assert (session.in_flight(), session.sending.held_bytes) == (0, 0)


def test_an_abandoned_bundle_is_its_messages() -> None:
    session = bundled(b"a", b"b")
    pull(session)
    session.send_many([b"c", b"d"])
    doubt, unsent = session.sending.abandon()
    assert [(each.payload, each.number) for each in doubt] == [(b"a", 1), (b"b", 2)]
    assert [(each.payload, each.number) for each in unsent] == [(b"c", 0), (b"d", 0)]
    assert (session.in_flight(), session.sending.held_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("limits", "queued"),
    [({"window_messages": 3}, 3), ({"window_bytes": 1}, 1), ({"window_bytes": 5}, 3), ({}, 4)],
)
def test_a_bundle_holds_what_the_window_has_room_for(limits: dict[str, int], queued: int) -> None:
    session = make(Limits(**limits))
    assert session.send_many([b"aa", b"bb", b"cc", b"dd"]) == queued
    assert (session.in_flight(), session.sending.held_bytes) == (queued, 2 * queued)


def test_large_messages_make_no_bundle() -> None:
    session = make()
    assert session.send_many([bytes(BATCH_BODIES), b"a"]) == 2
    assert pull_all(session) == [[BATCH_BODIES], [1]]


def test_the_size_of_what_is_next_is_that_of_its_message() -> None:
    """What goes out before the welcome is bounded by it."""
    session = bundled(b"abc", b"d")
    assert session.sending.next_size() == 3
    pull(session)
    session.send(bytes(frames.MAX_PIECE + 1))
    assert session.sending.next_size() == frames.MAX_PIECE + 1
    pull(session)
    session.rewind(2)
    assert session.sending.next_size() == frames.MAX_PIECE + 1

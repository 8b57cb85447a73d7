"""The sending half of a session: what is queued, what is under way, what credit allows.

The marks and the rules of session.py hold here; nothing in here knows what arrives, but acknowledgements.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from itertools import accumulate, islice
from operator import attrgetter
from typing import Any

from linkbox.core import frames
from linkbox.core.channel import Channel
from linkbox.core.mailbox import ENDLESS
from linkbox.core.stream import Assembly
from linkbox.core.units import (
    Bundle,
    Delivery,
    Piece,
    add_range,
    batch_size,
    count_of,
    deliveries_of,
    is_cut_up,
    size_of,
)
from linkbox.errors import LinkboxError, ProtocolViolation, TooLarge
from linkbox.limits import Limits

BATCH_BODIES = frames.MAX_BATCH // 2
"""Most bytes of bodies in one BATCH: leaves room for its lengths, which are as large when bodies are tiny."""
BATCH_COUNT = BATCH_BODIES // 4 - 1
EARLY_BYTES = 64 * 1024
EARLY_UNITS = EARLY_BYTES // 16
"""Most that a client writes before it is welcomed."""
_MESSAGES = (frames.DATA, frames.ASK, frames.ANSWER)
"""What the peer's limit on messages is for; the news that an ask failed is none."""
_number = attrgetter("number")


class Sending(Channel):
    """What a session has to send. `Session` sets the rest of the attributes."""

    __slots__ = (
        "acked",
        "acked_bytes",
        "assembly",
        "bundled",
        "bytes_sent",
        "dropped",
        "end_acked",
        "end_sent",
        "ending",
        "endless_credit",
        "held_bytes",
        "is_gated",
        "is_loading",
        "is_plain",
        "messages_sent",
        "mixed",
        "most_sent",
        "peer_bytes",
        "peer_end",
        "peer_message",
        "peer_messages",
        "queue",
        "sent",
        "sent_bytes",
        "taken",
        "unacked",
    )

    limits: Limits
    receipts: type[Delivery]
    link: Any
    hub: Any
    peer_end: int | None
    assembly: Assembly | None
    record: Any
    """What the store knows of it, or None (see record.py)."""

    def _begin_sending(self) -> None:
        self.queue: deque[Any] = deque()
        self.unacked: deque[Any] = deque()
        self.bundled = 0
        """By how many the messages in bundles outnumber the bundles."""
        self.acked = self.sent = self.taken = 0
        self.sent_bytes = self.acked_bytes = 0
        self.most_sent = 0
        """The most `sent` was before it went back."""
        self.held_bytes = 0
        self.peer_bytes = EARLY_BYTES
        self.peer_messages = EARLY_UNITS
        self.peer_message = ENDLESS
        self.messages_sent = self.bytes_sent = 0
        self.dropped: list[tuple[int, int]] = []
        """Ranges of numbers the peer acknowledged and later dropped from a full mailbox."""
        self.ending = False
        """The application has called the end: no more sends; END goes when the queue is empty."""
        self.end_sent = self.end_acked = False
        self.endless_credit = False
        """Answers need no credit: the asks in flight are bounded instead."""
        self.mixed = False
        """Is there anything in the queue that a BATCH cannot hold?"""
        self.is_gated = False
        """Must the store know something before more may be written?"""
        self.is_loading = False
        """Is what was sent, or is to be sent, still on disk only? What the peer says of it has to wait."""
        self.is_plain = False
        """Over a plain framing nothing is acknowledged: what is written is forgotten."""

    @property
    def held(self) -> int:
        """Units queued or unacknowledged; also messages that are on disk only."""
        return self.in_memory if self.record is None else self.in_memory + int(self.record.waiting)

    @property
    def in_memory(self) -> int:
        """Units queued or unacknowledged."""
        return len(self.queue) + len(self.unacked) + self.bundled

    def has_room(self) -> bool:
        """Is the send window open?"""
        limits = self.limits
        return (
            self.held_bytes < limits.window_bytes
            and len(self.queue) + len(self.unacked) + self.bundled < limits.window_messages
        )

    def queue_one(self, payload: bytes) -> Delivery:
        """Queue one message. The hub must now flush the link."""
        delivery = self.receipts(self, payload)
        self.held_bytes += len(payload)
        self.queue.append(delivery)
        return delivery

    def send_all(self, payloads: list[bytes]) -> int:
        """Queue as many of these as the window has room for (it must have some); returns how many."""
        limits, receipts = self.limits, self.receipts
        count, nbytes = min(len(payloads), limits.window_messages - self.in_memory), sum(map(len, payloads))
        if count < len(payloads) or self.held_bytes + nbytes > limits.window_bytes:
            sizes = list(accumulate(map(len, payloads[:count])))
            count = min(count, bisect_left(sizes, limits.window_bytes - self.held_bytes) + 1)
            payloads, nbytes = payloads[:count], sizes[count - 1]
        self.held_bytes += nbytes
        if nbytes <= BATCH_BODIES and count <= BATCH_COUNT and not self.is_plain:
            self.mixed = True
            self.bundled += count - 1
            self.queue.append(Bundle(self, payloads, nbytes))
        else:
            self.queue.extend([receipts(self, payload) for payload in payloads])
        return count

    def adopt(self, delivery: Delivery) -> None:
        """Queue a message that is there already."""
        self.queue.append(delivery)
        self.held_bytes += len(delivery.payload)

    def has_credit(self) -> bool:
        """Does the peer let one more unit start?"""
        return self.sent < self.peer_messages and self.sent_bytes < self.peer_bytes

    def sent_at_once(self, delivery: Delivery) -> None:
        """Count a message as sent that never stood in the queue. All marks first, see `_pull_one`."""
        size = len(delivery.payload)
        self.held_bytes += size
        self.sent = delivery.number = self.sent + 1
        self.sent_bytes += size
        self.messages_sent += 1
        self.bytes_sent += size
        self.unacked.append(delivery)

    def send_frame(self, delivery: Delivery) -> None:
        """Queue something of another kind than a message (see asks.py)."""
        self.mixed = True
        self.adopt(delivery)

    def owe_ack(self, urgency: int) -> None:
        """There is something to acknowledge."""
        raise NotImplementedError

    def may_send(self) -> bool:
        """Is there something queued that credit allows to be written?"""
        return bool(self.queue) and self.has_credit() and not self.is_gated

    def next_size(self) -> int:
        """Bytes of the message that is queued first. There must be one."""
        head = self.queue[0]
        return len(head.payloads[0] if head.__class__ is Bundle else head.payload)

    def pull(self, byte_budget: int) -> list[Any]:
        """Take units off the queue to be written now: all of one kind, within credit and budget.

        Returns one unit, or several messages that fit one BATCH, or nothing if the first message was
        found to be more than the peer takes (it has failed, then).
        """
        head = self.queue[0]
        if head.__class__ is Bundle:
            if self._may_go_whole(head, byte_budget):
                return [self._pull_bundle(head)]
            self.queue = self._unbundled(self.queue, 0)
            head = self.queue[0]
        queue = self.queue
        if (
            head.__class__ is not Piece
            and len(head.payload) > self.peer_message
            and head.kind in _MESSAGES
            and self.record is None  # numbers on disk are given for good: let the peer reject it
        ):
            queue.popleft()
            self.held_bytes -= len(head.payload)
            head.error = TooLarge(
                f"{self.peer} takes at most {self.peer_message} bytes, not {len(head.payload)}"
            )
            self.hub.on_delivery_failed(self, head)
            return []
        single = len(queue) == 1 or head.__class__ is Piece or head.kind != frames.DATA
        if single or len(head.payload) >= byte_budget or self.peer_messages - self.sent == 1:
            return [self._pull_one(head)]
        return self._pull_batch(byte_budget)

    # In the next two, what is taken is noted before it leaves the queue, and the marks are set right before
    # the one call that makes it true: an exception out of nowhere (Ctrl-C) leaves something `mend` can mend.

    def _pull_one(self, head: Any) -> Any:
        queue = self.queue
        unit: Any = head
        leaves, turns = True, False
        if head.__class__ is Piece:
            delivery, size, is_last = head.delivery, head.stop - head.start, head.is_last
        else:
            delivery, size, is_last = head, len(head.payload), True
            piece = frames.MAX_PIECE if head.kind == frames.DATA else frames.MAX_ASK_PIECE
            if size > piece:
                stop = min(head.offset + piece, size)
                unit, is_last = Piece(head, head.offset, stop), stop == size
                size = stop - head.offset
                head.offset = stop
                # One parted message at a time; asks and answers take turns, piece by piece.
                leaves, turns = is_last, not is_last and not self._has_more_of(head)
        self.sent += 1
        self.sent_bytes += size
        if is_last:
            delivery.number = self.sent  # of the message; the next is the piece's
            self.messages_sent += 1
            self.bytes_sent += len(delivery.payload)
        unit.number = self.sent
        self.unacked.append(unit)
        if leaves:
            queue.popleft()
        elif turns:
            queue.rotate(-1)
        return unit

    def pull_one(self) -> None:
        """The first unit in the queue was written by an earlier life."""
        self._pull_one(self.queue[0])

    def _may_go_whole(self, bundle: Bundle, byte_budget: int) -> bool:
        nbytes = bundle.nbytes
        return (
            nbytes <= byte_budget
            and self.sent_bytes + nbytes <= self.peer_bytes
            and self.sent + len(bundle.payloads) <= self.peer_messages
            and (nbytes <= self.peer_message or max(map(len, bundle.payloads)) <= self.peer_message)
        )

    def _pull_bundle(self, head: Bundle) -> Bundle:
        count = len(head.payloads)
        self.sent += count
        self.sent_bytes += head.nbytes
        self.messages_sent += count
        self.bytes_sent += head.nbytes
        head.number = self.sent
        self.unacked.append(head)
        self.queue.popleft()
        return head

    def _unbundled(self, units: deque[Any], index: int) -> deque[Any]:
        """The same units, with the messages of that bundle one by one."""
        deliveries = units[index].deliveries()
        self.bundled -= len(deliveries) - 1
        return deque((*islice(units, index), *deliveries, *islice(units, index + 1, None)))

    def _has_more_of(self, head: Delivery) -> bool:
        """Must what is queued wait for the rest of this message? Its own kind does, or its own ask."""
        if head.kind == frames.DATA:
            return True
        return any(
            each is not head and each.__class__ is not Piece and each.id == head.id for each in self.queue
        )

    def _pull_batch(self, byte_budget: int) -> list[Any]:
        queue = self.queue
        count = min(len(queue), self.peer_messages - self.sent, BATCH_COUNT, 8192)
        batch = list(islice(queue, count))
        sizes = list(
            accumulate(map(batch_size, batch) if self.mixed else [len(unit.payload) for unit in batch])
        )
        credit = self.peer_bytes - self.sent_bytes
        fits = max(1, min(bisect_right(sizes, byte_budget), bisect_left(sizes, credit) + 1))
        del batch[fits:]
        for number, unit in enumerate(batch, self.sent + 1):
            unit.number = number
        self.messages_sent += len(batch)
        self.bytes_sent += sizes[len(batch) - 1]
        self.sent += len(batch)
        self.sent_bytes += sizes[len(batch) - 1]
        self.unacked.extend(batch)
        if len(batch) == len(queue):
            queue.clear()
        else:
            pop = queue.popleft
            for _ in batch:
                pop()
        return batch

    def mend(self) -> None:
        """Make the queues agree with the marks again, after an exception in the middle of a step."""
        queue, unacked = self.queue, self.unacked
        surplus = sum(map(count_of, unacked)) - (self.sent - self.acked)
        while surplus > 0:  # `forget` was interrupted
            surplus -= count_of(unacked.popleft())
        written = {id(unit) for unit in unacked}
        while queue and (id(queue[0]) in written or is_cut_up(queue[0])):  # pulling was interrupted
            queue.popleft()
        self.held_bytes = sum(map(size_of, (*queue, *unacked)))
        self.bundled = sum(count_of(unit) - 1 for unit in (*queue, *unacked))

    def pull_plain(self, byte_budget: int) -> list[Any]:
        """Take messages off the queue of a plain framing: whole ones, and forget them."""
        units: list[Any] = []
        queue = self.queue
        while queue and byte_budget > 0 and (not units or len(queue[0].payload) <= byte_budget):
            unit = queue.popleft()
            units.append(unit)
            byte_budget -= len(unit.payload)
            self.sent += 1
            unit.number = self.sent
        size = sum(len(unit.payload) for unit in units)
        self.acked = self.sent
        self.held_bytes -= size
        self.messages_sent += len(units)
        self.bytes_sent += size
        return units

    def on_ack(self, acked: int, taken: int, byte_limit: int, message_limit: int) -> list[Delivery]:
        """The peer's marks. Returns the deliveries it has acknowledged with this."""
        if not self.acked <= acked <= self.sent or not self.taken <= taken <= acked:
            raise ProtocolViolation(
                f"{self.peer} acknowledged {acked} and took {taken} of the {self.sent} units sent to it "
                f"(before: {self.acked} and {self.taken})"
            )
        was_full = not self.has_room()
        done = self.forget(acked) if acked > self.acked else []
        if was_full and self.hub.pattern.asks:
            self.owe_ack(1)
        self.taken = taken
        # Never lowered: an ACK that was overtaken by a resume may be older than what is known.
        self.peer_bytes = max(self.peer_bytes, byte_limit)
        self.peer_messages = max(self.peer_messages, message_limit)
        return done

    def forget(self, acked: int) -> list[Any]:
        """Drop the units up to that number: the peer has them. Returns the deliveries and bundles."""
        done: list[Any] = []
        unacked = self.unacked
        freed = 0
        count, self.acked = acked - self.acked, acked
        while count:
            unit = unacked[0]
            if unit.__class__ is Bundle and len(unit.payloads) > count:
                unacked = self.unacked = self._unbundled(unacked, 0)
                continue
            unacked.popleft()
            if unit.__class__ is Bundle:
                count -= len(unit.payloads)
                freed += unit.nbytes
                self.bundled -= len(unit.payloads) - 1
                done.append(unit)
                continue
            count -= 1
            if unit.__class__ is Piece:
                freed += unit.stop - unit.start
                if not unit.is_last:
                    continue
                unit = unit.delivery
            else:
                freed += len(unit.payload)
            unit.payload = None
            done.append(unit)
        self.held_bytes -= freed
        self.acked_bytes += freed
        return done

    def on_reject(self, number: int, error: LinkboxError) -> Delivery | None:
        """The peer has processed that message, and refused it. Returns the failed delivery, if new."""
        if not 0 < number <= self.sent:
            raise ProtocolViolation(f"{self.peer} rejected unit {number}; {self.sent} were sent")
        if number <= self.acked:
            return None  # Said again after a drop.
        index = bisect_left(self.unacked, number, key=_number)
        if self.unacked[index].__class__ is Bundle:
            self.unacked = self._unbundled(self.unacked, index)
            index = bisect_left(self.unacked, number, key=_number)
        unit = self.unacked[index]
        delivery: Delivery = unit.delivery if unit.__class__ is Piece else unit
        if delivery.error is not None:
            return None
        delivery.error = error
        return delivery

    def on_dropped(self, first: int, last: int) -> None:
        """The peer dropped messages it had acknowledged, before its application took them."""
        add_range(self.dropped, first, last)

    def was_dropped(self, number: int) -> bool:
        """Did the peer drop this message after it had acknowledged it?"""
        return any(first <= number <= last for first, last in self.dropped)

    def rewind(self, arrived: int) -> None:
        """A resume: what the peer has not got goes back to the front of the queue."""
        if not self.acked <= arrived <= self.sent:
            raise ProtocolViolation(
                f"{self.peer} resumes at unit {arrived}; {self.acked} to {self.sent} are possible"
            )
        self.most_sent = max(self.most_sent, self.sent)
        while self.sent > arrived:
            unit = self.unacked[-1]
            if unit.__class__ is Bundle and self.sent - len(unit.payloads) < arrived:
                self.unacked = self._unbundled(self.unacked, len(self.unacked) - 1)
                continue
            self.unacked.pop()
            self.queue.appendleft(unit)
            self.sent -= count_of(unit)
            self.mixed = self.mixed or unit.__class__ is Piece
            self.sent_bytes -= size_of(unit)
            if unit.__class__ is Piece and unit.is_last:
                self.messages_sent -= 1
                self.bytes_sent -= len(unit.delivery.payload)
            elif unit.__class__ is not Piece:
                self.messages_sent -= count_of(unit)
                self.bytes_sent -= size_of(unit)
        self.end_sent = self.end_acked = False
        self.peer_end = None  # Both ENDs are said again.

    def abandon(self) -> tuple[list[Delivery], list[Delivery]]:
        """The session is over: (in doubt, never sent whole), each in order; both leave the session."""
        unacked, queued = deliveries_of(self.unacked), deliveries_of(self.queue)
        doubt = {id(each): each for each in unacked if each.number}
        unsent = {id(each): each for each in (*unacked, *queued) if id(each) not in doubt}
        for each in unsent.values():
            each.offset = each.number = 0
        self.queue.clear()
        self.unacked.clear()
        self.assembly = None  # a timer may remember this session for long
        self.held_bytes = self.bundled = 0
        return list(doubt.values()), list(unsent.values())

    def wants_end(self) -> bool:
        """Has the time come to write END?"""
        if not self.ending or self.end_sent or self.queue or self.link is None:
            return False
        return self.record is None or not (self.record.waiting or self.is_gated)

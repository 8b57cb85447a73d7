"""One conversation with one peer: it outlives the connections that carry it.

How to think about it. Each direction is a sequence of *units*, numbered from 1 and never
renumbered. A unit is a message, or one piece of a message too large for a frame, or one piece of an
ask or an answer. Numbers are counted, never sent: the n-th unit on the wire is unit n, on both
sides. Three marks move along the sequence, each never backwards:

    taken  <=  acked  <=  sent            (sending; what the peer said, what it said, what we wrote)
    taken  <=  processed  <=  arrived     (receiving; by the application, by us, from the wire)

*Arrived* is where a resume goes on: it may be ahead of what is processed, because decoding (and, with
a store, the disk) takes time. What is sent and not acked is kept, in order, in ``unacked``; a resume
moves what the peer has not got back to the front of ``queue``. Nothing is ever sent again without one.

Credit is two cumulative limits per direction (bytes, units). A unit may start while the sum of the
units before it is below the limit, so one unit may overshoot it and no message is too large to start.
What has arrived, less what waits in the mailbox, plus the window: so a mailbox that is emptied grants
more, a full one stops granting, and pieces of a message that is not whole never wait for themselves.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from itertools import accumulate, islice
from operator import attrgetter
from typing import Any

from linkbox.core import frames
from linkbox.core.mailbox import ENDLESS, Box, MailboxState, Source
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
from linkbox.events import Peer
from linkbox.limits import Limits

BATCH_BODIES = frames.MAX_BATCH // 2
"""Most bytes of bodies in one BATCH: leaves room for its lengths, which are as large when bodies are tiny."""
BATCH_COUNT = BATCH_BODIES // 4 - 1
EARLY_BYTES = 64 * 1024
EARLY_UNITS = EARLY_BYTES // 16
"""Most that a client writes before it is welcomed."""
_MESSAGES = (frames.DATA, frames.ASK, frames.ANSWER)
"""What the peer's limit on messages is for; the news that an ask failed is none."""
NEVER = float("inf")
_number = attrgetter("number")


class Session:
    """Both directions of one conversation. Knows no socket, no clock and no frame layout."""

    def __init__(
        self, id: str, peer: Peer, mailbox: MailboxState, limits: Limits, receipts: type[Delivery]
    ) -> None:
        self.id = id
        self.peer = peer
        self.mailbox = mailbox
        self.limits = limits
        self.receipts = receipts
        self.link: Any = None
        """The connection that carries it now, or None."""
        self.epoch = 0
        self.born = 1
        """The epoch in which the server began it."""
        self.incarnation = ""
        self.failures = 0
        self.last_failure: Exception | None = None
        """Connections in a row that came to nothing."""
        self.progress = 0
        """What it had achieved when its last connection broke."""
        self.began_at = 0.0
        self.connect_by = NEVER
        self.established = False
        """Was ever welcomed."""
        self.resumes = True
        """May it be carried on by another connection?"""
        self.is_up = False
        """Has a link, and callbacks were told so."""
        self.due_at = self.timer_at = NEVER
        """When the hub wants to look at it again, and when it will be called for that."""
        self.box = Box()
        self.successor: Session | None = None
        """The session that took over what this one could not send, if any."""
        self.error: Exception | None = None
        """Set when it is over for good; `EndOfData` for an orderly end."""
        self.first_failure: Exception | None = None
        """Why the first of its messages that failed did."""
        self._begin_sending()
        self._begin_receiving()

    def _begin_sending(self) -> None:
        self.queue: deque[Any] = deque()
        self.unacked: deque[Any] = deque()
        self.bundled = 0
        """By how many the messages in bundles outnumber the bundles."""
        self.acked = self.sent = self.taken = 0
        self.sent_bytes = 0
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
        self.is_plain = False
        """Over a plain framing nothing is acknowledged: what is written is forgotten."""

    def _begin_receiving(self) -> None:
        self.source = Source(self.peer, self._on_taken)
        self.arrived = 0
        self.arrived_bytes = 0
        self.granted_bytes = self.granted_messages = 0
        self.assembly: list[Any] = []
        self.assembly_total = 0
        self.messages_received = self.bytes_received = 0
        self.peer_end: int | None = None
        self.refusals: deque[bytes] = deque(maxlen=1000)
        """REJECT frames, to be said again after a drop: they may not have got there."""
        self.rejections = 0
        self.drops: list[tuple[int, int]] = []
        self.untold: list[tuple[int, int]] = []
        """Ranges of numbers that our full mailbox dropped after they were acknowledged; and those of
        them that the peer has not been told."""
        self.eager_until = 0
        self.reported_taken = 0
        self.ack_owed = 0
        """0: nothing new to tell. 1: tell with the next write, or soon. 2: tell now."""
        self.hub: Any = None
        """Is told when an acknowledgement is owed, and when a delivery fails here."""

    def latest(self) -> Session:
        """The session that carries on, after any number of take-overs; often this one."""
        session = self
        while session.successor is not None:
            session = session.successor
        return session

    def next_timer(self) -> float:
        """When `handle_timer` should be called next."""
        return self.due_at if self.error is None else NEVER

    def handle_timer(self, now: float) -> None:
        """The hub wanted to look at it."""
        if now >= self.due_at:
            self.due_at = NEVER
            self.hub.on_session_due(self, now)

    # -- sending ------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Units queued or unacknowledged."""
        return len(self.queue) + len(self.unacked) + self.bundled

    def has_room(self) -> bool:
        """Is the send window open?"""
        limits = self.limits
        return (
            self.held_bytes < limits.window_bytes
            and len(self.queue) + len(self.unacked) + self.bundled < limits.window_messages
        )

    def send(self, payload: bytes) -> Delivery:
        """Queue one message. The hub must now flush the link."""
        delivery = self.receipts(self, payload)
        self.held_bytes += len(payload)
        self.queue.append(delivery)
        return delivery

    def send_all(self, payloads: list[bytes]) -> int:
        """Queue as many of these as the window has room for (it must have some); returns how many."""
        limits, receipts = self.limits, self.receipts
        count, nbytes = min(len(payloads), limits.window_messages - self.held), sum(map(len, payloads))
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
        """Queue a message that another session could not send."""
        self.queue.append(delivery)
        self.held_bytes += len(delivery.payload)

    def send_frame(self, delivery: Delivery) -> None:
        """Queue something of another kind than a message (see asks.py)."""
        self.mixed = True
        self.queue.append(delivery)
        self.held_bytes += len(delivery.payload)

    def may_send(self) -> bool:
        """Is there something queued that credit allows to be written?"""
        return bool(self.queue) and self.sent < self.peer_messages and self.sent_bytes < self.peer_bytes

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
        if head.__class__ is not Piece and len(head.payload) > self.peer_message and head.kind in _MESSAGES:
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
        done = self.forget(acked) if acked > self.acked else []
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
        self.assembly = []  # a timer may remember this session for long
        self.held_bytes = self.bundled = 0
        return list(doubt.values()), list(unsent.values())

    def wants_end(self) -> bool:
        """Has the time come to write END?"""
        return self.ending and not self.end_sent and not self.queue and self.link is not None

    # -- receiving ----------------------------------------------------------------------------------

    def arrival_mark(self) -> tuple[int, int, list[Any], int, int]:
        """Where receiving stands, for `back_to`."""
        return self.arrived, self.arrived_bytes, self.assembly, len(self.assembly), self.assembly_total

    def back_to(self, mark: tuple[int, int, list[Any], int, int]) -> None:
        """Forget what was received since that mark."""
        self.arrived, self.arrived_bytes, self.assembly, pieces, self.assembly_total = mark
        del self.assembly[pieces:]

    def on_units(self, count: int, nbytes: int, last_size: int) -> None:
        """So many units have arrived together. ``last_size`` of the bytes belong to the last of them."""
        self.arrived += count
        self.arrived_bytes += nbytes
        before = self.arrived_bytes - last_size
        # What came behind HELLO was sent before the sender knew its credit.
        if (self.arrived > self.granted_messages and self.arrived > EARLY_UNITS) or (
            before > self.granted_bytes and before > EARLY_BYTES
        ):
            raise ProtocolViolation(
                f"{self.peer} sent {self.arrived} units and {self.arrived_bytes} bytes, beyond its credit of "
                f"{self.granted_messages} and {self.granted_bytes}"
            )

    def on_first_part(self, total: int, body: bytes) -> None:
        """The first piece of a parted message. Too large a message is counted, not kept."""
        self.assembly_total = total
        self.assembly.append(body if total <= self.limits.message else len(body))

    def on_part(self, body: bytes) -> None:
        """A further piece."""
        self.assembly.append(body if self.assembly_total <= self.limits.message else len(body))

    def assembled(self, body: bytes) -> bytes | TooLarge:
        """The last piece: the whole message, or why it is refused."""
        total, parts = self.assembly_total, self.assembly
        parts.append(body if total <= self.limits.message else len(body))
        self.assembly, self.assembly_total = [], 0
        if total > self.limits.message:
            return TooLarge(f"a message of {total} bytes; this end takes at most {self.limits.message}")
        whole = b"".join(parts)
        if len(whole) != total:
            raise ProtocolViolation(f"{self.peer} announced a message of {total} bytes and sent {len(whole)}")
        return whole

    def credit(self) -> tuple[int, int]:
        """The limits (bytes, units) to grant now; remembered as granted."""
        limits, source, mailbox = self.limits, self.source, self.mailbox
        if self.endless_credit:
            self.granted_bytes = self.granted_messages = ENDLESS
            return ENDLESS, ENDLESS
        if mailbox.overflow != "block":
            window, waiting, waiting_bytes = max(limits.mailbox_bytes, EARLY_BYTES), 0, 0
        elif mailbox.nbytes < max(limits.mailbox_total, mailbox.wanted) or not source.waiting:
            window = max(limits.mailbox_bytes, mailbox.wanted)
            waiting, waiting_bytes = source.waiting, source.waiting_bytes
        else:  # All mailboxes together are full: no more for now.
            return self.granted_bytes, self.granted_messages
        if self.hub.pending_events >= limits.mailbox_messages:
            return self.granted_bytes, self.granted_messages  # A callback blocks: its events count too.
        messages = max(limits.mailbox_messages, min(mailbox.wanted, window))
        self.granted_bytes = max(self.granted_bytes, self.arrived_bytes - waiting_bytes + window)
        self.granted_messages = max(self.granted_messages, self.arrived - waiting + messages)
        return self.granted_bytes, self.granted_messages

    def marks(self) -> tuple[int, int, int, int]:
        """What an ACK says. The caller must write it: it counts as told."""
        source = self.source
        taken = source.taken
        self.ack_owed = 0
        self.hub.on_ack_told(self)
        self.reported_taken = taken
        if source.eager and taken >= self.eager_until:
            source.eager = False
        return (source.processed, taken, *self.credit())

    def on_ack_now(self) -> None:
        """The peer waits for receipts: acknowledge now, and each step up to here at once."""
        self.eager_until = self.arrived
        self.mailbox.settle_hand()
        self.source.eager = True
        self.owe_ack(2)

    def owe_ack(self, urgency: int) -> None:
        """There is something to acknowledge; urgent when it would open a good part of the window again.

        Not sooner: a sender that gets its credit in crumbs would send crumbs. Over a plain framing
        nothing is acknowledged; but a link that was not read because the mailbox was full may be read.
        """
        if self.is_plain:
            self.hub.read_again()
            return
        if urgency < 2 and (self.source.eager or self._regains_much()):
            urgency = 2
        if urgency > self.ack_owed:
            self.ack_owed = urgency
            self.hub.on_ack_owed(self)

    def _regains_much(self) -> bool:
        """Would the peer get back a quarter of its window with an ACK now?"""
        limits, source = self.limits, self.source
        units = self.granted_messages - self.arrived + source.waiting
        nbytes = self.granted_bytes - self.arrived_bytes + source.waiting_bytes
        return units <= 0.75 * limits.mailbox_messages or nbytes <= 0.75 * limits.mailbox_bytes

    def is_worth_a_line(self) -> bool:
        """One more message was rejected: does the log say so? The 1st, 2nd, 4th, 8th, …: a flood must not
        fill it, nor take the time of others with it."""
        self.rejections += 1
        return self.rejections & (self.rejections - 1) == 0

    def _on_taken(self) -> None:
        self.owe_ack(1)

"""The sending half of a session: the queue, the units that are not acknowledged, and the credit.

Each direction of a session is a sequence of *units*, numbered from 1 and never renumbered. A unit is a
message, or one piece of a message too large for a frame, or one piece of a request or a response. Numbers are
counted, not sent: the n-th unit on the wire is unit n, on both sides. Marks move along the sequence, each
never backwards::

    taken  <=  acked  <=  sent        (what the peer has reported, what it has reported, what was written)

Units that are sent and not acknowledged are kept, in order, in ``unacked``. A resume moves those that the
peer has not received back to the front of ``queue`` (resumption.py). Nothing is sent again without a resume.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from itertools import accumulate, islice
from operator import attrgetter
from typing import Final

from linkbox.core.channel import Channel
from linkbox.core.empty import EMPTY
from linkbox.core.outgoing import (
    AskHeader,
    Bundle,
    MessageType,
    OutgoingMessage,
    Piece,
    Unit,
    add_range,
    batch_size,
    message_of,
    messages_of,
)
from linkbox.core.wait_queue import ENDLESS
from linkbox.core.wire import frames
from linkbox.errors import LinkboxError, MailboxFull, ProtocolViolation, TooLarge
from linkbox.events import Peer, Stage
from linkbox.limits import Limits

BATCH_BODIES: Final = frames.MAX_BATCH // 2
"""Most bytes of payload in one BATCH. The lengths need the rest: as much, if messages are small."""
BATCH_COUNT: Final = BATCH_BODIES // 4 - 1
UNIT_COST: Final = 192
"""Bytes of memory that a message takes besides its payload, until it is acknowledged. The limit on bytes
counts them, too, beyond the first `FREE_COST`."""
FREE_COST: Final = 64 * 1024
EARLY_BYTES: Final = 64 * 1024
EARLY_UNITS: Final = EARLY_BYTES // 16
"""Most units that a client writes before it is welcomed."""
JOINED: Final = 16 * 1024
"""A payload up to this size is copied behind its header; a longer one is written without a copy."""
FIRST_AGAIN: Final = 256
"""Most units that are sent again before the peer acknowledges any. Then it is as many as it has acknowledged,
and as many more: a peer that only resumes must not cost the time for a whole window again and again."""
_BATCH_MOST: Final = 8192
"""Most messages in one BATCH."""
_LIMITED: Final = (frames.DATA, frames.ASK, frames.ANSWER)
"""The frame types that carry messages, for which the peer has a size limit. FAIL and CANCEL carry none."""
_number = attrgetter("number")


class SendWindow:
    """The messages that a session has to send, or has sent without an acknowledgement."""

    __slots__ = (
        "acked",
        "acked_bytes",
        "bundled",
        "bytes_sent",
        "dropped",
        "full_units",
        "held_bytes",
        "limits",
        "message_type",
        "messages_sent",
        "most_sent",
        "peer",
        "peer_bytes",
        "peer_message",
        "peer_units",
        "queue",
        "sent",
        "sent_bytes",
        "taken",
        "unacked",
    )

    def __init__(self, peer: Peer, limits: Limits, message_type: MessageType) -> None:
        self.peer: Peer = peer
        self.limits: Limits = limits
        self.message_type: MessageType = message_type
        self.queue: deque[Unit] = EMPTY
        self.unacked: deque[Unit] = EMPTY
        self.bundled: int = 0
        """The number of messages in bundles minus the number of bundles."""
        self.acked: int = 0
        self.sent: int = 0
        self.taken: int = 0
        self.sent_bytes: int = 0
        self.acked_bytes: int = 0
        self.most_sent: int = 0
        """The highest value that ``sent`` ever had."""
        self.held_bytes: int = 0
        """Bytes of payload that are queued or not acknowledged."""
        self.peer_bytes: int = EARLY_BYTES
        self.peer_units: int = EARLY_UNITS
        """The credit that the peer has granted."""
        self.full_units: int = 0
        """While units are sent again: all of the credit, of which `peer_units` is a part. Else 0."""
        self.peer_message: int = ENDLESS
        """The largest message that the peer accepts."""
        self.messages_sent: int = 0
        self.bytes_sent: int = 0
        self.dropped: list[tuple[int, int]] = []
        """Ranges of numbers the peer acknowledged and later dropped from a full mailbox."""

    def welcome(self, credit: tuple[int, int], largest: int, is_resumed: bool) -> None:
        """Set the first credit (bytes, units) of a new connection, and the peer's limit on messages.

        Messages in a store cannot be renumbered, so one that is too large is sent all the same, and rejected.
        """
        self.peer_bytes = max(self.peer_bytes if is_resumed else 0, credit[0])
        self.peer_units = max(self.peer_units, self.full_units) if is_resumed else 0
        self.peer_units = max(self.peer_units, credit[1])
        self.peer_message = largest
        self.full_units = 0
        if self.sent < self.most_sent:
            self.full_units = self.peer_units
            self.peer_units = min(self.peer_units, self.sent + FIRST_AGAIN)

    @property
    def in_memory(self) -> int:
        """Units queued or not acknowledged."""
        return len(self.queue) + len(self.unacked) + self.bundled

    def stage_of(self, message: OutgoingMessage, is_plain: bool) -> Stage:
        """The stage of a message that has not failed."""
        number = message.number
        if number == 0 or number > self.sent:
            return Stage.QUEUED
        if self.dropped and any(first <= number <= last for first, last in self.dropped):
            message.error = MailboxFull(f"{self.peer} dropped the message from its full mailbox, untaken")
            return Stage.FAILED
        if number <= self.taken:  # with a plain framing this stays 0
            return Stage.TAKEN
        return Stage.RECEIVED if number <= self.acked and not is_plain else Stage.SENT

    def has_room(self) -> bool:
        """Is the send window open?"""
        limits, count = self.limits, len(self.queue) + len(self.unacked) + self.bundled
        return (
            self.held_bytes < limits.window_bytes
            and count < limits.window_messages
            and self.held_bytes + UNIT_COST * count < limits.window_bytes + FREE_COST
        )

    def send_all(self, channel: Channel, payloads: list[bytes], may_bundle: bool) -> int:
        """Queue as many payloads as the window has room for (at least one); return how many."""
        limits, message_type = self.limits, self.message_type
        used = self.held_bytes + UNIT_COST * self.in_memory - FREE_COST
        room = min(limits.window_messages - self.in_memory, (limits.window_bytes - used) // UNIT_COST)
        count, nbytes = min(len(payloads), max(room, 1)), sum(map(len, payloads))
        if count < len(payloads) or self.held_bytes + nbytes > limits.window_bytes:
            sizes = list(accumulate(map(len, payloads[:count])))
            count = min(count, bisect_left(sizes, limits.window_bytes - self.held_bytes) + 1)
            payloads, nbytes = payloads[:count], sizes[count - 1]
        if self.unacked is EMPTY:
            self.queue, self.unacked = deque(), deque()
        self.held_bytes += nbytes
        if nbytes <= BATCH_BODIES and count <= BATCH_COUNT and may_bundle:
            self.bundled += count - 1
            self.queue.append(Bundle(channel, message_type, payloads, nbytes))
        else:
            self.queue.extend([message_type(channel, payload) for payload in payloads])
        return count

    def enqueue(self, message: OutgoingMessage) -> None:
        """Queue one message."""
        if self.unacked is EMPTY:
            self.queue, self.unacked = deque(), deque()
        self.queue.append(message)
        self.held_bytes += message.size()

    def has_credit(self) -> bool:
        """Does the credit allow the next unit of the queue?"""
        if self.sent >= self.peer_units and not (self.full_units > self.sent and self._goes_on()):
            return False
        return self.sent_bytes < self.peer_bytes

    def _goes_on(self) -> bool:
        """May the next unit be sent, although many are sent again and not acknowledged?

        A piece may: the peer acknowledges none before it has the whole message.
        """
        if self.sent >= self.most_sent:  # The pieces before it were the last that are sent again.
            self.peer_units, self.full_units = self.full_units, 0
            return True
        return isinstance(self.queue[0], Piece)

    def _regain(self, unit_limit: int, acked: int) -> None:
        """``acked`` of the units that are sent again are acknowledged: send twice as many."""
        self.full_units = max(self.full_units, unit_limit)
        self.peer_units = min(self.peer_units + 2 * acked, self.full_units)
        if self.peer_units >= self.most_sent:
            self.peer_units, self.full_units = self.full_units, 0

    def send_at_once(
        self, channel: Channel, payload: bytes, header: AskHeader | None
    ) -> OutgoingMessage | None:
        """Make a small message of the ``channel``, and count it as sent: the caller must write it.

        None if others wait before it, or credit or (except for requests, which have their own limits) the
        window does not allow it.
        """
        size, limits, held = len(payload), self.limits, self.held_bytes
        if size > JOINED or self.queue or self.sent >= self.peer_units or self.sent_bytes >= self.peer_bytes:
            return None
        if header is None:
            count = len(self.unacked) + self.bundled  # as in `has_room`, without a call
            if (
                size > self.peer_message
                or held >= limits.window_bytes
                or count >= limits.window_messages
                or held + UNIT_COST * count >= limits.window_bytes + FREE_COST
            ):
                return None
        message = self.message_type(channel, payload, header)
        self.held_bytes = held + size
        self.sent = message.number = self.sent + 1
        self.sent_bytes += size
        self.messages_sent += 1
        self.bytes_sent += size
        if self.unacked is EMPTY:
            self.queue, self.unacked = deque(), deque()
        self.unacked.append(message)
        return message

    def next_size(self) -> int:
        """Bytes of the first message in the queue. There must be one."""
        head = self.queue[0]
        if isinstance(head, Bundle):
            return len(head.payloads[0])
        return head.message.size() if isinstance(head, Piece) else message_of(head).size()

    def pull(self, byte_budget: int) -> list[Unit]:
        """Take units off the queue to write them now: all of one kind, within credit and budget.

        Returns one unit, or several messages that fit one BATCH. Returns nothing if the first message is
        larger than the peer accepts: then call `pop_too_large`.
        """
        head = self.queue[0]
        if isinstance(head, Bundle):
            if self._may_go_whole(head, byte_budget):
                self._pull_bundle(head)
                return [head]
            self.queue = self.unbundled(self.queue, 0)
            head = self.queue[0]
        if isinstance(head, Piece):
            return [self._pull_piece(head)]
        message = message_of(head)
        size = message.size()
        if size > self.peer_message and message.kind in _LIMITED:
            return []
        if (
            len(self.queue) == 1
            or message.header is not None
            or size >= byte_budget
            or self.peer_units - self.sent == 1
        ):
            return [self.pull_message(message)]
        return self._pull_batch(byte_budget)

    def pull_whole(self) -> OutgoingMessage | None:
        """Take a message off the queue for a broker, as one unit. None: call `pop_too_large`."""
        message = message_of(self.queue[0])
        if message.size() > self.peer_message and message.kind in _LIMITED:
            return None
        self._count_unit(message, message, message.size(), True)
        self.queue.popleft()
        return message

    def pop_too_large(self) -> OutgoingMessage:
        """Take the first message off the queue and fail it, because it is larger than the peer accepts."""
        message = message_of(self.queue.popleft())
        size = message.size()
        self.held_bytes -= size
        message.error = TooLarge(
            f"{self.peer} takes messages of at most {self.peer_message} bytes, not {size}"
        )
        return message

    def _pull_piece(self, piece: Piece) -> Piece:
        """Take off the queue a piece that is sent again after a resume."""
        self._count_unit(piece, piece.message, piece.stop - piece.start, piece.is_last)
        self.queue.popleft()
        return piece

    def pull_message(self, message: OutgoingMessage) -> Unit:
        size = message.size()
        longest = frames.MAX_PIECE if message.header is None else frames.MAX_ASK_PIECE
        if size <= longest:
            self._count_unit(message, message, size, True)
            self.queue.popleft()
            return message
        start = message.offset
        stop = message.offset = min(start + longest, size)
        piece = Piece(message, start, stop)
        self._count_unit(piece, message, stop - start, stop == size)
        # One message in pieces at a time; but pieces of requests and responses are interleaved.
        if stop == size:
            self.queue.popleft()
        elif not self._has_more_of(message):
            self.queue.rotate(-1)
        return piece

    def _count_unit(self, unit: Unit, message: OutgoingMessage, size: int, is_last: bool) -> None:
        self.sent += 1
        self.sent_bytes += size
        if is_last:
            message.number = self.sent
            self.messages_sent += 1
            self.bytes_sent += message.size()
        unit.number = self.sent
        self.unacked.append(unit)

    def _may_go_whole(self, bundle: Bundle, byte_budget: int) -> bool:
        nbytes = bundle.nbytes
        return (
            nbytes <= byte_budget
            and self.sent_bytes + nbytes <= self.peer_bytes
            and self.sent + len(bundle.payloads) <= self.peer_units
            and (nbytes <= self.peer_message or max(map(len, bundle.payloads)) <= self.peer_message)
        )

    def _pull_bundle(self, head: Bundle) -> None:
        count = len(head.payloads)
        self.sent += count
        self.sent_bytes += head.nbytes
        self.messages_sent += count
        self.bytes_sent += head.nbytes
        head.number = self.sent
        self.unacked.append(head)
        self.queue.popleft()

    def unbundled(self, units: deque[Unit], index: int) -> deque[Unit]:
        """The same units, with the bundle at ``index`` replaced by its messages."""
        bundle = units[index]
        assert isinstance(bundle, Bundle)
        messages = bundle.messages()
        self.bundled -= len(messages) - 1
        return deque((*islice(units, index), *messages, *islice(units, index + 1, None)))

    def _has_more_of(self, head: OutgoingMessage) -> bool:
        """Must the next queued message wait for the rest of this one: same kind, or same request?"""
        if head.header is None:
            return True
        return any(
            isinstance(each, OutgoingMessage)
            and each is not head
            and each.header is not None
            and each.header.id == head.header.id
            for each in self.queue
        )

    def _pull_batch(self, byte_budget: int) -> list[Unit]:
        queue = self.queue
        count = min(len(queue), self.peer_units - self.sent, BATCH_COUNT, _BATCH_MOST)
        batch = list(islice(queue, count))
        sizes = list(accumulate(map(batch_size, batch)))
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
            for _ in batch:
                queue.popleft()
        return batch

    def on_ack(self, acked: int, taken: int, byte_limit: int, unit_limit: int) -> list[Unit]:
        """Process the marks of an ACK. Return the messages and bundles that it acknowledges."""
        if not self.acked <= acked <= self.sent or not self.taken <= taken <= acked:
            raise ProtocolViolation(
                f"{self.peer} acknowledged {acked} and took {taken} of the {self.sent} units sent "
                f"(before: {self.acked} and {self.taken})"
            )
        before = self.acked
        done = self.forget(acked) if acked > before else []
        self.taken = taken
        # Never lowered: an ACK from before a resume may be older than the credit that the resume brought.
        self.peer_bytes = max(self.peer_bytes, byte_limit)
        if self.full_units:
            self._regain(unit_limit, acked - before)
        else:
            self.peer_units = max(self.peer_units, unit_limit)
        return done

    def forget(self, acked: int) -> list[Unit]:
        """Drop the units up to ``acked``, which the peer has. Return the messages and bundles."""
        done: list[Unit] = []
        freed = 0
        count, self.acked = acked - self.acked, acked
        while count:
            unit = self.unacked[0]
            if isinstance(unit, Bundle):
                if len(unit.payloads) > count:
                    self.unacked = self.unbundled(self.unacked, 0)
                    continue
                count -= len(unit.payloads)
                freed += unit.nbytes
                self.bundled -= len(unit.payloads) - 1
                done.append(unit)
            else:
                count -= 1
                message: OutgoingMessage | None
                if isinstance(unit, Piece):
                    freed += unit.stop - unit.start
                    message = unit.message if unit.is_last else None
                else:
                    assert isinstance(unit, OutgoingMessage)
                    freed += len(unit.payload or b"")
                    message = unit
                if message is not None:
                    message.payload = None
                    done.append(message)
            self.unacked.popleft()
        self.held_bytes -= freed
        self.acked_bytes += freed
        return done

    def on_reject(self, number: int, error: LinkboxError) -> OutgoingMessage | None:
        """The peer has rejected a message. Return the message, unless it failed before."""
        if not 0 < number <= self.sent:
            raise ProtocolViolation(f"{self.peer} rejected unit {number}; {self.sent} were sent")
        if number <= self.acked:
            return None  # The peer repeats REJECT after a reconnect.
        index = bisect_left(self.unacked, number, key=_number)
        if isinstance(self.unacked[index], Bundle):
            self.unacked = self.unbundled(self.unacked, index)
            index = bisect_left(self.unacked, number, key=_number)
        unit = self.unacked[index]
        message = unit.message if isinstance(unit, Piece) else message_of(unit)
        if message.error is not None:
            return None
        message.error = error
        return message

    def on_dropped(self, first: int, last: int) -> None:
        """The peer dropped messages that it had received before its application took them."""
        if last > self.sent:
            raise ProtocolViolation(f"{self.peer} dropped unit {last}; {self.sent} were sent")
        add_range(self.dropped, first, last)

    def withdraw(self, id: int) -> int:
        """Take what was not sent of a request off the queue; return of how many messages nothing was sent."""
        queue, self.queue, count = self.queue, deque(), 0
        for unit in queue:
            if isinstance(unit, OutgoingMessage) and unit.header is not None and unit.header.id == id:
                self.held_bytes -= unit.size() - unit.offset
                count += not unit.offset
            else:
                self.queue.append(unit)
        return count

    def abandon(self) -> tuple[list[OutgoingMessage], list[OutgoingMessage]]:
        """Remove all messages. Return those in doubt and those never sent completely, each in order."""
        unacked, queued = messages_of(self.unacked), messages_of(self.queue)
        doubt = {id(each): each for each in unacked if each.number}
        unsent = {id(each): each for each in (*unacked, *queued) if id(each) not in doubt}
        for each in unsent.values():
            each.offset = each.number = 0
        self.queue.clear()
        self.unacked.clear()
        self.held_bytes = self.bundled = 0
        return list(doubt.values()), list(unsent.values())

    def restore(self, acked: int, nbytes: int = 0) -> None:
        """Continue after a restart: ``acked`` units, of ``nbytes``, were acknowledged before it."""
        self.sent = self.acked = acked
        self.sent_bytes = self.acked_bytes = nbytes

"""The mailbox: the queue of messages that have arrived and have not been taken.

The messages of one read from one peer are one *batch*. The same batch is in two queues: the mailbox's (all
peers, in the order of arrival) and its source's (one peer). Messages are taken out of the batch, so each is
taken once, whichever queue it was found in. An empty batch is removed from a queue when it is first there.

Taking a message costs only a ``popleft``, because no counter is updated for it: the number of messages taken
follows from what is left (`Source.taken`), and credit from what is waiting. Byte counts are exact for Bytes.
For other formats they are what the values take in memory (an estimate, see format_costs.py), and the bytes of
a batch are released when the batch is empty, at most 256 KiB late.

**Limits count what messages cost.** A message of one byte takes more than a byte: `Source.cost` adds what the
messages and batches themselves take.

**The fast queue.** Taking the front end's lock costs more than the ``popleft``. So up to `FAST_COUNT`
messages at the front are put in ``fast_queue``, from which any thread may take without the lock: a deque
returns each item once. The thread that empties it calls `settle_fast_queue` under the lock. While the fast
queue is in use, the counts include all of it, and only ``popleft`` is called on it. Every other call that
takes or counts settles it first: the remaining messages move to a new deque, which threads that still hold
the old one cannot reach.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from linkbox.core.effects import ACK_DUE_SOON
from linkbox.core.empty import EMPTY
from linkbox.core.room import Room
from linkbox.core.source import Batch, Source
from linkbox.core.values import Value
from linkbox.core.wait_queue import WaitQueue
from linkbox.limits import Limits

FAST_COUNT: Final = 64
"""Most messages in the fast queue: settling it moves up to this many."""
_NOTHING: deque[Value] = deque()
OVERFLOW_POLICIES: Final = ("block", "drop_oldest", "drop_newest", "error")


class MailboxQueue(WaitQueue):
    """The queue of callers that wait for a message: no more are woken than there are messages."""

    __slots__ = ("_mailbox",)

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox

    def available(self) -> int:
        return self._mailbox.count


class Mailbox(Room):
    """Messages of all sources. Not thread-safe: the front end holds its lock around each call."""

    def __init__(self, limits: Limits, overflow: str = "block") -> None:
        if overflow not in OVERFLOW_POLICIES:
            raise ValueError(f"overflow={overflow!r}: one of {', '.join(OVERFLOW_POLICIES)} is needed")
        super().__init__(limits, overflow)
        self.sources: dict[Source, None] = {}
        """The sources with messages in the mailbox, in the order in which they got their first."""
        self.may_join: bool = overflow == "block"
        """May messages share a batch? Not with a dropping policy: each must release its own bytes."""
        self.dropped: int = 0
        self.end_reason: Exception | None = None
        """Why nothing more will arrive from any peer; None while something may."""
        self.emptied: int = 0
        self.fast_queue: deque[Value] = _NOTHING
        """The next messages, to be taken with ``popleft`` by any thread, without the lock; call
        `settle_fast_queue` when that has emptied it."""
        self.fast_batch: Batch | None = None
        """The batch that these messages belong to; None while there is no fast queue."""
        self._fast_size = 0
        self.changed: WaitQueue = MailboxQueue(self)
        self.end_changed: WaitQueue = WaitQueue()
        """Woken when a conversation ends: then every waiting call can return."""
        self.end_changed.waiters = self.changed.waiters

    # -- storing ----------------------------------------------------------------------------------

    def put(self, source: Source, items: Sequence[Value], last: int, nbytes: int, at: float) -> Batch:
        """Store consecutive messages, the last of which has the number ``last``. Checks no limit."""
        count = len(items)
        batch = source.batches[-1] if source.batches else None
        if (
            batch is not None
            and self.may_join
            and batch is self.order[-1]
            and batch is not self.fast_batch
            and batch.joins(last - count, at)
        ):
            batch.last = last
            batch.nbytes += nbytes
            batch.items.extend(items)  # last: an interrupt before this stores nothing
        else:
            if batch is None:
                self.sources[source] = None
                if source.batches is EMPTY:
                    source.batches = deque()
            batch = Batch(source, deque(items), last, nbytes, at)
            self.order.append(batch)
            source.batches.append(batch)
        source.processed = last
        source.waiting += count
        source.waiting_bytes += nbytes
        self.count += count
        self.nbytes += nbytes
        return batch

    def put_bounded(
        self, source: Source, item: Value, number: int, nbytes: int, at: float
    ) -> tuple[bool, list[tuple[Source, int]]]:
        """Store one message under a dropping policy.

        Returns whether it was stored, and the messages dropped to make room.
        """
        gone: list[tuple[Source, int]] = []
        while self.is_full(source):
            # The oldest of this source comes first: a peer that sends too much loses only its own messages.
            victim = self._head(source) or self._head(None) if self.overflow == "drop_oldest" else None
            if victim is None:
                self.dropped += 1
                source.processed = number
                return False, gone
            gone.append((victim.source, victim.last - len(victim.items) + 1))
            self.take(victim.source)
            self.dropped += 1
        self.put(source, (item,), number, nbytes, at)
        return True, gone

    def give_back(self, source: Source) -> None:
        """Remove what was not taken of a source: it goes back to where it came from."""
        self.settle_fast_queue()
        self.order = deque(batch for batch in self.order if batch.source is not source)
        self.sources.pop(source, None)
        source.batches.clear()
        self.count -= source.waiting
        self.nbytes -= source.waiting_bytes
        source.waiting = source.waiting_bytes = 0

    def clear(self) -> None:
        """Remove everything: a store has it."""
        self.settle_fast_queue()
        for source in self.sources:  # There may be views of them.
            source.batches.clear()
            source.waiting = source.waiting_bytes = 0
        self.order.clear()
        self.sources.clear()
        self.count: int = 0
        self.nbytes: int = 0

    # -- the fast queue ---------------------------------------------------------------------------

    def open_fast_queue(self) -> None:
        """Fill the fast queue, if there are several messages and none of them must be reported when taken."""
        if not self.count:
            return
        self.settle_fast_queue()
        batch = self._head(None)
        if batch is None or len(batch.items) < 2 or self.overflow != "block" or batch.source.ack_each:
            return
        self._make_whole(batch)
        if len(batch.items) > FAST_COUNT:
            batch = self._part(batch)
        self.fast_batch, self._fast_size = batch, len(batch.items)
        self.fast_queue = batch.items  # last: other threads may take from now on

    def _part(self, batch: Batch) -> Batch:
        """Split the first messages of a batch off into a batch of their own."""
        last = batch.last - len(batch.items) + FAST_COUNT
        first = Batch(batch.source, deque(), last, 0, batch.received_at)
        first.receipt, first.redelivered = batch.receipt, batch.redelivered
        batch.source.batches.appendleft(first)
        self.order.appendleft(first)
        first.items.extend(
            islice(iter(batch.items.popleft, _NOTHING), FAST_COUNT)
        )  # one call, see `_put_back`
        first.nbytes = self._share(batch, first.items)
        batch.nbytes -= first.nbytes
        return first

    def _share(self, batch: Batch, items: deque[Value]) -> int:
        """The part of a batch's byte count that belongs to its first items."""
        return batch.nbytes * len(items) // (len(items) + len(batch.items))

    def settle_fast_queue(self) -> None:
        """Close the fast queue: count what was taken from it, and put the rest back."""
        batch = self.fast_batch
        if batch is not None:
            taken = self._fast_size - self._put_back(batch)
            self.count -= taken
            batch.source.waiting -= taken
            self._account(batch)
            if not batch.items:
                self._settle(batch)

    def _put_back(self, batch: Batch) -> int:
        """Move the fast queue to a new deque that no other thread holds; return its size."""
        batch.items = rest = deque[Value]()
        try:
            rest.extend(iter(self.fast_queue.popleft, _NOTHING))  # one call: not even Ctrl-C can interrupt it
        except IndexError:
            pass
        self.fast_queue, self.fast_batch = _NOTHING, None
        return len(rest)

    def _make_whole(self, batch: Batch) -> None:
        """Convert the first item, if it is the rest of a split message, to a value that can be returned."""

    def _account(self, batch: Batch) -> None:
        """Correct the byte count of a batch after items were taken without counting."""

    # -- taking -----------------------------------------------------------------------------------

    def _head(self, source: Source | None) -> Batch | None:
        queue = self.order if source is None else source.batches
        while queue:
            batch = queue[0]
            if batch.items:
                return batch
            queue.popleft()
        return None

    def _settle(self, batch: Batch) -> None:
        source = batch.source
        if not batch.items:
            source.waiting_bytes -= batch.nbytes
            self.nbytes -= batch.nbytes
            source.batches.popleft()
            if self.order[0] is batch:
                self.order.popleft()
            else:
                self._sweep()
            if not source.batches:
                del self.sources[source]
        if source.inbox is None:
            source.request_ack(ACK_DUE_SOON)
        else:
            source.on_taken()

    def _sweep(self) -> None:
        """Remove empty batches from time to time: behind messages that are never taken they would pile up."""
        self.emptied += 1
        if self.emptied > 100 and self.emptied > len(self.order) // 2:
            self.order: deque[Batch] = deque(batch for batch in self.order if batch.items)
            self.emptied = 0

    def _release(self, source: Source, nbytes: int) -> None:
        source.waiting_bytes -= nbytes
        self.nbytes -= nbytes

    def take(self, source: Source | None = None) -> Value:
        """The next message, of one source or of any. There must be one: see `has`."""
        if self.fast_batch is not None:
            self.settle_fast_queue()
        queue = self.order if source is None else source.batches
        batch = queue[0] if queue and queue[0].items else self._head(source)
        assert batch is not None
        items, source = batch.items, batch.source
        item = items.popleft()
        self.count -= 1
        source.waiting -= 1
        if self.counts_bytes:
            if item.__class__ is memoryview:  # what `BytesMailbox._cut` left
                item = bytes(item)
            nbytes = len(item)
            self.nbytes -= nbytes
            batch.nbytes -= nbytes
            source.waiting_bytes -= nbytes
        if not items or source.ack_each:
            self._settle(batch)
        return item

    def take_message(self, source: Source | None = None, hold: bool = False) -> tuple[Value, Batch, int]:
        """Take the next message, with batch and number; with ``hold`` it counts as taken after `unhold`."""
        self.settle_fast_queue()
        batch = self._head(source)
        assert batch is not None
        number = batch.last - len(batch.items) + 1
        if hold:
            held = batch.source.held
            if held is None:
                held = batch.source.held = set()
            held.add(number)
            if batch.source.inbox is not None:
                batch.source.inbox.on_held(number + batch.source.base)
        return self.take(source), batch, number

    def unhold(self, source: Source, number: int) -> None:
        """Count a message that was taken with ``hold`` as taken."""
        assert source.held is not None
        source.held.discard(number)
        if source.inbox is not None:
            source.inbox.on_unheld(number + source.base)
        source.on_taken()

    def take_all(self, source: Source | None = None) -> list[Value]:
        """Take all waiting messages."""
        self.settle_fast_queue()
        items: list[Value] = []
        while (batch := self._head(source)) is not None:
            items += self._drain(batch)
        return items

    def _drain(self, batch: Batch) -> deque[Value]:
        items = batch.items
        batch.items = deque()
        self.count -= len(items)
        batch.source.waiting -= len(items)
        self._settle(batch)
        return items

    # -- what differs between bytes and messages ---------------------------------------------------

    def has(self, source: Source | None = None) -> bool:
        """Is there a message to take?"""
        if self.fast_batch is not None:
            self.settle_fast_queue()
        return bool(self.count if source is None else source.waiting)

    def is_ready(self, source: Source | None, count: int = 0) -> bool:
        """Is there a message (or ``count``, see `has_count`) to take, or can none arrive any more?"""
        there = self.has_count(count, source) if count else self.has(source)
        return there or self.end_reason is not None or (source is not None and source.end_reason is not None)

    def size(self, source: Source | None = None) -> int:
        """The result of ``data_count()``."""
        self.settle_fast_queue()
        return self.count if source is None else source.waiting

    def has_count(self, count: int, source: Source | None = None) -> bool:
        """Is there enough for `take_count`?"""
        return self.size(source) >= count

    def available(self, source: Source | None = None) -> int:
        """The largest count that `take_count` could take now."""
        return self.size(source)

    def is_full_for(self, source: Source | None = None) -> bool:
        """Has this source, or has any, reached a limit?"""
        return any(self.is_full(each) for each in (self.sources if source is None else (source,)))

    def count_limit(self) -> int:
        """The largest count that a caller may wait for."""
        return self.limits.mailbox_total

    def take_count(self, count: int, source: Source | None = None) -> Value:
        """Take ``count`` messages, as a list. `has_count` must be true."""
        self.settle_fast_queue()
        items: list[Value] = []
        while len(items) < count:
            batch = self._head(source)
            assert batch is not None
            if len(batch.items) <= count - len(items):
                items += self._drain(batch)
                continue
            pop = batch.items.popleft
            part = [pop() for _ in range(count - len(items))]
            self.count -= len(part)
            batch.source.waiting -= len(part)
            items += part
            if batch.source.ack_each:
                batch.source.on_taken()
        return items

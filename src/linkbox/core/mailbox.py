"""The mailbox: what has arrived and has not been taken.

How to think about it. What one turn of the engine brings from one peer is one *batch*. The same
batch hangs in two queues: the mailbox's (all peers, in the order of arrival) and its source's (one
peer). Whoever takes a message takes it out of the batch, so each is taken once, through whichever
view; an emptied batch is dropped from the other queue when it comes to the front there.

Nothing is counted per message for the peer's sake: how many of a source's messages were taken
follows from what is left (`Source.taken`), and credit from what is waiting. So taking a message
costs a ``popleft``. Byte counts are exact for Bytes; for other formats a batch's bytes are given
back when the batch is empty, which is late by 256 KiB at most.

**The hand.** Even the front end's lock costs more than that ``popleft``. So up to `HAND` messages at the
front are a batch *in hand*: any thread takes from ``hand`` without the lock, for a deque gives each item to
one taker only. Whoever finds it empty after that settles it, under the lock. While it is open, the counts
include all of it, and nothing but ``popleft`` touches it; all other calls that take or count close it first:
what is left moves to a new deque, out of reach of threads that still know the old one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from linkbox.events import Peer
from linkbox.limits import Limits

ENDLESS = 1 << 62
_BATCH_BYTES = 256 * 1024
_BATCH_SECONDS = 0.01
HAND = 64
"""Most messages in hand: closing it moves as many."""
_NOTHING: deque[Any] = deque()
OVERFLOW_POLICIES = ("block", "drop_oldest", "drop_newest", "error")


class Box:
    """Something somebody may wait for. The core says when it changed; the front end wakes who waits."""

    __slots__ = ("supply", "waiters")

    def __init__(self, supply: Callable[[], int] | None = None) -> None:
        self.waiters: dict[Any, None] = {}
        self.supply = supply
        """For how many of them there is something; None: for all."""


class Batch:
    """Messages of one source that arrived together. ``last`` is the number of the last of them."""

    __slots__ = ("items", "last", "nbytes", "receipt", "received_at", "redelivered", "source")

    def __init__(self, source: Source, items: deque[Any], last: int, nbytes: int, received_at: float) -> None:
        self.source = source
        self.items = items
        self.last = last
        self.nbytes = nbytes
        self.received_at = received_at
        self.receipt: Any = None
        self.redelivered = False

    def joins(self, number: int, at: float) -> bool:
        """May what follows message ``number`` be added to this batch? Saves memory when it trickles."""
        return (
            self.last == number
            and self.nbytes < _BATCH_BYTES
            and not self.redelivered
            and at - self.received_at < _BATCH_SECONDS
            and self.receipt is None
        )


class Source:
    """One peer's side of the mailbox."""

    __slots__ = (
        "base",
        "batches",
        "eager",
        "ended",
        "held",
        "known_taken",
        "on_taken",
        "peer",
        "processed",
        "record",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, peer: Peer, on_taken: Callable[[], None]) -> None:
        self.peer = peer
        self.on_taken = on_taken
        self.batches: deque[Batch] = deque()
        self.waiting = 0
        self.waiting_bytes = 0
        self.processed = 0
        """Number of the newest message that was stored or rejected."""
        self.held: set[int] = set()
        """Numbers taken with ``ack=False`` and not acknowledged by the application yet."""
        self.ended: Exception | None = None
        """Set when nothing more will come: why."""
        self.eager = False
        """Somebody wants to hear of each message taken."""
        self.record: Any = None
        """With a store: who writes down what was taken (see record.py)."""
        self.base = 0
        """With a store: what a message's number on disk is more than its number here."""
        self.known_taken = 0
        """With a store: what is on disk of `taken`."""

    @property
    def given(self) -> int:
        """All messages up to this number have been handed out."""
        if self.batches:
            batch = self.batches[0]
            return batch.last - len(batch.items)
        return self.processed

    @property
    def taken(self) -> int:
        """All messages up to this number have been taken."""
        return min(self.given, min(self.held) - 1) if self.held else self.given

    @property
    def cut(self) -> int:
        """Bytes taken of the message after `given`."""
        first = self.batches[0].items[0] if self.batches and self.batches[0].items else b""
        if not isinstance(first, memoryview):
            return 0
        whole: Any = first.obj
        return len(whole) - len(first)


class MailboxState:
    """Messages of all sources. Not thread-safe: the front end holds its lock around each call."""

    def __init__(self, limits: Limits, overflow: Any = "block") -> None:
        if overflow not in OVERFLOW_POLICIES:
            raise ValueError(f"overflow={overflow!r}: one of {', '.join(OVERFLOW_POLICIES)} is needed")
        self.limits = limits
        self.overflow: str = overflow
        self.order: deque[Batch] = deque()
        self.sources: dict[Source, None] = {}
        """Those with something waiting; who has waited longest comes first."""
        self.count = 0
        self.nbytes = 0
        self.dropped = 0
        self.wanted = 0
        """The largest count somebody is waiting for: the mailbox may hold that much."""
        self.over: Exception | None = None
        """Set when nothing more will ever come: why."""
        self.emptied = 0
        self.hand: deque[Any] = _NOTHING
        """The next messages, to be taken with ``popleft`` by any thread, without the lock; call
        `settle_hand` when that has emptied it."""
        self._in_hand: Batch | None = None
        self._hand_size = 0
        self.box = Box(lambda: self.count)
        self.end_box = Box()
        """The same, changed by an end: then there is an answer for everyone who waits."""
        self.end_box.waiters = self.box.waiters

    # -- storing ----------------------------------------------------------------------------------

    def put(self, source: Source, items: Sequence[Any], last: int, nbytes: int, at: float) -> Batch:
        """Store consecutive messages, the last of which has the number ``last``. Knows no limit."""
        count = len(items)
        batch = source.batches[-1] if source.batches else None
        if (
            batch is not None
            and self.overflow == "block"  # dropping works message by message
            and batch is self.order[-1]
            and batch is not self._in_hand
            and batch.joins(last - count, at)
        ):
            batch.last = last
            batch.nbytes += nbytes
            batch.items.extend(items)  # last: it is what makes it true
        else:
            if batch is None:
                self.sources[source] = None
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
        self, source: Source, item: Any, number: int, nbytes: int, at: float
    ) -> tuple[bool, list[tuple[Source, int]]]:
        """Store one message under a dropping policy.

        Returns whether it was stored, and the messages that had to go for it.
        """
        gone: list[tuple[Source, int]] = []
        while self.is_full(source):
            victim = self._oldest(source) if self.overflow == "drop_oldest" else None
            if victim is None:
                self.dropped += 1
                source.processed = number
                return False, gone
            gone.append((victim.source, victim.last - len(victim.items) + 1))
            self._pop(victim)
            self.dropped += 1
        self.put(source, (item,), number, nbytes, at)
        return True, gone

    def is_full(self, source: Source) -> bool:
        """Has this source, or have all together, reached a limit?"""
        limits = self.limits
        return (
            source.waiting >= max(limits.mailbox_messages, self.wanted)
            or source.waiting_bytes >= max(limits.mailbox_bytes, self.wanted)
            or self.nbytes >= max(limits.mailbox_total, self.wanted)
        )

    def is_crowded(self) -> bool:
        """Have all sources together reached the limit, so that no further one should come?"""
        full = max(self.limits.mailbox_total, self.wanted)
        return self.overflow == "block" and self.nbytes >= full

    def _oldest(self, source: Source) -> Batch | None:
        """What to drop: the source's own oldest first, so that a loud peer hurts only itself."""
        return self._head(source) or self._head(None)

    def clear(self) -> None:
        """Forget everything: a store has it."""
        self.settle_hand()
        self.order.clear()
        self.sources.clear()
        self.count = self.nbytes = 0

    def recount(self) -> None:
        """Make counts and queues agree again, after an exception in the middle of a step (Ctrl-C)."""
        self._put_back()
        sources = {each.source for each in self.order} | set(self.sources)
        for source in sources:
            source.batches.clear()
            source.waiting = source.waiting_bytes = 0
        self.sources.clear()
        self.count = self.nbytes = 0
        self.order = deque(batch for batch in self.order if batch.items)
        for batch in self.order:
            source, count = batch.source, len(batch.items)
            batch.nbytes = self._bytes_of(batch)
            self.sources[source] = None
            source.batches.append(batch)
            source.processed = max(source.processed, batch.last)
            source.waiting += count
            source.waiting_bytes += batch.nbytes
            self.count += count
            self.nbytes += batch.nbytes

    def _bytes_of(self, batch: Batch) -> int:
        return batch.nbytes

    # -- the hand ---------------------------------------------------------------------------------

    def open_hand(self) -> None:
        """Put the next messages in hand, if there are several and nobody wants to hear of each taken."""
        if not self.count:
            return
        self.settle_hand()
        batch = self._head(None)
        if batch is None or len(batch.items) < 2 or self.overflow != "block" or batch.source.eager:
            return
        self._make_whole(batch)
        if len(batch.items) > HAND:
            batch = self._part(batch)
        self._in_hand, self._hand_size = batch, len(batch.items)
        self.hand = batch.items  # last: it is what makes it true

    def _part(self, batch: Batch) -> Batch:
        """Make the first messages of a batch one of its own."""
        last = batch.last - len(batch.items) + HAND
        first = Batch(batch.source, deque(), last, 0, batch.received_at)
        first.receipt, first.redelivered = batch.receipt, batch.redelivered
        batch.source.batches.appendleft(first)
        self.order.appendleft(first)
        first.items.extend(islice(iter(batch.items.popleft, _NOTHING), HAND))  # one call, see `_put_back`
        first.nbytes = self._share(batch, first.items)
        batch.nbytes -= first.nbytes
        return first

    def _share(self, batch: Batch, items: deque[Any]) -> int:
        """How many of a batch's bytes are counted for the first of its items."""
        return batch.nbytes * len(items) // (len(items) + len(batch.items))

    def settle_hand(self) -> None:
        """Close the hand: note what was taken from it, and put the rest back."""
        batch = self._in_hand
        if batch is not None:
            taken = self._hand_size - self._put_back()
            self.count -= taken
            batch.source.waiting -= taken
            self._account(batch)
            if not batch.items:
                self._settle(batch)

    def _put_back(self) -> int:
        """Move what is in hand out of reach of those who still know it; returns how many these are."""
        batch = self._in_hand
        if batch is None:
            return 0
        batch.items = rest = deque[Any]()
        try:
            rest.extend(iter(self.hand.popleft, _NOTHING))  # one call: not even Ctrl-C comes in between
        except IndexError:
            pass
        self.hand, self._in_hand = _NOTHING, None
        return len(rest)

    def _make_whole(self, batch: Batch) -> None:
        """Let the first message be one that can be given away."""

    def _account(self, batch: Batch) -> None:
        """Set the bytes of a batch right, whose items were taken from without counting."""

    # -- taking -----------------------------------------------------------------------------------

    def _head(self, source: Source | None) -> Batch | None:
        queue = self.order if source is None else source.batches
        while queue:
            batch = queue[0]
            if batch.items:
                return batch
            queue.popleft()
        return None

    def _pop(self, batch: Batch) -> Any:
        """Take the first message out of a batch that has one."""
        item = batch.items.popleft()
        self.count -= 1
        batch.source.waiting -= 1
        if not batch.items or batch.source.eager:
            self._settle(batch)
        return item

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
        source.on_taken()

    def _sweep(self) -> None:
        """Emptied batches behind a peer that nobody reads would pile up: drop them now and then."""
        self.emptied += 1
        if self.emptied > 100 and self.emptied > len(self.order) // 2:
            self.order = deque(batch for batch in self.order if batch.items)
            self.emptied = 0

    def _release(self, source: Source, nbytes: int) -> None:
        source.waiting_bytes -= nbytes
        self.nbytes -= nbytes

    def take(self, source: Source | None = None) -> Any:
        """The next message, of one source or of any. There must be one: see `has`."""
        if self._in_hand is not None:
            self.settle_hand()
        batch = self._head(source)
        assert batch is not None
        return self._pop(batch)

    def take_message(self, source: Source | None = None, hold: bool = False) -> tuple[Any, Batch, int]:
        """The next message with its batch and number; ``hold`` counts it as taken only on `unhold`."""
        self.settle_hand()
        batch = self._head(source)
        assert batch is not None
        number = batch.last - len(batch.items) + 1
        if hold:
            batch.source.held.add(number)
            if batch.source.record is not None:
                batch.source.record.on_held(batch.source, number)
        return self._pop(batch), batch, number

    def unhold(self, source: Source, number: int) -> None:
        """A message taken with ``hold`` is done with."""
        source.held.discard(number)
        if source.record is not None:
            source.record.on_unheld(source, number)
        source.on_taken()

    def take_all(self, source: Source | None = None) -> list[Any]:
        """All messages waiting."""
        self.settle_hand()
        items: list[Any] = []
        while (batch := self._head(source)) is not None:
            items += self._drain(batch)
        return items

    def _drain(self, batch: Batch) -> deque[Any]:
        items = batch.items
        batch.items = deque()
        self.count -= len(items)
        batch.source.waiting -= len(items)
        self._settle(batch)
        return items

    # -- what differs between bytes and messages ---------------------------------------------------

    def has(self, source: Source | None = None) -> bool:
        """Is there a message to take?"""
        if self._in_hand is not None:
            self.settle_hand()
        return bool(self.count if source is None else source.waiting)

    def is_ready(self, source: Source | None, count: int = 0) -> bool:
        """Is there a message to take (or ``count``, see `has_count`), or will there never be?"""
        there = self.has_count(count, source) if count else self.has(source)
        return there or self.over is not None or (source is not None and source.ended is not None)

    def size(self, source: Source | None = None) -> int:
        """What ``data_count()`` says."""
        self.settle_hand()
        return self.count if source is None else source.waiting

    def has_count(self, count: int, source: Source | None = None) -> bool:
        """Can `take_count` be served?"""
        return self.size(source) >= count

    def available(self, source: Source | None = None) -> int:
        """The most `take_count` could serve now."""
        return self.size(source)

    def count_limit(self) -> int:
        """The largest count that can ever be waited for."""
        return self.limits.mailbox_total

    def take_count(self, count: int, source: Source | None = None) -> Any:
        """That many messages, as a list. `has_count` must hold."""
        self.settle_hand()
        items: list[Any] = []
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
            if batch.source.eager:
                batch.source.on_taken()
        return items


class BytesMailbox(MailboxState):
    """A mailbox whose messages are bytes: counts are bytes, and a count may cut a message in two."""

    def _pop(self, batch: Batch) -> Any:
        items = batch.items
        item = items.popleft()
        if item.__class__ is memoryview:  # what `_cut` left
            item = bytes(item)
        nbytes = len(item)
        source = batch.source
        self.count -= 1
        self.nbytes -= nbytes
        batch.nbytes -= nbytes
        source.waiting -= 1
        source.waiting_bytes -= nbytes
        if not items or source.eager:
            self._settle(batch)
        return item

    def _make_whole(self, batch: Batch) -> None:
        if batch.items[0].__class__ is memoryview:  # what `_cut` left
            batch.items[0] = bytes(batch.items[0])

    def _drain(self, batch: Batch) -> deque[Any]:
        self._make_whole(batch)
        return super()._drain(batch)

    def _share(self, batch: Batch, items: deque[Any]) -> int:
        return sum(map(len, items))

    def _account(self, batch: Batch) -> None:
        gone = batch.nbytes - self._bytes_of(batch)
        batch.nbytes -= gone
        self._release(batch.source, gone)

    def size(self, source: Source | None = None) -> int:
        self.settle_hand()
        return self.nbytes if source is None else source.waiting_bytes

    def _bytes_of(self, batch: Batch) -> int:
        return sum(map(len, batch.items))

    def _supplier(self, count: int, source: Source | None) -> Source | None:
        """The source to serve a count from: byte counts never mix peers."""
        self.settle_hand()
        candidates = self.sources if source is None else (source,)
        return next((each for each in candidates if each.waiting_bytes >= count), None)

    def has_count(self, count: int, source: Source | None = None) -> bool:
        return self._supplier(count, source) is not None

    def available(self, source: Source | None = None) -> int:
        self.settle_hand()
        if source is not None:
            return source.waiting_bytes
        return max((each.waiting_bytes for each in self.sources), default=0)

    def take_count(self, count: int, source: Source | None = None) -> bytes:
        """That many bytes of one source. What is left of a message stays first."""
        supplier = self._supplier(count, source)
        assert supplier is not None
        parts: list[bytes | memoryview] = []
        missing = count
        while missing:
            batch = self._head(supplier)
            assert batch is not None
            if batch.nbytes <= missing:
                missing -= batch.nbytes
                parts += self._drain(batch)
            elif len(batch.items[0]) <= missing:
                missing -= self._take_bytes(batch, missing, parts)
            else:
                parts.append(self._cut(batch, missing))
                missing = 0
        return b"".join(parts)

    def _take_bytes(self, batch: Batch, most: int, parts: list[bytes | memoryview]) -> int:
        """Move whole messages of a batch that has more than ``most`` bytes; returns how many bytes."""
        items, left, before = batch.items, most, len(parts)
        while (size := len(items[0])) <= left:
            parts.append(items.popleft())
            left -= size
        taken = len(parts) - before
        self.count -= taken
        batch.source.waiting -= taken
        batch.nbytes -= most - left
        self._release(batch.source, most - left)
        if batch.source.eager:
            batch.source.on_taken()
        return most - left

    def _cut(self, batch: Batch, count: int) -> bytes:
        """The first bytes of a message; the rest goes back in front as a view (no copy each time)."""
        view = memoryview(batch.items[0])
        batch.items[0] = view[count:]
        batch.nbytes -= count
        self._release(batch.source, count)
        batch.source.on_taken()
        return bytes(view[:count])

"""The mailbox of a server of requests: the peers take turns.

Requests are taken one of each peer at a time, so no peer waits for all the requests of another. While a peer
is *suspended*, because it does not take its responses, its requests are neither counted nor taken.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from linkbox.core.effects import ACK_DUE_SOON
from linkbox.core.empty import EMPTY
from linkbox.core.mailbox import Mailbox
from linkbox.core.source import Batch, Source
from linkbox.core.values import Value
from linkbox.limits import Limits


class RequestMailbox(Mailbox):
    """A mailbox from which one request of each peer is taken at a time."""

    def __init__(self, limits: Limits, overflow: str = "block") -> None:
        super().__init__(limits, overflow)
        self.most_messages: int = limits.asks
        self.turns: OrderedDict[Source, None] = OrderedDict()
        """The sources whose requests may be taken; the next one first."""
        self.sources: dict[Source, None] = self.turns

    def put(self, source: Source, items: Sequence[Value], last: int, nbytes: int, at: float) -> Batch:
        batch = source.batches[-1] if source.batches else None
        if batch is None or not batch.joins(last - len(items), at):
            if source.batches is EMPTY:
                source.batches = deque()
            batch = Batch(source, deque(), last, 0, at)
            source.batches.append(batch)
        batch.items.extend(items)
        batch.last = source.processed = last
        batch.nbytes += nbytes
        source.waiting += len(items)
        source.waiting_bytes += nbytes
        if not source.is_suspended:
            self.turns[source] = None
            self.count += len(items)
            self.nbytes += nbytes
        return batch

    def suspend(self, source: Source) -> None:
        """Neither count nor give away the requests of this peer, until `resume` is called."""
        source.is_suspended = True
        if source in self.turns:
            self._leave(source)

    def resume(self, source: Source) -> None:
        """The requests of this peer may be taken again."""
        source.is_suspended = False
        if source.batches:
            self.turns[source] = None
            self.count += source.waiting
            self.nbytes += source.waiting_bytes

    def discard(self, source: Source) -> None:
        """Remove the requests of a peer that no longer waits for the responses."""
        if source in self.turns:
            self._leave(source)
        source.batches.clear()
        source.waiting = source.waiting_bytes = 0

    def _leave(self, source: Source) -> None:
        del self.turns[source]
        self.count -= source.waiting
        self.nbytes -= source.waiting_bytes

    def take(self, source: Source | None = None) -> Value:
        if source is None:
            source = next(iter(self.turns))
            self.turns.move_to_end(source)
        batch = source.batches[0]
        item = batch.items.popleft()
        self.count -= 1
        source.waiting -= 1
        if not batch.items or source.ack_each:
            self._settle(batch)
        return item

    def take_count(self, count: int, source: Source | None = None) -> Value:
        return [self.take(source) for _ in range(count)]

    def _head(self, source: Source | None) -> Batch | None:
        if source is None:
            source = next(iter(self.turns), None)
        return source.batches[0] if source is not None and source.batches else None

    def _settle(self, batch: Batch) -> None:
        source = batch.source
        if not batch.items:
            source.waiting_bytes -= batch.nbytes
            self.nbytes -= batch.nbytes
            source.batches.popleft()
            if not source.batches:
                del self.turns[source]
        source.request_ack(ACK_DUE_SOON)  # A server of requests has no store, which would acknowledge later.

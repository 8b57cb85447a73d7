"""The mailbox for the format Bytes, where a count is in bytes and may split a message."""

from __future__ import annotations

from collections import deque

from linkbox.core.mailbox import Mailbox
from linkbox.core.source import Batch, Source
from linkbox.core.values import Value
from linkbox.limits import Limits


class BytesMailbox(Mailbox):
    """A mailbox of bytes: a count is in bytes and may split a message."""

    counts_bytes = True

    def __init__(self, limits: Limits, overflow: str = "block") -> None:
        super().__init__(limits, overflow)
        self.may_join = True  # Byte counts are exact.

    def _make_whole(self, batch: Batch) -> None:
        if batch.items[0].__class__ is memoryview:  # what `_cut` left
            batch.items[0] = bytes(batch.items[0])

    def _drain(self, batch: Batch) -> deque[Value]:
        self._make_whole(batch)
        return super()._drain(batch)

    def _share(self, batch: Batch, items: deque[Value]) -> int:
        return sum(map(len, items))

    def _account(self, batch: Batch) -> None:
        gone = batch.nbytes - self._bytes_of(batch)
        batch.nbytes -= gone
        self._release(batch.source, gone)

    def size(self, source: Source | None = None) -> int:
        self.settle_fast_queue()
        return self.nbytes if source is None else source.waiting_bytes

    def _bytes_of(self, batch: Batch) -> int:
        return sum(map(len, batch.items))

    def _supplier(self, count: int, source: Source | None) -> Source | None:
        """The source to take a count from: byte counts never mix peers."""
        self.settle_fast_queue()
        candidates = self.sources if source is None else (source,)
        return next((each for each in candidates if each.waiting_bytes >= count), None)

    def has_count(self, count: int, source: Source | None = None) -> bool:
        return self._supplier(count, source) is not None

    def available(self, source: Source | None = None) -> int:
        self.settle_fast_queue()
        if source is not None:
            return source.waiting_bytes
        return max((each.waiting_bytes for each in self.sources), default=0)

    def take_count(self, count: int, source: Source | None = None) -> bytes:
        """Take ``count`` bytes of one source. The rest of a split message remains first in the queue."""
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
        """Move whole messages, up to ``most`` bytes, from a larger batch to ``parts``; return their size."""
        items, left, before = batch.items, most, len(parts)
        while (size := len(items[0])) <= left:
            parts.append(items.popleft())
            left -= size
        taken = len(parts) - before
        self.count -= taken
        batch.source.waiting -= taken
        batch.nbytes -= most - left
        self._release(batch.source, most - left)
        if batch.source.ack_each:
            batch.source.on_taken()
        return most - left

    def _cut(self, batch: Batch, count: int) -> bytes:
        """Take the first bytes of a message; put the rest back as a view, which saves a copy each time."""
        view = memoryview(batch.items[0])
        batch.items[0] = view[count:]
        batch.nbytes -= count
        self._release(batch.source, count)
        batch.source.on_taken()
        return bytes(view[:count])

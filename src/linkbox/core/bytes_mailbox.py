"""The mailbox for the format Bytes, where a count is in bytes and may split a message."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

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

    def peek(self, count: int, source: Source | None = None) -> bytes:
        """The next bytes, at most ``count``, without taking them."""
        self.settle_fast_queue()
        source = next(iter(self.sources), None) if source is None else source
        parts: list[bytes] = []
        missing = count
        for batch in source.batches if source is not None else ():
            for item in batch.items:
                parts.append(bytes(item[:missing]))
                missing -= len(parts[-1])
                if not missing:
                    return b"".join(parts)
        return b"".join(parts)

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


class SeparatorSearch:
    """Finds the first separator in the waiting bytes of a peer, or of any peer.

    It looks at each byte once, however often it is called: it remembers the last message that it has seen.
    """

    __slots__ = ("_mailbox", "_overlap", "_pattern", "_seen", "_source", "found")

    def __init__(self, mailbox: BytesMailbox, source: Source | None, separators: Sequence[bytes]) -> None:
        self._mailbox = mailbox
        self._source = source
        longest_first = sorted(separators, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)))
        self._overlap = len(longest_first[0]) - 1
        self._seen: dict[Source, int] = {}
        self.found: tuple[Source, int, int] | None = None
        """The source that has a separator, how many bytes come before it, and its size."""

    def is_done(self) -> bool:
        """Is there a separator? Then it is in ``found``."""
        mailbox = self._mailbox
        mailbox.settle_fast_queue()
        self.found = None
        for each in mailbox.sources if self._source is None else (self._source,):
            self.found = self._search(each)
            if self.found is not None:
                return True
        return False

    def _search(self, source: Source) -> tuple[Source, int, int] | None:
        seen, parts, older = self._seen.get(source, 0), list[bytes](), 0
        for batch in reversed(source.batches):
            number = batch.last
            for item in reversed(batch.items):
                if number <= seen:
                    if older >= self._overlap:
                        break
                    item = bytes(item[-(self._overlap - older) :])  # A separator may begin here.
                    older += len(item)
                parts.append(bytes(item))
                number -= 1
            if number <= seen and older >= self._overlap:
                break
        self._seen[source] = source.processed
        parts.reverse()
        new = b"".join(parts)
        match = self._pattern.search(new)
        if match is None:
            return None
        del self._seen[source]
        return source, source.waiting_bytes - len(new) + match.start(), len(match[0])

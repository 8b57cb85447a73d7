"""Is there room in the mailbox? Limits count what messages cost, not only their size."""

from __future__ import annotations

from collections import deque
from typing import Final

from linkbox.core.source import BATCH_COST, FREE_COST, MESSAGE_COST, Batch, Source
from linkbox.limits import Limits

FEW: Final = 64
"""Messages that a peer may send in any case."""


class Room:
    """What the mailbox holds, and what it may hold: the base class of `Mailbox`."""

    counts_bytes = False
    """Are the items bytes, so that the bytes of each are released when it is taken?"""

    def __init__(self, limits: Limits, overflow: str) -> None:
        self.limits = limits
        self.overflow: str = overflow
        self.order: deque[Batch] = deque()
        self.count: int = 0
        self.nbytes: int = 0
        self.undecoded = 0
        """Bytes of messages that are not decoded yet (see backlog.py)."""
        self.peers = 0
        """The number of connections, which share ``mailbox_total``."""
        self.most_messages: int = limits.mailbox_messages
        """How many messages one peer may have in the mailbox, or on their way to it."""
        self.requested = 0
        """The largest count that a caller is waiting for: the mailbox may hold that much."""

    def is_full(self, source: Source) -> bool:
        """Has this source, or have all sources together, reached a limit?"""
        limits = self.limits
        if not self.requested:  # Usually so. With a plain framing this is asked for each message: no calls.
            extra = MESSAGE_COST * self.count + BATCH_COST * len(self.order) - FREE_COST
            if self.nbytes + self.undecoded + (extra if extra > 0 else 0) >= limits.mailbox_total:
                return True
            extra = MESSAGE_COST * source.waiting + BATCH_COST * len(source.batches) - FREE_COST
            cost = source.waiting_bytes + (extra if extra > 0 else 0)
            return source.waiting >= limits.mailbox_messages or cost >= limits.mailbox_bytes
        return (
            source.waiting >= max(limits.mailbox_messages, self.requested)
            or source.cost() >= self.most_bytes(source)
            or self.is_full_together()
        )

    def is_full_together(self) -> bool:
        """Have all sources together reached the limit?"""
        extra = MESSAGE_COST * self.count + BATCH_COST * len(self.order) - FREE_COST
        cost = self.nbytes + self.undecoded + (extra if extra > 0 else 0)
        return cost >= max(self.limits.mailbox_total, self.requested)

    def share(self, source: Source) -> float:
        """How full the part of one source is: 1.0 is its limit."""
        limits = self.limits
        return max(source.waiting / limits.mailbox_messages, source.cost() / limits.mailbox_bytes)

    def is_crowded(self) -> bool:
        """Should no new client be admitted, because the mailbox is full?"""
        return self.overflow == "block" and self.is_full_together()

    def most_bytes(self, source: Source) -> int:
        """The limit for the messages of one source: more while a caller waits for many of them."""
        limits, requested = self.limits, self.requested
        if self.counts_bytes:
            return max(limits.mailbox_bytes, requested, requested * (1 + MESSAGE_COST) - FREE_COST)
        return max(limits.mailbox_total, requested) if source.waiting < requested else limits.mailbox_bytes

    def window(self, source: Source) -> tuple[int, int]:
        """How many bytes and messages this source may have in the mailbox, with what is on its way.

        The connections share ``mailbox_total``. Of messages, no more than there is room for if each is a
        batch by itself; but always some.
        """
        limits, requested = self.limits, self.requested
        most = self.most_bytes(source) if requested else limits.mailbox_bytes
        share = limits.mailbox_total // self.peers if self.peers else most
        nbytes = most if requested else min(most, max(share, FREE_COST))
        room = nbytes + FREE_COST - source.waiting_bytes - MESSAGE_COST * source.waiting
        count = source.waiting + max(room // BATCH_COST, FEW)
        return nbytes, max(min(self.most_messages, count), min(requested, nbytes))

"""One peer's part of the mailbox (`Source`), and messages that arrived together (`Batch`)."""

from __future__ import annotations

from collections import deque
from typing import Final

from linkbox.core.channel import OutgoingMessage
from linkbox.core.durable.inbox import InboxMarks
from linkbox.core.effects import ACK_DUE_SOON
from linkbox.core.empty import EMPTY
from linkbox.core.values import Value
from linkbox.events import Peer

_BATCH_BYTES: Final = 256 * 1024
_BATCH_SECONDS: Final = 0.01
MESSAGE_COST: Final = 56
"""Bytes of memory that a message takes besides its payload: the header of its object, and its place in a
batch. Values that are not bytes have it too, at most."""
BATCH_COST: Final = 1000
"""Bytes of memory that a batch takes besides its messages. One that arrives alone is a batch by itself."""
FREE_COST: Final = 64 * 1024
"""Bytes of these two costs that limits do not count: small limits are for payloads."""


class Batch:
    """Messages of one source that arrived together. ``last`` is the number of the last one."""

    __slots__ = ("items", "last", "nbytes", "receipt", "received_at", "redelivered", "source")

    def __init__(
        self, source: Source, items: deque[Value], last: int, nbytes: int, received_at: float
    ) -> None:
        self.source: Source = source
        self.items: deque[Value] = items
        self.last: int = last
        self.nbytes: int = nbytes
        self.received_at: float = received_at
        """Seconds since the epoch."""
        self.receipt: OutgoingMessage | None = None
        self.redelivered: bool = False

    def joins(self, number: int, at: float) -> bool:
        """May the message after ``number`` be added to this batch? Saves memory for single messages."""
        return (
            self.last == number
            and self.nbytes < _BATCH_BYTES
            and not self.redelivered
            # Old messages that wait need not be exact to 10 ms: single ones would take much memory.
            and at - self.received_at < _BATCH_SECONDS * len(self.source.batches)
            and self.receipt is None
        )


class Source:
    """One peer's part of the mailbox. The subclass for a session is `ReceiveWindow`."""

    __slots__ = (
        "ack_each",
        "base",
        "batches",
        "end_reason",
        "held",
        "inbox",
        "is_suspended",
        "peer",
        "processed",
        "storing",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, peer: Peer) -> None:
        self.peer: Peer = peer
        self.batches: deque[Batch] = EMPTY
        self.waiting: int = 0
        self.waiting_bytes: int = 0
        self.processed: int = 0
        """Number of the newest message that was stored or rejected."""
        self.storing: int = 0
        """Bytes of values that are being written to the store, and are not in the mailbox yet."""
        self.held: set[int] | None = None
        """Numbers of messages taken with ``ack=False`` that the application has not acknowledged yet."""
        self.end_reason: Exception | None = None
        """Why nothing more will arrive; None while something may."""
        self.is_suspended: bool = False
        """Must its requests wait, because the peer does not take its responses? See `RequestMailbox`."""
        self.ack_each: bool = False
        """Report each message when it is taken, instead of each batch when it is empty."""
        self.inbox: InboxMarks | None = None
        """With a store: its record of these messages."""
        self.base: int = 0
        """With a store: add this to a message's number to get its number on disk. It never changes: unread
        messages keep their numbers when the peer has forgotten the session."""

    def on_taken(self) -> None:
        """The application has taken something: with a store, acknowledged once that is on disk."""
        if self.inbox is None:
            self.request_ack(ACK_DUE_SOON)
        else:
            self.inbox.on_taken(self.given + self.base, self.cut)

    def request_ack(self, urgency: int) -> None:
        """Request an acknowledgement, if the source has a peer that waits for one."""

    def undecoded(self) -> int:
        """With a plain framing: bytes of this source that have arrived and are not processed."""
        return 0

    def cost(self) -> int:
        """The bytes that limits count for the messages of this source."""
        extra = MESSAGE_COST * self.waiting + BATCH_COST * len(self.batches) - FREE_COST
        return self.waiting_bytes + (extra if extra > 0 else 0)

    @property
    def given(self) -> int:
        """All messages up to this number have been given to the application."""
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
        first: Value = self.batches[0].items[0] if self.batches and self.batches[0].items else b""
        if not isinstance(first, memoryview):
            return 0
        whole: Value = first.obj
        return len(whole) - len(first)

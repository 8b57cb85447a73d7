"""The store's record of the messages that one session has to send: marks only, no payloads."""

from __future__ import annotations

from weakref import WeakValueDictionary

from linkbox.core.channel import OutgoingMessage
from linkbox.core.durable.rows import UNKNOWN, Row, Stored, units_of


class SpoolMarks:
    """The sending half of a record. Its marks are numbers on disk and never move backwards::

    acked <= loaded <= written <= next      (acknowledged; loaded into memory; on disk; numbered)
    """

    __slots__ = (
        "absent",
        "acked",
        "acked_total",
        "acked_written",
        "base",
        "base_total",
        "is_fetching",
        "is_stub",
        "loaded",
        "next",
        "resume_at",
        "sent_most",
        "stub_most",
        "total",
        "waiting",
        "written",
        "written_total",
    )

    def __init__(self) -> None:
        self.base: int = 0
        """Add this to a number on the wire to get the number on disk."""
        self.base_total: int = 0
        self.next: int = 0
        self.total: int = 0
        """Bytes of all messages that ever got a number."""
        self.written: int = 0
        self.written_total: int = 0
        self.loaded: int = 0
        self.acked: int = 0
        self.acked_total: int = 0
        self.acked_written: int = 0
        """The value of ``acked`` that is on disk."""
        self.waiting: int = 0
        """The number of messages that have a number and are not in memory."""
        self.absent: WeakValueDictionary[int, OutgoingMessage] = WeakValueDictionary()
        """Receipts of messages that are not in memory yet."""
        self.is_stub: bool = False
        """Is no message in memory, because it is not known yet which of them the peer has?"""
        self.resume_at: int = 0
        """Of a stub: the number of units that the peer has (on the wire)."""
        self.stub_most: int = 0
        """Of a stub: nothing beyond this was sent before the restart."""
        self.sent_most: int = 0
        """Nothing beyond this was ever sent, or `UNKNOWN`."""
        self.is_fetching: bool = False

    def restore(self, row: Row, waiting: int, nbytes: int) -> None:
        """Set the marks as they were on disk, with ``waiting`` messages of ``nbytes`` in the spool."""
        self.sent_most = self.stub_most = row.next if row.sent_most == UNKNOWN else row.sent_most
        self.base, self.base_total = row.base, row.base_total
        self.next = self.written = row.next
        self.total = self.written_total = row.total
        self.acked = self.acked_written = row.acked
        self.acked_total = row.total - nbytes
        self.waiting = waiting
        self.is_stub = True

    def promise(self, payloads: list[bytes]) -> list[Stored]:
        """Give numbers to messages that will be spooled."""
        rows: list[Stored] = []
        for payload in payloads:
            self.next += units_of(len(payload))
            self.total += len(payload)
            rows.append((self.next, self.total, payload))
        self.waiting += len(rows)
        return rows

    def break_promises(self, count: int) -> None:
        """Take back the numbers of ``count`` messages that could not be written, and of all after them."""
        self.waiting -= count
        self.next, self.total = self.written, self.written_total

    def on_written(self, row: Row) -> None:
        """``row`` is on disk."""
        self.written, self.written_total, self.acked_written = row.next, row.total, row.acked

    def on_acked(self, acked: int, nbytes: int) -> bool:
        """The peer has units up to ``acked`` (on the wire). True if the mark has moved."""
        if acked + self.base <= self.acked:
            return False
        self.acked = acked + self.base
        self.acked_total = nbytes + self.base_total
        return True

    def on_loaded(self, number: int) -> None:
        """The message with this number is in memory."""
        self.loaded = number
        self.waiting -= 1

    def restart(self, base: int, base_total: int, doubtful: int) -> None:
        """The peer has forgotten the session: from now on, number 1 on the wire follows ``base``."""
        self.base = self.acked = self.sent_most = self.stub_most = base
        self.base_total = self.acked_total = base_total
        self.waiting -= doubtful

    def held_bytes(self) -> int:
        """Bytes of messages that are accepted and not acknowledged."""
        return self.total - self.acked_total

"""What the store knows of the messages that one session has to send."""

from __future__ import annotations

from weakref import WeakValueDictionary

from linkbox.core.channel import OutgoingMessage
from linkbox.core.durable.rows import UNKNOWN, Row, Stored, units_of


class SpoolMarks:
    """The sending half of a record. Marks, never backwards (numbers are stored ones)::

    acked <= loaded <= written <= next      (acknowledged; in memory so far; on disk; promised)
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
        self.base = 0
        """What to add to a number on the wire to get the stored one."""
        self.base_total = 0
        self.next = 0
        self.total = 0
        """Bytes of all messages ever promised."""
        self.written = 0
        self.written_total = 0
        self.loaded = 0
        self.acked = 0
        self.acked_total = 0
        self.acked_written = 0
        """How much of ``acked`` is on disk."""
        self.waiting = 0
        """Messages that were promised to the sender, and are not in memory."""
        self.absent: WeakValueDictionary[int, OutgoingMessage] = WeakValueDictionary()
        """Receipts of messages that are not in memory yet."""
        self.is_stub = False
        """None of the messages is in memory until the peer has said where to go on."""
        self.resume_at = 0
        """Of a stub: that many of its units the peer has (wire)."""
        self.stub_most = 0
        """Of a stub: nothing beyond this was sent by an earlier life."""
        self.sent_most = 0
        """Nothing beyond this was ever sent, or `UNKNOWN`."""
        self.is_fetching = False

    def restore(self, row: Row, waiting: int, nbytes: int) -> None:
        """As it was on disk, with that many messages and bytes in the spool."""
        self.sent_most = self.stub_most = row.next if row.sent_most == UNKNOWN else row.sent_most
        self.base, self.base_total = row.base, row.base_total
        self.next = self.written = row.next
        self.total = self.written_total = row.total
        self.acked = self.acked_written = row.acked
        self.acked_total = row.total - nbytes
        self.waiting = waiting
        self.is_stub = True

    def promise(self, payloads: list[bytes]) -> list[Stored]:
        """Number messages that are to be spooled."""
        rows: list[Stored] = []
        for payload in payloads:
            self.next += units_of(len(payload))
            self.total += len(payload)
            rows.append((self.next, self.total, payload))
        self.waiting += len(rows)
        return rows

    def break_promises(self, count: int) -> None:
        """These messages, and all promised after them, did not get on disk."""
        self.waiting -= count
        self.next, self.total = self.written, self.written_total

    def on_written(self, row: Row) -> None:
        """The disk has come this far."""
        self.written, self.written_total, self.acked_written = row.next, row.total, row.acked

    def on_acked(self, acked: int, nbytes: int) -> bool:
        """The peer has units up to this one (wire). True if that is news."""
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
        """The peer has forgotten the session: numbers on the wire begin anew after ``base``."""
        self.base = self.acked = self.sent_most = self.stub_most = base
        self.base_total = self.acked_total = base_total
        self.waiting -= doubtful

    def held_bytes(self) -> int:
        """Bytes of messages that are accepted and not acknowledged."""
        return self.total - self.acked_total

"""The store's record of the messages that one session has received: marks only, no payloads."""

from __future__ import annotations

from linkbox.core.durable.rows import Row
from linkbox.core.durable.write_schedule import Touchable, WriteSchedule


class InboxMarks:
    """The receiving half of a record. Numbers are those on disk: ``stored = wire + base``."""

    __slots__ = (
        "base",
        "freed",
        "given",
        "kept",
        "known_taken",
        "received",
        "received_bytes",
        "record",
        "schedule",
        "start",
    )

    def __init__(self, record: Touchable, schedule: WriteSchedule) -> None:
        self.record: Touchable = record
        self.schedule: WriteSchedule = schedule
        self.base: int = 0
        self.received: int = 0
        """Messages up to this number were given to the journal."""
        self.received_bytes: int = 0
        """Bytes received on the wire, up to ``received``."""
        self.given: int = 0
        """Messages up to this number were taken by the application."""
        self.known_taken: int = 0
        """The part of ``given`` that is on disk (as a number on the wire)."""
        self.start: int = 0
        """Bytes taken of the message after ``given``."""
        self.kept: set[int] = set()
        """Messages that the application has taken and not acknowledged."""
        self.freed: list[int] = []
        """Messages that were kept and can be deleted now."""

    def on_taken(self, given: int, start: int) -> None:
        """The application has taken messages up to ``given``, and ``start`` bytes of the next."""
        if self.schedule.is_inbox_left:
            return
        self.given = max(self.given, given)
        self.start = start
        self.schedule.touch(self.record)

    def on_held(self, number: int) -> None:
        """The application has taken a message without acknowledging it: it stays on disk."""
        self.kept.add(number)

    def on_unheld(self, number: int) -> None:
        """The application has acknowledged a message that was kept."""
        if self.schedule.is_inbox_left:
            return
        self.kept.discard(number)
        self.freed.append(number)
        self.schedule.touch(self.record)

    def release(self) -> None:
        """The conversation is over: if all is taken, do not refer to the record, which refers to this."""
        if self.given >= self.received and not self.kept:
            self.record = _NOTHING

    def restart(self) -> None:
        """The peer has forgotten the session: numbers on the wire begin at 1 again."""
        self.base = self.received
        self.received_bytes = self.known_taken = 0

    def take_freed(self) -> tuple[int, ...]:
        """Return the freed messages, to write them now."""
        freed, self.freed = tuple(self.freed), []
        return freed

    def restore(self, row: Row) -> None:
        """Set the marks as they were on disk."""
        self.base, self.received, self.received_bytes = row.in_base, row.received, row.received_bytes
        self.given, self.start = row.given, row.start

    def on_written(self, row: Row) -> bool:
        """``row`` is on disk. True if it contains more taken messages than before."""
        kept = [number for number in row.kept if number > self.base]
        taken = min([row.given, *(number - 1 for number in kept)]) - self.base
        if taken <= self.known_taken:
            return False
        self.known_taken = taken
        return True


_NOTHING = Touchable()
"""In place of a record that has nothing more to write."""

"""What the store knows of the messages that one session has received."""

from __future__ import annotations

from linkbox.core.durable.rows import Row
from linkbox.core.durable.write_schedule import Touchable, WriteSchedule


class InboxMarks:
    """The receiving half of a record. Numbers are stored ones: ``stored = wire + base``."""

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
        self.record = record
        self.schedule = schedule
        self.base = 0
        self.received = 0
        """Handed to the journal."""
        self.received_bytes = 0
        """On the wire, up to ``received``."""
        self.given = 0
        """Taken by the application."""
        self.known_taken = 0
        """How much of what was taken is on disk (a number of the wire)."""
        self.start = 0
        """Bytes taken of the message after ``given``."""
        self.kept: set[int] = set()
        """Messages that the application has, and has not acknowledged."""
        self.freed: list[int] = []
        """Messages that were kept, and are not needed any more."""

    def on_taken(self, given: int, start: int) -> None:
        """The application has taken messages up to this one, and ``start`` bytes of the next."""
        self.given = max(self.given, given)
        self.start = start
        self.schedule.touch(self.record)

    def on_held(self, number: int) -> None:
        """The application has taken a message without acknowledging it: it stays on disk."""
        self.kept.add(number)

    def on_unheld(self, number: int) -> None:
        """The application has acknowledged a message that was kept."""
        self.kept.discard(number)
        self.freed.append(number)
        self.schedule.touch(self.record)

    def restart(self) -> None:
        """The peer has forgotten the session: its numbers on the wire begin anew."""
        self.base = self.received
        self.received_bytes = self.known_taken = 0

    def take_freed(self) -> tuple[int, ...]:
        """The freed messages, to be written now."""
        freed, self.freed = tuple(self.freed), []
        return freed

    def restore(self, row: Row) -> None:
        """As it was on disk."""
        self.base, self.received, self.received_bytes = row.in_base, row.received, row.received_bytes
        self.given, self.start = row.given, row.start

    def on_written(self, row: Row) -> bool:
        """The disk has come this far. True if it knows of more that was taken."""
        kept = [number for number in row.kept if number > self.base]
        taken = min([row.given, *(number - 1 for number in kept)]) - self.base
        if taken <= self.known_taken:
            return False
        self.known_taken = taken
        return True

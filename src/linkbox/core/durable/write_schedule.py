"""Decides when the store is written next, and collects the records whose marks have moved since."""

from __future__ import annotations

from collections.abc import Callable

from linkbox.core.effects import Effects
from linkbox.core.timers import NEVER

MARKS_WAIT = 0.005
"""Seconds that moved marks may wait for more changes; messages do not wait."""


class Touchable:
    """An object whose marks are kept on disk."""

    __slots__ = ()


class WriteSchedule:
    """The time at which the writer should take the next batch."""

    def __init__(self, effects: Effects, wake: Callable[[], None]) -> None:
        self._effects = effects
        self._wake = wake
        """Called when ``due`` becomes earlier."""
        self.due: float = NEVER
        self.touched: dict[Touchable, None] = {}
        """The records whose marks have moved."""
        self.is_failing = False
        """Has the last write failed? Then only `retry_at` sets the time."""
        self.is_inbox_left = False
        """Is what was not taken left to the next start? Then nothing that is taken counts any more."""

    def touch(self, record: Touchable, is_urgent: bool = False) -> None:
        """Marks of this record have moved: write them soon."""
        self.touched[record] = None
        self.write_by(0.0 if is_urgent else self._effects.now + MARKS_WAIT)

    def write_by(self, when: float) -> None:
        """Write at this time or earlier."""
        if not self.is_failing and when < self.due:
            self.due = when
            self._wake()

    def retry_at(self, when: float) -> None:
        """A write has failed: try again at this time."""
        self.due = when
        self._wake()

    def taken(self) -> None:
        """The writer has taken everything."""
        self.touched = {}
        self.due = NEVER

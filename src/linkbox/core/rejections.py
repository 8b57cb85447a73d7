"""The messages of a session that were rejected or dropped, to report them again after a reconnect."""

from __future__ import annotations

from collections.abc import Iterable

from linkbox.core.outgoing import add_range

KEPT = 1000
"""Most REJECT frames that are kept."""
FRAME_COST = 64
"""Bytes of memory that a kept frame uses besides its contents."""
RANGE_COST = 176
"""Bytes of memory that a range of numbers uses."""


class Rejections:
    """The REJECT frames of a session, and the ranges of messages that a full mailbox dropped."""

    __slots__ = ("dropped", "frames", "unreported")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        """The last thousand REJECT frames: sent again after a reconnect, as they may not have arrived."""
        self.dropped: list[tuple[int, int]] = []
        """Ranges of numbers that were acknowledged, and then dropped from the full mailbox."""
        self.unreported: list[tuple[int, int]] = []
        """Ranges that have not been reported to the peer."""

    def memory(self) -> int:
        """The bytes of memory that this uses."""
        frames = sum(map(len, self.frames)) + FRAME_COST * len(self.frames)
        return frames + RANGE_COST * len(self.dropped)

    def keep(self, frames: Iterable[bytes]) -> None:
        """Keep REJECT frames, to send them again after a reconnect."""
        self.frames += frames
        del self.frames[:-KEPT]

    def add_dropped(self, number: int) -> None:
        """Add a message that was dropped from the full mailbox."""
        add_range(self.dropped, number, number)
        add_range(self.unreported, number, number)

    def report_all(self) -> None:
        """After a reconnect, report every range again: the earlier reports may not have arrived."""
        self.unreported = self.dropped[:]

    def take_unreported(self) -> list[tuple[int, int]]:
        """Return the ranges to report now, and count them as reported."""
        unreported, self.unreported = self.unreported, []
        return unreported

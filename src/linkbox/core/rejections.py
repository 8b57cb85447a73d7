"""What this end has refused or dropped of a session's messages, and must report again after a reconnect."""

from __future__ import annotations

from collections.abc import Iterable

from linkbox.core.outgoing import add_range

KEPT = 1000
"""Most REJECT frames that are kept."""


class Rejections:
    """The REJECT frames of a session, and the ranges of messages that a full mailbox dropped."""

    __slots__ = ("count", "dropped", "frames", "unreported")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        """The last thousand REJECT frames: after a drop they are sent again, for they may not have arrived."""
        self.count = 0
        self.dropped: list[tuple[int, int]] = []
        """Ranges of numbers that were acknowledged, and then dropped from the full mailbox."""
        self.unreported: list[tuple[int, int]] = []
        """Those that the peer has not been told of."""

    def keep(self, frames: Iterable[bytes]) -> None:
        """Keep REJECT frames, to be sent again after a drop."""
        self.frames += frames
        del self.frames[:-KEPT]

    def count_one(self) -> bool:
        """One more message was rejected. Is it worth a log line?

        The 1st, 2nd, 4th, 8th, … is: a flood must not fill the log, nor delay other peers.
        """
        self.count += 1
        return self.count & (self.count - 1) == 0

    def add_dropped(self, number: int) -> None:
        """The full mailbox has dropped this message."""
        add_range(self.dropped, number, number)
        add_range(self.unreported, number, number)

    def report_all(self) -> None:
        """A new connection: the peer may not have heard of any."""
        self.unreported = self.dropped[:]

    def take_unreported(self) -> list[tuple[int, int]]:
        """What the peer is told now."""
        unreported, self.unreported = self.unreported, []
        return unreported

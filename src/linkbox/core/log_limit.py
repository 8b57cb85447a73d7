"""Limits the log lines of one kind: ten a minute (unless more are allowed), then only a count.

Peers must be able neither to fill the log nor to delay other peers by what is logged about them. The limit is
for all peers together: a thousand connections with one fault each would otherwise write a thousand lines.
"""

from __future__ import annotations

from typing import Final

MOST_LINES: Final = 10
"""Lines of one kind in a minute."""
MINUTE: Final = 60.0


class LogLimit:
    """Counts the lines of one kind."""

    __slots__ = ("most", "suppressed", "until", "written")

    def __init__(self, most: int = MOST_LINES) -> None:
        self.most: int = most
        """Lines in a minute."""
        self.written: int = 0
        """Lines in this minute."""
        self.suppressed: int = 0
        """Lines that were not written, and not reported yet."""
        self.until: float = 0.0
        """When this minute is over."""

    def allows(self, now: float) -> bool:
        """May one more line be written now? If not, it is counted."""
        if now >= self.until:
            self.until, self.written = now + MINUTE, 0
        if self.written < self.most:
            self.written += 1
            return True
        self.suppressed += 1
        return False

    def take_suppressed(self) -> int:
        """Return how many lines were not written, and count them as reported."""
        suppressed, self.suppressed = self.suppressed, 0
        return suppressed

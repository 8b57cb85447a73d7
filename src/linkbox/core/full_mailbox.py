"""Warns when the mailbox is full and the application takes nothing: its peers wait, and may not know why."""

from __future__ import annotations

from typing import Final

from linkbox.core.effects import Effects
from linkbox.core.mailbox import Mailbox
from linkbox.core.source import Source
from linkbox.core.timers import NEVER

PATIENCE: Final = 10.0
"""Seconds in which nothing was taken after which a line is logged; then again after twice as long."""


class FullMailbox:
    """Watches one peer whose messages fill the mailbox, until the application takes one."""

    __slots__ = ("_due", "_effects", "_given", "_mailbox", "_since", "_source", "timer_at")

    def __init__(self, mailbox: Mailbox, effects: Effects) -> None:
        self._mailbox = mailbox
        self._effects = effects
        self._source: Source | None = None
        """The peer that is watched, if any."""
        self._given = 0
        self._since = 0.0
        self._due = NEVER
        self.timer_at: float = NEVER

    def watch(self, source: Source) -> None:
        """This peer may send nothing more until something is taken. Nothing happens if one is watched."""
        if self._source is None and source.waiting and self._mailbox.overflow == "block":
            self._source, self._given, self._since = source, source.given, self._effects.now
            self._due = self._since + PATIENCE
            self._effects.timers.schedule(self, self._due)

    def next_timer(self) -> float:
        """When to look whether something was taken."""
        return self._due

    def handle_timer(self, now: float) -> None:
        """Log that nothing was taken, or end."""
        source = self._source
        if source is None or now < self._due:
            return
        if source.given != self._given or not source.waiting:
            self._source, self._due = None, NEVER
            return
        since = now - self._since
        self._due = now + since
        count, peer = source.waiting, source.peer
        self._effects.log(
            "warning",
            f"the mailbox is full: {count} messages of {peer} wait, and none was taken for {since:.0f} s; "
            "the peer cannot send until the application takes some",
            "mailbox_full",
            peer,
            {"waiting": count, "seconds": since},
        )

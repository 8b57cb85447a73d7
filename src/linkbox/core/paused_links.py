"""With plain framings: the connections that are not read because the mailbox, or the backlog, is full."""

from __future__ import annotations

from typing import Final

from linkbox.core.effects import Effects, Route
from linkbox.core.mailbox import Mailbox
from linkbox.core.source import Source

PLAIN_BYTES: Final = 256 * 1024
"""Bytes of one peer that are not decoded from which on its connection is not read."""


class PausedLinks:
    """The paused connections. A plain framing has no credit, so not reading is the only back-pressure."""

    __slots__ = ("_effects", "_mailbox", "paused")

    def __init__(self, mailbox: Mailbox, effects: Effects) -> None:
        self._mailbox = mailbox
        self._effects = effects
        self.paused: dict[Source, Route] = {}

    def pause(self, source: Source, route: Route) -> None:
        """Stop reading from this peer until there is room."""
        link = route.link
        if link is not None and not link.paused and self._mailbox.overflow == "block":
            link.paused = True
            self.paused[source] = route
            self._effects.to_write.append(link)

    def read_again(self) -> None:
        """Messages were taken: resume reading the connections whose messages have room now."""
        for source, route in list(self.paused.items()):
            link = route.link
            if link is None or not (self._mailbox.is_full(source) or source.undecoded() > PLAIN_BYTES):
                del self.paused[source]
                if link is not None:
                    link.paused = False
                    self._effects.to_write.append(link)

"""With plain framings: the connections that are not read because the mailbox is full."""

from __future__ import annotations

from linkbox.core.effects import Effects, Route
from linkbox.core.mailbox import Mailbox, Source


class PausedLinks:
    """The paused connections. A plain framing has no credit, so not reading is the only back-pressure."""

    __slots__ = ("_effects", "_mailbox", "_paused")

    def __init__(self, mailbox: Mailbox, effects: Effects) -> None:
        self._mailbox = mailbox
        self._effects = effects
        self._paused: dict[Source, Route] = {}

    def pause(self, source: Source, route: Route) -> None:
        """Stop reading from this peer until there is room."""
        link = route.link
        if link is not None and not link.paused and self._mailbox.overflow == "block":
            link.paused = True
            self._paused[source] = route
            self._effects.to_write.append(link)

    def read_again(self) -> None:
        """Messages were taken: resume reading the connections whose messages have room now."""
        for source, route in list(self._paused.items()):
            link = route.link
            if link is None or not self._mailbox.is_full(source):
                del self._paused[source]
                if link is not None:
                    link.paused = False
                    self._effects.to_write.append(link)

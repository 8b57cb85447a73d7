"""Over plain framings: connections that are not read because the mailbox is full."""

from __future__ import annotations

from linkbox.core.effects import Effects, Route
from linkbox.core.mailbox import Mailbox, Source


class PausedLinks:
    """A plain framing has no credit: the only back-pressure is not to read."""

    __slots__ = ("_effects", "_mailbox", "_paused")

    def __init__(self, mailbox: Mailbox, effects: Effects) -> None:
        self._mailbox = mailbox
        self._effects = effects
        self._paused: dict[Source, Route] = {}

    def pause(self, source: Source, route: Route) -> None:
        """Read no more from this peer until there is room."""
        link = route.link
        if link is not None and not link.paused and self._mailbox.overflow == "block":
            link.paused = True
            self._paused[source] = route
            self._effects.to_write.append(link)

    def read_again(self) -> None:
        """Something was taken: read those connections again whose messages have room."""
        for source, route in list(self._paused.items()):
            link = route.link
            if link is None or not self._mailbox.is_full(source):
                del self._paused[source]
                if link is not None:
                    link.paused = False
                    self._effects.to_write.append(link)

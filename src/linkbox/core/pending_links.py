"""The connections of a server that are not admitted yet, and which of them makes room for a new one.

Silent connections must not shut out clients: a connection costs its owner next to nothing, and may take
``Limits.handshake`` seconds. So in a crowd a new connection is accepted, and another one is closed: of the
address with the most of them the one whose handshake has come least far, of these the oldest. A client that
shakes hands needs its place for a few round trips only.

No connection is kept for a certain time: that would bound the rate at which connections are accepted, and a
faster flood would fill the kernel's queue, where clients wait. But a connection that was just accepted is
*new* until the network has tried to read from it: its first bytes decide how far it has come.
"""

from __future__ import annotations

from linkbox.core.handshake import ServerHandshake
from linkbox.core.link import Link, State
from linkbox.core.linked_link import LinkedLink
from linkbox.limits import Limits

STAGES = 4
"""Of a handshake: nothing has arrived; something has; the preface; HELLO."""


class Origin:
    """The connections that count for the same address."""

    __slots__ = ("count", "stages")

    def __init__(self) -> None:
        self.count: int = 0
        self.stages: tuple[dict[Link, None], ...] = tuple({} for _ in range(STAGES))
        """Those that may be closed for a new one, the oldest first. A connection may have come further than
        its stage here: `oldest` finds out."""

    def oldest(self) -> Link | None:
        """The one to close for a new connection, if there is one."""
        for number, stage in enumerate(self.stages):
            while (link := next(iter(stage), None)) is not None:
                reached = stage_of(link)
                if reached <= number:
                    return link
                del stage[link]
                self.stages[reached][link] = None
        return None

    def remove(self, link: Link) -> bool:
        """It may not be closed for a new one any more. False if that is so already."""
        for stage in self.stages:
            if link in stage:
                del stage[link]
                return True
        return False


class PendingLinks:
    """Connections that are not admitted yet."""

    __slots__ = ("_by_count", "_is_share_new", "_limits", "_most", "_new", "_origins", "links")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.links: dict[Link, str | None] = {}
        """All of them, each with its origin: what it counts for (see ``address.origin_of``); None: exempt."""
        self._new: dict[Link, None] = {}
        """Those from which the network may not have tried to read, the oldest first."""
        self._is_share_new = False
        """Is the share of an origin full, and may none of its connections be closed before it is read?"""
        self._origins: dict[str | None, Origin] = {}
        self._by_count: dict[int, dict[Origin, None]] = {}
        """The origins by their number of connections that may be closed."""
        self._most = 0
        """The largest of these numbers."""

    # -- which there are -------------------------------------------------------------------------------

    def add(self, link: Link, origin: str | None) -> None:
        """Add a new connection."""
        self.links[link] = origin
        self._new[link] = None
        found = self._origins.get(origin)
        if found is None:
            found = self._origins[origin] = Origin()
        found.count += 1
        if self.is_share_full(origin) and not any(found.stages):
            self._is_share_new = True

    def remove(self, link: Link) -> None:
        """Remove a connection that is admitted or closed."""
        self.waits(link)
        origin = self.links.pop(link)
        found = self._origins[origin]
        found.count -= 1
        if not found.count:
            del self._origins[origin]

    def waits(self, link: Link) -> None:
        """The client has completed its handshake and waits for this server: do not close it in a crowd."""
        self._new.pop(link, None)
        origin = self._origins[self.links[link]]
        if origin.remove(link):
            self._moved(origin, -1)

    def decided(self, link: Link) -> None:
        """It waits no longer. If it was refused, it may be closed in a crowd."""
        if link in self.links:
            self._may_close(link)

    def _may_close(self, link: Link) -> None:
        origin = self._origins[self.links[link]]
        origin.stages[0][link] = None
        self._moved(origin, 1)

    def _moved(self, origin: Origin, step: int) -> None:
        """One more connection of this origin may be closed (1), or one less (-1)."""
        count = sum(map(len, origin.stages))
        if before := count - step:
            others = self._by_count[before]
            del others[origin]
            if not others:
                del self._by_count[before]
        if count:
            self._by_count.setdefault(count, {})[origin] = None
        if count > self._most or self._most not in self._by_count:
            self._most = count

    # -- which makes room ------------------------------------------------------------------------------

    def is_full(self) -> bool:
        """Is the limit reached?"""
        return len(self.links) >= self._limits.unwelcomed

    def is_share_full(self, origin: str | None) -> bool:
        """Is the limit of this origin reached?"""
        found = self._origins.get(origin) if origin is not None else None
        return found is not None and found.count >= self._limits.unwelcomed_per_ip

    def must_read(self, needs_room: bool, now: float) -> bool:
        """Must the new connections be read before another one is accepted?

        They take no more than a quarter of the places for which others are closed. Once they are read, the
        silent ones of them are closed first: they cannot push out those that shake hands.
        """
        self._look(now)
        if needs_room and self._new:
            return len(self._new) > self._limits.unwelcomed // 4 or not self._most
        return self._is_share_new

    def least_worthy(self, now: float) -> Link | None:
        """Return the connection to close for a new one. None: all are new, or wait for a decision."""
        self._look(now)
        return next(iter(self._by_count[self._most])).oldest() if self._most else None

    def oldest_of(self, origin: str | None, now: float) -> Link | None:
        """Return the connection to close for a new one of the same origin, if there is one."""
        self._look(now)
        return self._origins[origin].oldest()

    def _look(self, now: float) -> None:
        """Connections that were accepted in an earlier turn have been read: they are not new any more."""
        while (link := next(iter(self._new), None)) is not None and link.opened_at < now:
            del self._new[link]
            self._may_close(link)
        self._is_share_new = self._is_share_new and bool(self._new)


def stage_of(link: Link) -> int:
    """How far the handshake of this connection has come. A refused client has only to close."""
    if link.state is not State.HANDSHAKE or not link.has_begun:
        return 0
    handshake = link.handshake if isinstance(link, LinkedLink) else None
    if not isinstance(handshake, ServerHandshake):
        return 1
    return 1 + handshake.is_greeted + handshake.is_introduced()

"""The connections of a server that are not admitted yet, and which of them makes room for a new one.

Silent connections must not shut out clients: a connection costs its owner next to nothing, and may take
``Limits.handshake`` seconds. So in a crowd a new connection is accepted, and another one is closed: of the
address with the most of them one that has sent nothing, the oldest first. A client that shakes hands needs
its place for a few round trips only. None is closed in its first `GRACE` seconds, in which a crowd of honest
clients (their server was restarted, say) completes its handshakes.
"""

from __future__ import annotations

from collections import Counter

from linkbox.core.link import Link
from linkbox.core.linked_link import LinkedLink
from linkbox.limits import Limits

GRACE = 0.25
"""Seconds in which a new connection is not closed for another one."""


class PendingLinks:
    """Connections that are not admitted yet, the oldest first."""

    __slots__ = ("_limits", "_origins", "_unworthy", "links")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.links: dict[Link, str | None] = {}
        """All of them, each with its origin: what it counts for (see ``address.origin_of``); None: exempt."""
        self._origins: Counter[str] = Counter()
        self._unworthy: dict[Link, None] = {}
        """Those that may be closed for a new one: all but the clients that wait for a decision."""

    def add(self, link: Link, origin: str | None) -> None:
        """Add a new connection."""
        self.links[link] = origin
        self._unworthy[link] = None
        if origin is not None:
            self._origins[origin] += 1

    def remove(self, link: Link) -> bool:
        """Remove a connection that is admitted, refused or closed. False if it was not pending."""
        if link not in self.links:
            return False
        origin = self.links.pop(link)
        self._unworthy.pop(link, None)
        if origin is not None:
            self._origins[origin] -= 1
            if not self._origins[origin]:
                del self._origins[origin]
        return True

    def waits(self, link: Link) -> None:
        """The client has completed its handshake and waits for this server: do not close it in a crowd."""
        self._unworthy.pop(link, None)

    def decided(self, link: Link) -> None:
        """It waits no longer. If it was refused, it may be closed in a crowd."""
        if link in self.links:
            self._unworthy[link] = None

    def is_full(self) -> bool:
        """Is the limit reached?"""
        return len(self.links) >= self._limits.unwelcomed

    def is_share_full(self, origin: str | None) -> bool:
        """Is the limit of this origin reached?"""
        return origin is not None and self._origins[origin] >= self._limits.unwelcomed_per_ip

    def can_make_room(self, now: float) -> bool:
        """Is there a connection to close for a new one?"""
        return self.least_worthy(now) is not None

    def least_worthy(self, now: float) -> Link | None:
        """Return the connection to close for a new one. None: there is none yet, a new one must wait."""
        counts = Counter(self.links[link] for link in self._unworthy)

        def worth(link: Link) -> tuple[int, bool]:
            return -counts[self.links[link]], _has_begun(link)

        victim = min(self._unworthy, key=worth, default=None)
        return victim if victim is not None and victim.opened_at <= now - GRACE else None


def _has_begun(link: Link) -> bool:
    """Has the client sent its preface?"""
    handshake = link.handshake if isinstance(link, LinkedLink) else None
    return handshake is not None and handshake.is_greeted

"""The connections that wait for the application's decision (``accept=``), and which one is decided next.

``accept=`` is called for one connection at a time, and may take long. So the addresses take turns, however
many connections each of them has: next is the one whose last turn was the longest time ago, of its
connections the oldest. ``Limits.unwelcomed_per_ip`` is the most that one address can let wait.
"""

from __future__ import annotations

from typing import NamedTuple

from linkbox.core.link import Link
from linkbox.core.wire.handshake_messages import Hello
from linkbox.events import PeerInfo


class PendingAccept(NamedTuple):
    """A connection that waits for the application's decision (``accept=``)."""

    link: Link
    hello: Hello | None
    """The client's HELLO; None with a plain framing."""
    info: PeerInfo


class PendingAccepts:
    """The connections that wait, by their origins (see ``address.origin_of``). Local ones count as one."""

    __slots__ = ("_count", "_last", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[str | None, dict[Link, PendingAccept]] = {}
        """The origins in the order of their turns; of each the connections, the oldest first."""
        self._last: str | None = None
        """The origin that had the last turn."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pending: PendingAccept, origin: str | None) -> None:
        """A connection must be decided."""
        self._waiting.setdefault(origin, {})[pending.link] = pending
        self._count += 1

    def take(self) -> PendingAccept:
        """Take the next one to decide; there must be one."""
        # Only now: those that came during the last decision are served before its origin has another turn.
        last = self._waiting.pop(self._last, None)
        if last is not None:
            self._waiting[self._last] = last
        self._last = origin = next(iter(self._waiting))
        link = next(iter(self._waiting[origin]))
        return self._remove(link, origin)

    def discard(self, link: Link, origin: str | None) -> None:
        """A connection is closed: it does not wait any more, if it did."""
        if link in self._waiting.get(origin, ()):
            self._remove(link, origin)

    def _remove(self, link: Link, origin: str | None) -> PendingAccept:
        waiting = self._waiting[origin]
        pending = waiting.pop(link)
        if not waiting:
            del self._waiting[origin]
        self._count -= 1
        return pending

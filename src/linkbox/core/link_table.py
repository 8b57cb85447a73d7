"""The table of an endpoint's connections."""

from __future__ import annotations

from linkbox.core.context import Context
from linkbox.core.link import Link
from linkbox.core.session_table import SessionTable


class LinkTable:
    """The connections that are not closed."""

    __slots__ = ("_context", "_sessions", "links")

    def __init__(self, context: Context, sessions: SessionTable) -> None:
        self._context = context
        self._sessions = sessions
        self.links: set[Link] = set()

    def add(self, link: Link) -> None:
        """Add a new connection."""
        self.links.add(link)
        self._context.mailbox.peers = len(self.links)
        self._context.counters.connections += 1
        link.schedule(link.next_timer())

    def closed(self, link: Link, error: Exception | None) -> None:
        """A connection is closed: notify its session."""
        self.links.discard(link)
        self._context.mailbox.peers = len(self.links)
        effects = self._context.effects
        effects.timers.forget_one()
        effects.to_write.append(link)
        effects.to_wake.append(self._sessions.changed)
        session = link.session
        if session is not None and session.link is link:
            self._sessions.connection_lost(session, link, error)

    def abort_all(self) -> None:
        """Close every connection now."""
        for link in list(self.links):
            try:
                link.abort(None)
            except BaseException as failure:  # the others must be closed nevertheless
                self._context.effects.failures.append((link, failure))

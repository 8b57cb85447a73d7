"""How many peers a server has, and which of them makes room for another."""

from __future__ import annotations

from linkbox.core.linked_link import LinkedLink
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.errors import PeerLost

PING_WAIT = 2.0
"""Seconds in which a silent peer must answer a ping, when another client needs its place."""


class Places:
    """A place belongs to a live connection, not to a session."""

    __slots__ = ("_sessions", "max_peers")

    def __init__(self, sessions: SessionTable, max_peers: int) -> None:
        self._sessions = sessions
        self.max_peers = max_peers

    def are_taken(self) -> bool:
        """Are there as many sessions as there may be?"""
        return len(self._sessions.by_id) >= self.max_peers

    def make_room(self) -> bool:
        """Is there a place? A session without a connection gives up its own."""
        if not self.are_taken():
            return True
        for session in self._sessions.by_id.values():
            if session.link is None:
                error = PeerLost(f"{session.peer} was disconnected, and its place was needed")
                self._sessions.close_session(session, error)
                return True
        return False

    def ping_silent(self, now: float) -> bool:
        """Ask the peers that have been silent for a sign of life. False if there are none."""
        silent = [link for _, link in self._live() if now - link.heard_at > PING_WAIT]
        for link in silent:
            link.ping(now)
        return bool(silent)

    def evict_silent(self, since: float) -> None:
        """A peer that has sent nothing since then makes room."""
        for session, link in self._live():
            if link.heard_at < since:
                error = PeerLost(f"{session.peer} gave no sign of life, and its place was needed")
                self._sessions.close_session(session, error)
                return

    def _live(self) -> list[tuple[Session, LinkedLink]]:
        sessions = self._sessions.by_id.values()
        return [(session, link) for session in sessions if isinstance(link := session.link, LinkedLink)]

    def describe(self) -> str:
        """Why there is no place."""
        places = "the place is" if self.max_peers == 1 else f"all {self.max_peers} places are"
        return f"{places} taken"

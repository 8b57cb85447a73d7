"""The peer slots of a server, and which peer is disconnected to free one for a new client."""

from __future__ import annotations

from linkbox.core.linked_link import LinkedLink
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.errors import PeerLost

PING_WAIT = 2.0
"""Seconds in which a silent peer must answer a ping while another client waits for a slot."""


class Places:
    """The slots, at most ``max_peers``. A session without a connection gives its slot to a new client.

    Only one with messages in its spool keeps it: they were accepted for that peer, and no other client may
    cause their loss.
    """

    __slots__ = ("_sessions", "max_peers")

    def __init__(self, sessions: SessionTable, max_peers: int) -> None:
        self._sessions = sessions
        self.max_peers = max_peers

    def are_taken(self) -> bool:
        """Are all slots in use?"""
        return len(self._sessions.by_id) >= self.max_peers

    def make_room(self) -> bool:
        """Is a slot free? If necessary, close a session without a connection to free its slot."""
        if not self.are_taken():
            return True
        for session in self._sessions.by_id.values():
            if session.link is None and not has_spool(session):
                error = PeerLost(f"{session.peer} was disconnected, and another client needed its slot")
                self._sessions.close_session(session, error)
                return True
        return False

    def ping_silent(self, now: float) -> bool:
        """Ping the peers from which nothing has arrived lately. False if there are none."""
        silent = [link for _, link in self._live() if now - link.heard_at > PING_WAIT]
        for link in silent:
            link.ping(now)
        return bool(silent)

    def evict_silent(self, since: float) -> None:
        """Close the session of one peer that has sent nothing since that time."""
        for session, link in self._live():
            if link.heard_at < since and not has_spool(session):
                error = PeerLost(f"{session.peer} gave no sign of life, and another client needed its slot")
                self._sessions.close_session(session, error)
                return

    def _live(self) -> list[tuple[Session, LinkedLink]]:
        sessions = self._sessions.by_id.values()
        return [(session, link) for session in sessions if isinstance(link := session.link, LinkedLink)]

    def describe(self) -> str:
        """The reason to refuse a client when no slot is free."""
        places = "the only peer slot is" if self.max_peers == 1 else f"all {self.max_peers} peer slots are"
        away = sum(each.link is None for each in self._sessions.by_id.values())
        return f"{places} in use" + (f", {away} by absent peers with undelivered messages" if away else "")


def has_spool(session: Session) -> bool:
    """Is a message for the peer of this session in the store?"""
    return session.record is not None and session.in_flight() > 0

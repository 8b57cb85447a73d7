"""The peer slots of a server, and which peer is disconnected to free one for a new client."""

from __future__ import annotations

from linkbox.address import host_of_url
from linkbox.core.kept_sessions import KeptSessions, has_spool
from linkbox.core.link import Link
from linkbox.core.linked_link import LinkedLink
from linkbox.core.session import Session
from linkbox.core.session_table import SessionTable
from linkbox.errors import PeerLost

PING_WAIT = 2.0
"""Seconds in which a silent peer must answer a ping while another client waits for a slot."""


class Places:
    """The slots, at most ``max_peers``. A session without a connection gives its slot to a new client.

    Only one with messages in its spool keeps it: they were accepted for that peer, and another client must
    not delete them.
    """

    __slots__ = ("_kept", "_sessions", "max_peers")

    def __init__(self, sessions: SessionTable, kept: KeptSessions, max_peers: int) -> None:
        self._sessions = sessions
        self._kept = kept
        self.max_peers: int = max_peers

    def are_taken(self) -> bool:
        """Are all slots in use?"""
        return len(self._sessions.by_id) >= self.max_peers

    def make_room(self, identity: str | None) -> bool:
        """Is a slot free for this identity? If necessary, close a session without a connection."""
        if not self.are_taken():
            return True
        session = self._kept.for_slot(identity)
        if session is None:
            return False
        error = PeerLost(f"{session.peer} was disconnected, and another client needed its slot")
        self._sessions.close_session(session, error)
        return True

    def replaceable(self, address: str) -> Session | None:
        """With a plain framing: the session whose slot a new connection from this address gets, if any.

        One whose peer has closed its half; or else, with ``newest_wins``, the one from the same host that has
        been silent for the longest time: a device that comes back after it has lost its power.
        """
        settings = self._sessions.context.settings
        oldest: tuple[Session, float] | None = None
        for session in () if settings.pattern.asks else self._sessions.by_id.values():
            if session.receiving.end_reason is not None:
                if session.sending.queue:
                    continue  # It still gets its answer.
                return session
            is_same = settings.newest_wins and host_of_url(session.peer.address) == host_of_url(address)
            heard_at = link.heard_at if isinstance(link := session.link, Link) else 0.0
            if is_same and (oldest is None or heard_at < oldest[1]):
                oldest = session, heard_at
        return None if oldest is None else oldest[0]

    def replace_for(self, address: str) -> None:
        """With a plain framing: free a slot for a connection from this address, if all are in use."""
        session = self.replaceable(address) if self.are_taken() else None
        if session is None:
            return
        if session.receiving.end_reason is None:
            lost = PeerLost(f"{session.peer} was replaced by a new connection from the same host, {address}")
            self._sessions.close_session(session, lost)
            return
        link = session.detach()  # It has closed its half: what was written to it must arrive.
        assert link is not None
        self._sessions.close_session(session, None)
        effects = self._sessions.context.effects
        link.close_soon(effects.now)
        effects.to_write.append(link)

    def ping_silent(self, now: float) -> bool:
        """Ping the peers from which nothing has arrived lately. False if there are none."""
        silent = [link for _, link in self._live() if now - link.heard_at > PING_WAIT]
        for link in silent:
            link.ping(now)
        return bool(silent)

    def evict_silent(self, pinged_at: float) -> None:
        """Close the session of one peer that was pinged at that time and has sent nothing since."""
        for session, link in self._live():
            if pinged_at - link.heard_at > PING_WAIT and not has_spool(session):
                error = PeerLost(f"{session.peer} gave no sign of life, and another client needed its slot")
                self._sessions.close_session(session, error)
                return

    def _live(self) -> list[tuple[Session, LinkedLink]]:
        sessions = self._sessions.by_id.values()
        return [(session, link) for session in sessions if isinstance(link := session.link, LinkedLink)]

    def describe(self) -> str:
        """The reason to refuse a client when no slot is free."""
        places = "the only peer slot is" if self.max_peers == 1 else f"all {self.max_peers} peer slots are"
        away = len(self._kept)
        return f"{places} in use (max_peers={self.max_peers})" + (
            f", {away} by absent peers with undelivered messages" if away else ""
        )

"""The sessions of a server that wait for the return of their peers, and which of them is given up first.

Anyone who may connect can leave any number of sessions behind. So a session in which no message was sent
goes first: that costs its peer nothing. After these, the peer with the most sessions gives up its oldest one;
a peer is an authenticated identity, or an address. A session with messages in its spool keeps its slot: its
messages were accepted, and are on disk for that peer.
"""

from __future__ import annotations

from linkbox.address import origin_of_url
from linkbox.core.session import Session


class KeptSessions:
    """The sessions without a connection, the oldest first."""

    __slots__ = ("_groups", "_keys", "_unused")

    def __init__(self) -> None:
        self._keys: dict[Session, str] = {}
        """All of them, each with the name of its group."""
        self._groups: dict[str, _Group] = {}
        self._unused: dict[Session, None] = {}
        """Those in which no message had been sent when the connection was lost."""

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, session: Session) -> None:
        """The connection of this session is lost."""
        key = self._keys[session] = _group_of(session)
        self._groups.setdefault(key, _Group()).others[session] = None
        if is_unused(session):
            self._unused[session] = None

    def remove(self, session: Session) -> None:
        """The session has a connection again, or is closed."""
        key = self._keys.pop(session, None)
        if key is None:
            return
        self._unused.pop(session, None)
        group = self._groups[key]
        group.others.pop(session, None)
        group.spooled.pop(session, None)
        if not group.size():
            del self._groups[key]

    def for_slot(self, identity: str | None) -> Session | None:
        """Return the session whose slot a new client gets, if there is one.

        From its own identity it also gets that of a session with messages in the spool.
        """
        session = self._oldest_unused() or self._without_spool()
        own = None if identity is None else self._groups.get(_name(identity))
        if session is None and own is not None:
            session = next(iter(own.spooled))
        return session

    def surplus(self) -> Session:
        """Return the session to give up because too many are kept. There must be one."""
        session = self._oldest_unused() or self._without_spool()
        if session is None:
            session = next(iter(max(self._groups.values(), key=_Group.size).spooled))
        return session

    def _oldest_unused(self) -> Session | None:
        while self._unused:
            session = next(iter(self._unused))
            if is_unused(session):
                return session
            del self._unused[session]  # The application has sent something to it since.
        return None

    def _without_spool(self) -> Session | None:
        for group in sorted(self._groups.values(), key=_Group.size, reverse=True):
            while group.others:
                session = next(iter(group.others))
                if not _has_spool(session):
                    return session
                group.others.pop(session)
                group.spooled[session] = None  # The spool of an absent peer only grows.
        return None


class _Group:
    """The sessions of one identity or address, the oldest first."""

    __slots__ = ("others", "spooled")

    def __init__(self) -> None:
        self.others: dict[Session, None] = {}
        self.spooled: dict[Session, None] = {}
        """Those known to have messages in the spool."""

    def size(self) -> int:
        """How many there are."""
        return len(self.others) + len(self.spooled)


def is_unused(session: Session) -> bool:
    """Was nothing ever sent or received in this session? Then nothing is lost with it."""
    sending = session.sending
    return not (session.receiving.arrived or sending.sent or sending.most_sent or session.in_flight())


def _has_spool(session: Session) -> bool:
    return session.record is not None and session.in_flight() > 0


def _group_of(session: Session) -> str:
    peer = session.peer
    return f"at {origin_of_url(peer.address) or ''}" if peer.identity is None else _name(peer.identity)


def _name(identity: str) -> str:
    return f"identity {identity}"

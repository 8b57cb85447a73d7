"""The sessions of a server that wait for the return of their peers, and which of them is given up first.

Anyone who may connect can leave any number of sessions behind. So a session in which no message was sent
goes first: that costs its peer nothing. After these, the peer with the most sessions gives up its oldest one;
a peer is an authenticated identity, or an address. A session with messages in its spool keeps its slot: its
messages were accepted, and are on disk for that peer.
"""

from __future__ import annotations

from linkbox.address import origin_of_url
from linkbox.core.rejections import RANGE_COST
from linkbox.core.session import Session


class KeptSessions:
    """The sessions without a connection, the oldest first."""

    __slots__ = ("_bytes", "_groups", "_keys", "_total", "_unused")

    def __init__(self, total: int) -> None:
        self._total = total
        """Most bytes that all of them may use, besides what was sent to their peers."""
        self._bytes = 0
        self._keys: dict[Session, tuple[str, int]] = {}
        """All of them, each with the name of its group and the bytes that it uses."""
        self._groups: dict[str, _Group] = {}
        self._unused: dict[Session, None] = {}
        """Those in which no message had been sent when the connection was lost."""

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, session: Session) -> None:
        """The connection of this session is lost."""
        key, nbytes = _group_of(session), _memory_of(session)
        self._keys[session] = key, nbytes
        self._bytes += nbytes
        self._groups.setdefault(key, _Group()).others[session] = None
        if is_unused(session):
            self._unused[session] = None

    def remove(self, session: Session) -> None:
        """The session has a connection again, or is closed."""
        found = self._keys.pop(session, None)
        if found is None:
            return
        key, nbytes = found
        self._bytes -= nbytes
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

    def surplus(self) -> Session | None:
        """Return the session to give up because too many are kept. None: each has messages in its spool."""
        return self._oldest_unused() or self._without_spool()

    def has_room(self, session: Session) -> bool:
        """Is there memory for what this session keeps? The first one may use as much as it does."""
        nbytes = _memory_of(session)
        return not (nbytes and self._bytes) or nbytes <= self._total - self._bytes

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
                if not has_spool(session):
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


def has_spool(session: Session) -> bool:
    """Is a message for the peer of this session in the store?"""
    return session.record is not None and session.in_flight() > 0


def _memory_of(session: Session) -> int:
    """Bytes that are kept until a peer without a connection returns, besides what was sent to it."""
    assembly, dropped = session.receiving.assembly, session.sending.dropped
    half = 0 if assembly is None else assembly.size
    return half + session.rejections.memory() + RANGE_COST * len(dropped)


def _group_of(session: Session) -> str:
    peer = session.peer
    return f"at {origin_of_url(peer.address) or ''}" if peer.identity is None else _name(peer.identity)


def _name(identity: str) -> str:
    return f"identity {identity}"

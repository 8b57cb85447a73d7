"""Gives sessions of a client their links to a broker."""

from __future__ import annotations

from linkbox.core.broker.ask_link import AskLink
from linkbox.core.broker.link import BrokerLink
from linkbox.core.broker.stream_link import StreamLink
from linkbox.core.endpoint_core import ClientCore
from linkbox.core.session import Session
from linkbox.events import EventKind, Peer


def is_wanted(core: ClientCore, session: Session) -> bool:
    """Does the session still need a link?"""
    return session.error is None and (session.link is None or session.link.closed)


def carry_asks(core: ClientCore, session: Session, most: int, now: float) -> AskLink | None:
    """Make the link for the requests of a session. None: it is not needed any more."""
    core.effects.now = now
    if not is_wanted(core, session):
        return None
    address = core.dialing.address
    link = AskLink(core.side, core.context, address, now, session, core.asks, most)
    _open(core, session, link, now)
    return link


def carry_messages(core: ClientCore, session: Session, most: int, now: float) -> StreamLink | None:
    """Make the link for the messages of a session into a stream. None: it is not needed any more."""
    core.effects.now = now
    if not is_wanted(core, session):
        return None
    link = StreamLink(core.side, core.context, core.dialing.address, now, session, most)
    _open(core, session, link, now)
    link.start()
    return link


def _open(core: ClientCore, session: Session, link: BrokerLink, now: float) -> None:
    session.generation.epoch += 1
    session.attach(link)
    core.links.add(link)
    session.timer.stop()
    kind = EventKind.RESUMED
    if not session.generation.established:
        kind, peer = EventKind.CONNECTED, session.peer
        session.rename(Peer(peer.name, peer.address, peer.id, core.context.wall_time(now)))
    else:
        core.context.counters.reconnects += 1
    core.sessions.announce_up(session, kind)
    core.effects.to_write.append(link)

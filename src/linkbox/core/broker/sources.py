"""The server's side of P2M over a broker: the clients whose messages have come, and how much to fetch.

There are no connections. A client is a peer from its first message until all its messages were taken and no
further one has come for a while.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import Final

from linkbox.core.broker import stream_messages
from linkbox.core.broker.source_link import SourceLink, Waiting
from linkbox.core.broker.stream_messages import Acknowledge, Stored
from linkbox.core.endpoint_core import ServerCore
from linkbox.events import EventKind, Peer
from linkbox.limits import NAME_CHARACTERS

PREFETCH: Final = 1000
"""Most messages of the stream that wait here to be taken, unless a caller waits for more."""
_SESSION: Final = re.compile(r"[0-9a-f]{32}")
_FOREIGN: Final = "0" * 32
"""The id of all clients that are no linkbox."""


class BrokerSources:
    """All clients of a server of P2M."""

    __slots__ = ("_address", "_core", "_largest_pack", "_waiting")

    def __init__(self, core: ServerCore, address: str) -> None:
        self._core = core
        self._address = address
        self._largest_pack = 1
        self._waiting = Waiting()

    def on_stored(self, stored: Stored, now: float) -> SourceLink | None:
        """A message of the stream has arrived: adds what is new to `EndpointCore.arrivals`.

        Returns the link of its client; None if this server stops: then give the message back.
        """
        core = self._core
        core.effects.now = now
        if core.context.is_stopping:
            return None
        link = self._link_of(stored, now)
        self._largest_pack = max(self._largest_pack, len(stored.parts))
        arrival = link.receive_stored(stored, now)
        if arrival is not None:
            core.arrivals.append(arrival)
        return link

    def _link_of(self, stored: Stored, now: float) -> SourceLink:
        core = self._core
        id = stored.session if _SESSION.fullmatch(stored.session) else _FOREIGN
        session = core.sessions.by_id.get(id)
        if session is None:
            name = stored.name[:NAME_CHARACTERS] or self._address
            session = core.sessions.open(Peer(name, self._address, id, core.context.wall_time(now)))
            session.resumes = False
            link = SourceLink(core.side, core.context, self._address, now, session, self._waiting)
            session.attach(link)
            core.links.add(link)
            core.sessions.announce_up(session, EventKind.CONNECTED)
            return link
        found = session.link
        assert isinstance(found, SourceLink)
        return found

    def take_given_back(self) -> list[Acknowledge]:
        """The orders to give back what was not taken: in the order of the stream, of all clients together."""
        stored, self._waiting.given_back = self._waiting.given_back, []
        stored.sort(key=attrgetter("place"))
        return [Acknowledge(each.reply_to, stream_messages.NAK) for each in stored]

    def room(self) -> tuple[int, int]:
        """How many messages of the stream, and bytes, may be fetched now."""
        core = self._core
        limits, requested = core.context.limits, core.mailbox.requested
        waiting = self._waiting
        units_left = max(limits.mailbox_messages, requested) - waiting.units
        most = min(max(PREFETCH, requested) - waiting.count, -(-units_left // self._largest_pack))
        return max(most, 0), max(max(limits.mailbox_bytes, requested) - waiting.nbytes, 0)

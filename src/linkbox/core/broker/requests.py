"""The server's side of requests over a broker.

There are no connections, so a client has no END and no events: its session exists for the sake of fairness
and limits, from its first request until it has been idle for a while. See ask_messages.py for the messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from linkbox.core.arrival import Arrival, Payload
from linkbox.core.broker import ask_messages
from linkbox.core.broker.ask_messages import Reply, split_parts
from linkbox.core.broker.request_link import RequestLink
from linkbox.core.endpoint_core import ServerCore
from linkbox.core.incoming_asks import IncomingAsk
from linkbox.core.session import Session
from linkbox.core.wire.decoder import too_large
from linkbox.events import Peer
from linkbox.limits import NAME_CHARACTERS
from linkbox.text import printable

_CLIENT: Final = re.compile(r"[0-9a-f]{32}")
_ANONYMOUS: Final = "0" * 32
"""The id of all clients that are no linkbox: they share one session."""


class BrokerRequests:
    """All requests that have arrived through the broker and have no reply."""

    __slots__ = ("_address", "_by_reply", "_core", "_orders", "most")

    def __init__(self, core: ServerCore, address: str, most: int) -> None:
        self._core = core
        self._address = address
        self.most: int = most
        """The largest body that the broker accepts."""
        self._by_reply: dict[str, IncomingAsk] = {}
        self._orders: list[Reply] = []

    def on_request(
        self, reply_to: str, headers: Mapping[str, str], body: bytes, now: float
    ) -> RequestLink | None:
        """A request has arrived: adds what must be decoded to `EndpointCore.arrivals`.

        Returns the link of its client; None if it is refused: see `take_orders`.
        """
        core = self._core
        context = core.context
        core.effects.now = now
        if not reply_to or reply_to in self._by_reply:
            return None
        if context.is_stopping:
            self._orders.append(Reply(reply_to, {ask_messages.STATUS: ask_messages.GONE}, b""))
            return None
        try:
            parts = split_parts(body, headers)
            left = headers.get(ask_messages.LEFT)
            deadline = None if left is None else now + int(left) / 1000
        except (ValueError, OverflowError) as error:
            self._refuse(reply_to, "protocol", str(error))
            return None
        format, mine = headers.get(ask_messages.FORMAT), context.settings.format_name
        if format is not None and format != mine:
            shown = printable(format, 40)
            self._refuse(reply_to, "format", f"the format here is {mine}, the client's is {shown}")
            return None
        link = self._link_of(headers, now)
        if link is None:
            most = context.limits.connections
            self._refuse(reply_to, "limit", f"the server has {most} clients: Limits(connections=...)")
            return None
        self._begin(link, reply_to, parts, body, deadline, now)
        return link

    def _refuse(self, reply_to: str, code: str, text: str) -> None:
        self._core.context.counters.refused += 1
        headers = {ask_messages.STATUS: ask_messages.REFUSED, ask_messages.CODE: code}
        self._orders.append(Reply(reply_to, headers, text.encode("utf-8", "replace")))

    def _link_of(self, headers: Mapping[str, str], now: float) -> RequestLink | None:
        """The link of the client, which may be new. None: the server has too many clients."""
        core = self._core
        id = headers.get(ask_messages.CLIENT, "")
        if not _CLIENT.fullmatch(id):
            id = _ANONYMOUS
        session = core.sessions.by_id.get(id)
        if session is None:
            if len(core.links.links) >= core.context.limits.connections:
                return None
            name = headers.get(ask_messages.NAME, "")[:NAME_CHARACTERS] or self._address
            session = core.sessions.open(Peer(name, self._address, id, core.context.wall_time(now)))
            session.resumes = False
            session.generation.established = True
            takes_notes = id != _ANONYMOUS
            link = RequestLink(
                core.side, core.context, self._address, now, session, self._by_reply, self.most, takes_notes
            )
            session.attach(link)
            core.links.add(link)
            return link
        link_now = session.link
        assert isinstance(link_now, RequestLink)
        return link_now

    def _begin(
        self,
        link: RequestLink,
        reply_to: str,
        parts: list[bytes] | None,
        body: bytes,
        deadline: float | None,
        now: float,
    ) -> None:
        core, session = self._core, link.session
        assert session is not None
        ask = core.asks.begin(session, deadline)
        self._by_reply[reply_to] = ask
        link.start(ask.id, reply_to, now)
        most = core.context.limits.asks
        if len(ask.asks.open) > most:
            text = f"more than {most} requests at once: the server has Limits(asks={most})"
            core.inbox.fail(ask, "limit", text)
            return
        if core.mailbox.is_full_together():
            core.inbox.fail(
                ask, "limit", "the requests that wait fill the mailbox: Limits(mailbox_total=...)"
            )
            return
        if parts is None:
            core.arrivals.append(self._arrival(session, ask, [body], True))
            return
        for part in parts:
            core.arrivals.append(self._arrival(session, ask, [part], False))
        core.arrivals.append(self._arrival(session, ask, [], True))

    def _arrival(self, session: Session, ask: IncomingAsk, bodies: list[bytes], is_final: bool) -> Arrival:
        limit = self._core.context.limits.message
        payloads: list[Payload] = [
            body if len(body) <= limit else too_large(len(body), limit) for body in bodies
        ]
        size = sum(map(len, bodies))
        session.receiving.add_units(1, size, size)
        arrival = Arrival(session, payloads, session.receiving.arrived, ask)
        arrival.is_final = is_final
        return arrival

    def on_cancel(self, reply_to: str, now: float) -> None:
        """A client no longer waits for the response to its request."""
        self._core.effects.now = now
        ask = self._by_reply.get(reply_to)
        if ask is None or ask.is_finished:
            return  # Its response is on the way.
        link = ask.session.link
        assert isinstance(link, RequestLink)
        link.forget(ask.id)
        self._core.effects.to_write.append(link)
        self._core.asks.ignore(ask)
        ask.is_cancelled = True
        self._core.inbox.ask_closed(ask.session)

    def has(self, reply_to: str) -> bool:
        """Does this server have the request? It is named by the subject of its reply."""
        return reply_to in self._by_reply

    def take_orders(self) -> list[Reply]:
        """The replies to publish now, besides those of the links."""
        orders, self._orders = self._orders, []
        return orders

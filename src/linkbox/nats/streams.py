"""P2M over a broker: a stream keeps the messages until a server has taken them. Exchanges and ports."""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from linkbox.core.broker import stream_messages
from linkbox.core.broker.ask_messages import HEADER_BYTES, split_parts
from linkbox.core.broker.carrying import carry_messages
from linkbox.core.broker.source_link import Order, SourceLink
from linkbox.core.broker.sources import BrokerSources
from linkbox.core.broker.stream_link import StreamLink
from linkbox.core.broker.stream_messages import Acknowledge, Publish, Stored, Taken, split_id
from linkbox.core.broker.subjects import CONSUMER
from linkbox.core.connection import Connection as Link
from linkbox.core.endpoint import ClientCore, ServerCore
from linkbox.core.session import Session
from linkbox.errors import LinkError
from linkbox.nats.client import NOBODY, BrokerClient, status_of
from linkbox.nats.exchange import DialingExchange, Exchange
from linkbox.nats.jetstream import NANO, JetStream
from linkbox.nats.port import LinkCarrier, LinksPort

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.msg import Msg

TAKEN: Final = "t"
STORED: Final = "p"
FETCH: Final = "f"
"""Below the inbox: notes of what was taken, acknowledgements of the stream, messages of the stream."""
MOST_BYTES: Final = 1024 * 1024
"""Most bytes of a message of the stream, also at a broker that accepts more."""
BATCH: Final = 256
"""Most messages of the stream that are fetched with one request."""
EXPIRES: Final = 30.0
"""Seconds that a request to fetch waits at the broker."""
LEAVING: Final = 0.5
"""Seconds for the broker to drop the requests of a server that stops."""
BEAT: Final = 1.0
"""Seconds between the signs of life that the broker gives while such a request waits."""
FULL: Final = "maximum"
"""In the error of a stream that is full."""


class StreamExchange(DialingExchange):
    """A client's side."""

    port: StreamPort

    async def reach(self) -> int:
        """Find or make the stream of the name."""
        client = await self.connect()
        if not self.is_ready:
            await self.greet(client, is_needed=False)
            await JetStream(client, str(self.address), self.subjects, self.hello).ensure_stream(
                self.port.settings.replicas
            )
            self.is_ready = True
        return min(client.most, MOST_BYTES) - HEADER_BYTES

    def publish(self, key: int, order: Publish) -> None:
        """Publish a message to the stream."""
        client = self.client
        if client is None:
            return  # The port is notified of the loss.
        headers = order.headers | {stream_messages.TAKEN: f"{client.inbox}.{TAKEN}{key}"}
        reply_to = f"{client.inbox}.{STORED}{key}.{order.first}"
        client.publish(self.subjects.messages_of(order.session), order.body, reply_to, headers)

    def on_reply(self, token: str, message: Msg) -> None:
        port, kind = self.port, token[:1]
        key, _, first = token[1:].partition(".")
        if kind == TAKEN and key.isdigit():
            port.notify(port.on_taken, int(key), message.data.decode("ascii", "replace"))
        elif kind == STORED and key.isdigit() and first.isdigit():
            port.notify(port.on_stored, int(key), int(first), _error_of(message))

    def on_denied(self, subject: str) -> None:
        if self.client is not None and subject.lower().startswith(self.subjects.messages_of("").lower()):
            self.port.notify(self.port.on_denied, self.client.denial(subject))


def _error_of(message: Msg) -> str:
    """The error in an acknowledgement of the stream; empty if there is none."""
    if status_of(message) == NOBODY:
        return "there is no stream"
    try:
        answer = json.loads(message.data)
        error = answer.get("error")
        return "" if error is None else str(error.get("description") or "unknown error")
    except (ValueError, AttributeError):
        return "an acknowledgement that cannot be read"


class StreamPort(LinksPort[StreamLink]):
    """The links of a client."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        core = self.events.hub
        assert isinstance(core, ClientCore)
        self._core = core
        self.exchange: StreamExchange

    def make_exchange(self) -> StreamExchange:
        return StreamExchange(self)

    # -- from the exchange ---------------------------------------------------------------------------------

    def on_dialed(self, session: Session, most: int) -> None:
        """The stream is there."""
        link = carry_messages(self._core, session, most, self.now())
        if link is not None:
            self.carry(link)
            self.flush(link)

    def on_stored(self, key: int, first: int, error: str) -> None:
        """The stream has acknowledged a message, or not."""
        link = self.links.get(key)
        if link is not None:
            link.on_stored(first, error, FULL in error, self.now())

    def on_taken(self, key: int, text: str) -> None:
        """Messages were taken."""
        link = self.links.get(key)
        if link is not None:
            link.on_taken(text, self.now())

    def on_denied(self, error: LinkError) -> None:
        """The broker does not let this client publish."""
        for link in list(self.links.values()):
            session = link.session
            link.abort(error)
            if session is not None:
                self.events.connect_refused(session, error, self.now())

    # -- for the network -----------------------------------------------------------------------------------

    def flush(self, link: Link) -> None:
        carrier = link.carrier
        assert isinstance(link, StreamLink) and isinstance(carrier, LinkCarrier)
        key = carrier.key
        for order in link.take_orders(self.now()):
            self.post(self.exchange.publish, key, order)
        self.drop_if_closed(link)


class SourceExchange(Exchange):
    """A server's side: fetches as much as there is room for."""

    port: SourcePort

    def __init__(self, port: SourcePort) -> None:
        super().__init__(port)
        self._room = (0, 0)
        self._processed = 0
        """The last report of the port: room for messages and bytes; how many it had processed."""
        self._given = 0
        self._wanted = 0
        """Messages that the broker was asked for and has not sent."""
        self._fetch = ""
        """The subject where messages arrive; a new one when requests may be lost."""
        self._fetches = 0
        self._heard_at = 0.0
        self._barrier = 0
        self._end: Callable[[], None] | None = None
        self._given_back: list[Acknowledge] | None = None
        """What is given back once the broker has dropped our requests."""
        self.spawn(self._watch())

    async def open_place(self, client: BrokerClient) -> None:
        stream = JetStream(client, str(self.address), self.subjects, self.hello)
        replicas = self.port.settings.replicas
        await stream.ensure_stream(replicas)
        await stream.ensure_consumer()
        self._barrier = await stream.barrier(replicas)
        await self._begin(client)

    async def _begin(self, client: BrokerClient) -> None:
        """Fetch on a new subject: what belongs to older requests comes to none."""
        self._fetches += 1
        self._wanted = 0
        self._fetch = f"{client.inbox}-{FETCH}{self._fetches}"
        if self._end is not None:
            self._end()

        async def arrived(message: Msg) -> None:
            self._arrived(client, message)

        self._end = await client.subscribe(self._fetch, arrived)
        self._heard_at = monotonic()
        self.port.notify(self.port.tell_room)

    # -- fetching ------------------------------------------------------------------------------------------

    def do(self, orders: list[Order], room: tuple[int, int], processed: int) -> None:
        """Acknowledge what was taken; then fetch, if there is room."""
        client = self.client
        if client is not None:
            for order in orders:
                if isinstance(order, Acknowledge):
                    self._acknowledge(client, order)
                elif isinstance(order, Taken):
                    client.publish(order.to, order.ranges.encode())
        self._room, self._processed = room, processed
        self._pull()

    def _acknowledge(self, client: BrokerClient, order: Acknowledge) -> None:
        if order.what == stream_messages.NAK and self._given_back is not None:
            self._given_back.append(order)
        else:
            client.publish(order.reply_to, order.what)

    def _pull(self) -> None:
        client = self.client
        if client is None or not self.is_serving or not self._fetch:
            return
        messages, nbytes = self._room
        count = min(BATCH, messages - (self._given - self._processed) - self._wanted)
        if count <= 0 or nbytes <= 0 or (self._wanted and count < BATCH // 4):
            return  # Not in small portions.
        self._wanted += count
        body = {
            "batch": count,
            "max_bytes": max(nbytes, 2 * MOST_BYTES),
            "expires": int(EXPIRES * NANO),
            "idle_heartbeat": int(BEAT * NANO),
        }
        where = f"$JS.API.CONSUMER.MSG.NEXT.{self.subjects.stream}.{CONSUMER}"
        client.publish(where, json.dumps(body).encode(), self._fetch)

    def _arrived(self, client: BrokerClient, message: Msg) -> None:
        self._heard_at = monotonic()
        status = status_of(message)
        if status and not message.reply:
            if status != "100":  # A request has ended; 100 is a sign of life.
                headers = message.headers or {}
                self._wanted = max(0, self._wanted - int(headers.get("Nats-Pending-Messages", self._wanted)))
                self._pull()
            return
        if not message.reply.startswith("$JS.ACK."):
            return  # It does not come from the stream.
        self._wanted = max(0, self._wanted - 1)
        if not self.is_serving:
            self._acknowledge(client, Acknowledge(message.reply, stream_messages.NAK))
            return
        stored = _stored_of(message, self._barrier)
        if stored is None:
            client.publish(message.reply, b"+TERM")
            return
        self._given += 1
        self.port.notify(self.port.on_message, stored)
        self._pull()

    async def _watch(self) -> None:
        """No sign of life: the requests are lost, because the broker or its leader was restarted."""
        while True:
            await asyncio.sleep(BEAT / 2)
            client = self.client
            if client is None or not self.is_serving or not self._fetch:
                continue
            if self._wanted and monotonic() - self._heard_at > 2.5 * BEAT:
                await self._begin(client)
            self._pull()

    def stop_serving(self) -> None:
        """Fetch no more: first of all, or what is given back would come here again."""
        super().stop_serving()
        client, end, self._end = self.client, self._end, None
        if end is not None and client is not None:
            end()
            self._given_back = []
            client.finish_first(self._give_back(client))

    async def _give_back(self, client: BrokerClient) -> None:
        """Give back what was not taken, in order.

        The broker looks at our requests when it is asked about the consumer, and drops them. Otherwise it
        would try the first message with one of them, and put it behind the others.
        """
        try:
            await client.request(f"$JS.API.CONSUMER.INFO.{self.subjects.stream}.{CONSUMER}", b"", LEAVING)
        except LinkError:
            pass
        orders, self._given_back = self._given_back or [], None
        for order in orders:
            client.publish(order.reply_to, order.what)


def _stored_of(message: Msg, barrier: int) -> Stored | None:
    """A message of the stream. None if nobody can read it."""
    fields = message.reply.split(".")
    # "$JS.ACK.", then perhaps a domain and an account, stream, consumer, delivered, stream sequence, …
    at = 4 if len(fields) < 11 else 6
    delivered, place = int(fields[at]), int(fields[at + 1])
    headers = message.headers or {}
    try:
        parts = split_parts(message.data, headers)
    except ValueError:
        return None
    return Stored(
        session=message.subject.rpartition(".")[2],
        name=headers.get(stream_messages.NAME, ""),
        last=split_id(headers.get(stream_messages.ID, "")),
        parts=[message.data] if parts is None else parts,
        is_again=delivered > 1 or place <= barrier or stream_messages.AGAIN in headers,
        reply_to=message.reply,
        place=place,
        taken_to=headers.get(stream_messages.TAKEN, ""),
    )


class SourcePort(LinksPort[SourceLink]):
    """The links of a server."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        core = self.events.hub
        assert isinstance(core, ServerCore)
        self._core = core
        self._sources = BrokerSources(core, str(self.address))
        self._processed = 0
        self.exchange: SourceExchange

    def make_exchange(self) -> SourceExchange:
        return SourceExchange(self)

    # -- from the exchange ---------------------------------------------------------------------------------

    def on_message(self, stored: Stored) -> None:
        """A message of the stream has arrived."""
        self._processed += 1
        link = self._sources.on_stored(stored, self.now())
        if link is None:
            self._do([Acknowledge(stored.reply_to, stream_messages.NAK)])
        elif link.carrier is None:
            self.carry(link)

    def tell_room(self) -> None:
        """The exchange can fetch now."""
        self._do([])

    def _do(self, orders: list[Order]) -> None:
        self.post(self.exchange.do, orders, self._sources.room(), self._processed)

    # -- for the network -----------------------------------------------------------------------------------

    def flush(self, link: Link) -> None:
        assert isinstance(link, SourceLink)
        self._do([*link.take_orders(self.now()), *self._sources.take_given_back()])
        self.drop_if_closed(link)

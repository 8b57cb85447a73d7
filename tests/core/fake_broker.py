"""A broker without input and output, and the cores on it: what linkbox relies on in a nats-server.

`BrokerWire` plays the part of the networks: it carries the orders of the links to the broker, and what the
broker has to the cores. A test decides what happens when.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from linkbox.core.arrival import Arrival
from linkbox.core.asks_client import Ask
from linkbox.core.broker import ask_messages, stream_messages
from linkbox.core.broker.ask_link import AskLink, Verdict
from linkbox.core.broker.ask_messages import Cancel, Probe, Reply, Request, split_parts
from linkbox.core.broker.carrying import carry_asks, carry_messages
from linkbox.core.broker.request_link import RequestLink
from linkbox.core.broker.requests import BrokerRequests
from linkbox.core.broker.source_link import SourceLink
from linkbox.core.broker.sources import BrokerSources
from linkbox.core.broker.stream_link import StreamLink
from linkbox.core.broker.stream_messages import Acknowledge, Publish, Stored, split_id
from linkbox.core.decoding import decode_all
from linkbox.core.endpoint_core import ClientCore, EndpointCore, ServerCore
from linkbox.core.patterns import Pattern
from linkbox.core.session import Session
from linkbox.events import EventKind
from linkbox.testing._stream import FakeStream, Kept
from tests.core.wire import Wire, decode

ADDRESS = "nats://broker:4222/x"
CLIENT, SERVER = "_INBOX.client", "_INBOX.server"


class CoreStream:
    """A `FakeStream` for cores: the orders of their links go in, and what a server receives comes out."""

    def __init__(self) -> None:
        self.messages = FakeStream()
        self.life = 1
        self.barrier = 0
        self._barrier_of = 1

    @property
    def kept(self) -> dict[int, Kept]:
        return self.messages.kept

    def publish(self, order: Publish, taken_to: str = "") -> str:
        """Returns the error, if it is not kept."""
        headers = order.headers | ({stream_messages.TAKEN: taken_to} if taken_to else {})
        return self.messages.publish(order.session, headers, order.body)[1]

    def next(self, server: ServerCore) -> Stored | None:
        """The next message that no server has."""
        if self._barrier_of != self.life:  # The first who fetches from a new broker raises the barrier.
            self._barrier_of, self.barrier = self.life, self.messages.last
        kept = self.messages.next(server)
        return None if kept is None else self.stored(kept)

    def again(self, place: int) -> Stored:
        """The same message once more, to the same server: it took too long."""
        self.kept[place].delivered += 1
        return self.stored(self.kept[place])

    def stored(self, kept: Kept) -> Stored:
        """As it arrives at a server."""
        headers = kept.headers
        is_again = kept.delivered > 1 or kept.sequence <= self.barrier or stream_messages.AGAIN in headers
        return Stored(
            session=kept.subject,
            name=headers[stream_messages.NAME],
            last=split_id(headers[stream_messages.ID]),
            parts=split_parts(kept.body, headers) or [kept.body],
            is_again=is_again,
            reply_to=str(kept.sequence),
            place=kept.sequence,
            taken_to=headers.get(stream_messages.TAKEN, ""),
        )

    def acknowledge(self, order: Acknowledge) -> None:
        """Carry an acknowledgement, or what is given back."""
        if order.what == stream_messages.ACK:
            self.messages.acknowledge(int(order.reply_to))
        elif order.what == stream_messages.NAK:
            self.messages.give_back(int(order.reply_to))

    def lose(self, server: ServerCore) -> None:
        """A server is gone: after a while another one gets what it had."""
        self.messages.lose(lambda kept: kept.holder is server)

    def kill(self) -> None:
        """The process of the broker is killed."""
        self.life += 1
        self.messages.kill()


class BrokerWire(Wire):
    """Cores, and the broker between them."""

    def __init__(self, pattern: Pattern, most: int = 1000, **options: Any) -> None:
        self.most = most
        super().__init__(pattern, **options)
        self.stream = CoreStream()
        self.replies: list[tuple[int, dict[str, str], bytes]] = []
        self.orders: list[Any] = []
        """What was taken and not carried, if a test holds it."""
        self.notes: list[Any] = []
        """What was carried besides messages, requests and replies."""
        self.requests_of: dict[ServerCore, BrokerRequests] = {}
        self.sources_of: dict[ServerCore, BrokerSources] = {}
        self._reply_subjects = count(1)

    def settle(self) -> None:
        """Nothing: the test carries."""

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for hub in self.hubs:
            hub.handle_timers(self.now)

    def kinds(self, hub: EndpointCore) -> list[EventKind]:
        self.call_back(hub)
        return super().kinds(hub)

    # -- requests ---------------------------------------------------------------------------------------

    def asking(self, session: Session | None = None) -> AskLink:
        """A conversation of the client with a link."""
        session = session or self.client.begin(self.now)
        link = carry_asks(self.client, session, self.most, self.now)
        assert link is not None
        return link

    def responder(self) -> BrokerRequests:
        if self.server not in self.requests_of:
            self.requests_of[self.server] = BrokerRequests(self.server, ADDRESS, self.most)
        return self.requests_of[self.server]

    def begin(self, link: AskLink, payload: bytes, deadline: float | None = None) -> Ask:
        assert link.session is not None
        ask = Ask(link.session, False)
        self.client.asks.add(ask, payload, False, deadline)
        return ask

    def ask_of(self, link: AskLink) -> list[Any]:
        """The orders of a client's link, not carried."""
        return link.take_orders(self.now)

    def carry(self, link: AskLink, orders: list[Any] | None = None) -> None:
        """Carry orders of a client to the server, and the replies back."""
        for order in link.take_orders(self.now) if orders is None else orders:
            if isinstance(order, Request):
                self.responder().on_request(f"r{order.id}", order.headers, order.body, self.now)
            elif isinstance(order, Cancel):
                self.responder().on_cancel(f"r{order.id}", self.now)
                self.notes.append(order)
            else:
                assert isinstance(order, Probe)
                has = self.responder().has(f"r{order.id}")
                link.on_probed(order.id, Verdict.HAS if has else Verdict.GONE, self.now)
                self.notes.append(order)
        self.reply(link)

    def reply(self, link: AskLink) -> None:
        self.deliver(self.server)
        orders: list[Reply] = self.responder().take_orders()
        for each in list(self.server.links.links):
            if isinstance(each, RequestLink):
                orders += each.take_orders(self.now)
        for order in orders:
            headers = dict(order.headers)
            if headers.get(ask_messages.STATUS) == ask_messages.HERE:
                headers[ask_messages.SERVER] = SERVER
            arrival = link.on_reply(int(order.to[1:]), headers, order.body, self.now)
            if arrival is not None:
                self.client.arrivals.append(arrival)
        self.deliver(self.client)

    def deliver(self, core: EndpointCore) -> None:
        while core.arrivals:
            arrival: Arrival = core.arrivals.popleft()
            values = decode_all(decode, arrival) if core.context.settings.decodes else arrival.payloads
            core.deliver(arrival, values, self.now)

    # -- messages ---------------------------------------------------------------------------------------

    def sending(self, client: ClientCore | None = None, session: Session | None = None) -> StreamLink:
        client = client or self.client
        session = session or client.conversations.current(self.now)
        link = carry_messages(client, session, self.most, self.now)
        assert link is not None
        return link

    def publish(self, link: StreamLink, is_acknowledged: bool = True) -> list[Publish]:
        """Carry what a client has to publish; the acknowledgements may be lost."""
        found: list[Publish] = []
        while orders := link.take_orders(self.now):
            for order in orders:
                error = self.stream.publish(order, CLIENT)
                if is_acknowledged:
                    link.on_stored(order.first, error, "maximum" in error, self.now)
            found += orders
        return found

    def source(self, server: ServerCore | None = None) -> BrokerSources:
        server = server or self.server
        if server not in self.sources_of:
            self.sources_of[server] = BrokerSources(server, ADDRESS)
        return self.sources_of[server]

    def fetch(self, server: ServerCore | None = None, most: int = 1_000_000) -> int:
        """Let a server fetch what it has room for."""
        server = server or self.server
        sources, fetched = self.source(server), 0
        while fetched < most and min(sources.room()) > 0 and (stored := self.stream.next(server)) is not None:
            if sources.on_stored(stored, self.now) is None:
                self.stream.acknowledge(Acknowledge(stored.reply_to, stream_messages.NAK))
                break
            fetched += 1
        self.deliver(server)
        self.acknowledge(server)
        return fetched

    def acknowledge(self, server: ServerCore | None = None) -> None:
        """Carry what a server has to acknowledge or to give back."""
        server = server or self.server
        links = {each for each in server.links.links if isinstance(each, SourceLink)}
        links |= {each for each in server.effects.to_write if isinstance(each, SourceLink)}
        server.effects.to_write.clear()
        orders: list[Any] = []
        for link in links:
            orders += link.take_orders(self.now)
        orders += self.source(server).take_given_back()
        for order in orders:
            if isinstance(order, Acknowledge):
                self.stream.acknowledge(order)
            self.notes.append(order)

"""AR over a broker: a request is a message to a queue group of servers. Exchanges and ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from linkbox.core.broker import ask_messages
from linkbox.core.broker.ask_link import AskLink, Order, Verdict
from linkbox.core.broker.ask_messages import HEADER_BYTES, Cancel, Probe, Reply, Request
from linkbox.core.broker.carrying import carry_asks
from linkbox.core.broker.request_link import RequestLink
from linkbox.core.broker.requests import BrokerRequests
from linkbox.core.broker.subjects import QUEUE
from linkbox.core.connection import Connection as Link
from linkbox.core.endpoint import ClientCore, ServerCore
from linkbox.core.session import Session
from linkbox.errors import LinkError
from linkbox.nats.client import BrokerClient, is_same
from linkbox.nats.exchange import DialingExchange, Exchange
from linkbox.nats.port import LinksPort

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.msg import Msg

PATIENCE: Final = 0.5
"""Seconds for the reply to a probe."""
ASK: Final = "a"
"""Before the number of a request, below the inbox of a client: where its replies go."""
HAVE, CANCEL = "have", "cancel"
"""Below the inbox of a server: questions about its requests."""
YES, NO = b"1", b"0"


class AskExchange(DialingExchange):
    """A client's side."""

    port: AskPort

    async def reach(self) -> int:
        """Find out whether a server of the name is there."""
        return (await self.greeted()).most - HEADER_BYTES

    def do(self, order: Order) -> None:
        """Do what the core has decided."""
        client = self.client
        if client is None:
            return  # The port is notified of the loss.
        reply_to = f"{client.inbox}.{ASK}{order.id}"
        if isinstance(order, Request):
            client.publish(self.subjects.requests, order.body, reply_to, order.headers)
        elif isinstance(order, Cancel):
            where = f"{order.server}.{CANCEL}" if order.server else self.subjects.cancel
            client.publish(where, reply_to.encode())
        else:
            self.spawn(self._probe(client, order, reply_to))

    async def _probe(self, client: BrokerClient, order: Probe, reply_to: str) -> None:
        where = f"{order.server}.{HAVE}" if order.server else self.subjects.have
        try:
            answer = await client.request(where, reply_to.encode(), PATIENCE)
        except LinkError:
            verdict = Verdict.SILENT
        else:
            verdict = Verdict.HAS if answer is not None and answer.data == YES else Verdict.GONE
        self.port.notify(self.port.on_probed, order.id, verdict)

    def on_reply(self, token: str, message: Msg) -> None:
        number = token.removeprefix(ASK)
        if token.startswith(ASK) and number.isdigit():
            self.port.notify(self.port.on_reply, int(number), dict(message.headers or {}), message.data)

    def on_denied(self, subject: str) -> None:
        if is_same(self.subjects.requests, subject) and self.client is not None:
            self.port.notify(self.port.on_denied, self.client.denial(self.subjects.requests))


class AskPort(LinksPort[AskLink]):
    """The links of a client."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        core = self.events.hub
        assert isinstance(core, ClientCore)
        self._core = core
        self.exchange: AskExchange

    def make_exchange(self) -> AskExchange:
        return AskExchange(self)

    # -- from the exchange ---------------------------------------------------------------------------------

    def on_dialed(self, session: Session, most: int) -> None:
        """A server of the name is there."""
        link = carry_asks(self._core, session, most, self.now())
        if link is not None:
            self.carry(link)
            self.flush(link)

    def _link_of(self, id: int) -> AskLink | None:
        ask = self._core.asks.waiting.get(id)
        link = None if ask is None else ask.session.link
        return link if isinstance(link, AskLink) else None

    def on_reply(self, id: int, headers: dict[str, str], body: bytes) -> None:
        """A message has arrived for a request."""
        link = self._link_of(id)
        if link is not None:
            arrival = link.on_reply(id, headers, body, self.now())
            if arrival is not None:
                self._core.arrivals.append(arrival)

    def on_probed(self, id: int, verdict: Verdict) -> None:
        """A server has reported whether it has a request."""
        link = self._link_of(id)
        if link is not None:
            link.on_probed(id, verdict, self.now())

    def on_denied(self, error: LinkError) -> None:
        """The broker does not let this client ask."""
        for link in list(self.links.values()):
            link.denied(error, self.now())

    # -- for the network -----------------------------------------------------------------------------------

    def flush(self, link: Link) -> None:
        assert isinstance(link, AskLink)
        for order in link.take_orders(self.now()):
            self.post(self.exchange.do, order)
        self.drop_if_closed(link)


class RequestExchange(Exchange):
    """A server's side."""

    port: RequestPort

    def __init__(self, port: RequestPort) -> None:
        super().__init__(port)
        self._ends: list[Callable[[], None]] = []

    async def open_place(self, client: BrokerClient) -> None:
        port = self.port
        port.notify(port.on_place, client.most - HEADER_BYTES)

        async def asked(message: Msg) -> None:
            if not self.is_serving:
                client.publish(message.reply, b"", "", {ask_messages.STATUS: ask_messages.GONE})
                return
            port.notify(port.on_request, message.reply, dict(message.headers or {}), message.data)

        async def have(message: Msg) -> None:
            port.notify(port.on_have, message.data, message.reply, False)

        async def cancelled(message: Msg) -> None:
            port.notify(port.on_cancel, message.data)

        subjects = self.subjects
        self._ends = [
            await client.subscribe(subjects.requests, asked, QUEUE),
            await client.subscribe(subjects.have, have),
            await client.subscribe(subjects.cancel, cancelled),
        ]

    def on_reply(self, token: str, message: Msg) -> None:
        if token == HAVE:
            self.port.notify(self.port.on_have, message.data, message.reply, True)
        elif token == CANCEL:
            self.port.notify(self.port.on_cancel, message.data)

    def reply(self, order: Reply) -> None:
        """Publish a reply."""
        client = self.client
        if client is None:
            return  # The client is notified of a loss, too.
        headers = order.headers
        if headers.get(ask_messages.STATUS) == ask_messages.HERE:
            headers = {**headers, ask_messages.SERVER: client.inbox}
        client.publish(order.to, order.body, "", headers)

    def say(self, to: str, text: bytes) -> None:
        """Answer a probe."""
        if self.client is not None:
            self.client.publish(to, text)

    def stop_serving(self) -> None:
        """Take no more requests."""
        self.is_serving = False
        ends, self._ends = self._ends[:1], self._ends[1:]
        for end in ends:
            end()


class RequestPort(LinksPort[RequestLink]):
    """The links of a server."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        core = self.events.hub
        assert isinstance(core, ServerCore)
        self._core = core
        self._requests = BrokerRequests(core, str(self.address), 0)
        self.exchange: RequestExchange

    def make_exchange(self) -> RequestExchange:
        return RequestExchange(self)

    # -- from the exchange ---------------------------------------------------------------------------------

    def on_place(self, most: int) -> None:
        """The broker is known: it accepts bodies up to this size."""
        self._requests.most = most

    def on_request(self, reply_to: str, headers: dict[str, str], body: bytes) -> None:
        """A request has arrived."""
        link = self._requests.on_request(reply_to, headers, body, self.now())
        for order in self._requests.take_orders():
            self.post(self.exchange.reply, order)
        if link is not None and link.carrier is None:
            self.carry(link)

    def on_have(self, reply_to: bytes, answer_to: str, is_own: bool) -> None:
        """A client asks whether this server has its request. If it asks all, only that one answers."""
        has = self._requests.has(reply_to.decode("utf-8", "replace"))
        if answer_to and (has or is_own):
            self.post(self.exchange.say, answer_to, YES if has else NO)

    def on_cancel(self, reply_to: bytes) -> None:
        """A client no longer waits."""
        self._requests.on_cancel(reply_to.decode("utf-8", "replace"), self.now())

    # -- for the network -----------------------------------------------------------------------------------

    def flush(self, link: Link) -> None:
        assert isinstance(link, RequestLink)
        for order in link.take_orders(self.now()):
            self.post(self.exchange.reply, order)
        self.drop_if_closed(link)

"""P2P over a broker: circuits (core/broker/circuit.py) that carry our own protocol. Exchange and port."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from linkbox.core.broker import circuit
from linkbox.core.broker.circuit import Circuit, CircuitBroken, accept_body, read_accept
from linkbox.core.broker.subjects import QUEUE
from linkbox.core.connection import Buffer, Carrier
from linkbox.core.connection import Connection as Link
from linkbox.core.session import Session
from linkbox.errors import ConnectFailed, LinkError, Refused
from linkbox.nats.client import NOBODY, BrokerClient, is_same, status_of
from linkbox.nats.exchange import Exchange
from linkbox.nats.port import Port

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.msg import Msg

PROBE: Final = 5.0
"""Seconds of silence after which an end asks the broker whether the other one is still there."""
ACCEPTING: Final = 2.0
"""Seconds for the reply to OPEN, which a server may take with it when it is killed or cut off."""
LISTEN: Final = "listen"
"""Below the inbox of a server: where its own sessions are resumed."""


class Line(Carrier):
    """One circuit and its subjects: the ``link.carrier`` of this network. ``link`` belongs to the port, the
    rest to the exchange."""

    __slots__ = (
        "accepted",
        "circuit",
        "heard_at",
        "home",
        "is_shut",
        "link",
        "name",
        "port",
        "session",
        "to",
    )

    def __init__(self, port: CircuitPort, name: str, to: str, most: int) -> None:
        self.port: CircuitPort = port
        self.name: str = name
        """Below the inbox: where packets for this end go."""
        self.to: str = to
        """Where packets for the other end go."""
        self.circuit: Circuit = Circuit(most)
        self.heard_at: float = monotonic()
        self.accepted: asyncio.Future[None] | None = None
        """A client waits for ACCEPT."""
        self.session: Session | None = None
        """For which session; only for the port."""
        self.home: str = ""
        """Where this very server is dialled again."""
        self.is_shut: bool = False
        """Was FIN sent?"""
        self.link: Link | None = None

    def flush(self) -> None:
        if self.link is not None:
            self.port.flush(self.link)


class CircuitExchange(Exchange):
    """All circuits of an endpoint."""

    port: CircuitPort

    def __init__(self, port: CircuitPort) -> None:
        super().__init__(port)
        self._lines: dict[str, Line] = {}
        self._homes: dict[str, str] = {}
        """Where the server of each session is dialled again."""
        self._last = 0
        self._end_listening: Callable[[], None] | None = None
        self.spawn(self._probe())

    # -- packets -------------------------------------------------------------------------------------------

    def _new_line(self, client: BrokerClient, to: str) -> Line:
        self._last += 1
        line = Line(self.port, f"c{self._last}", to, client.most - circuit.HEADER)
        self._lines[line.name] = line
        return line

    def _send(self, line: Line, packet: bytes) -> None:
        client = self.client
        if client is not None:
            client.publish(line.to, packet, f"{client.inbox}.{line.name}")

    def _reset(self, to: str) -> None:
        """Answer a packet of an unknown circuit."""
        if self.client is not None:
            self.client.publish(to, circuit.RST_PACKET)

    def on_reply(self, token: str, message: Msg) -> None:
        line = self._lines.get(token)
        if token == LISTEN:
            self._opened(message)
        elif line is not None:
            self._on_packet(line, message)
        elif message.reply and message.data and message.data[0] != circuit.RST:
            self._reset(message.reply)

    def _on_packet(self, line: Line, message: Msg) -> None:
        line.heard_at = monotonic()
        if status_of(message) == NOBODY:
            self._fail(line, ConnectionResetError("the peer is gone"))
            return
        try:
            flag, body = line.circuit.receive(message.data)
            if flag == circuit.ACCEPT:
                line.home, line.to = read_accept(body)
        except CircuitBroken as error:
            self._fail(line, error)
            return
        if flag == circuit.ACCEPT and line.accepted is not None and not line.accepted.done():
            line.accepted.set_result(None)
            # Before the packets that follow, which the task that waits would be too late for.
            assert line.session is not None
            self.port.notify(self.port.on_dialed, line.session, line)
        elif flag == circuit.FIN:
            self.port.notify(self.port.on_fin, line)
        elif flag == circuit.DATA and body:
            self.port.notify(self.port.on_data, line, body)

    def _fail(self, line: Line, error: OSError) -> None:
        """The circuit is broken."""
        if self._lines.pop(line.name, None) is None:
            return
        if line.accepted is not None and not line.accepted.done():
            line.accepted.set_exception(error)
            return
        self.port.notify(self.port.on_lost, line, error)

    def on_lost(self, error: OSError) -> None:
        for line in list(self._lines.values()):
            self._fail(line, error)

    def on_denied(self, subject: str) -> None:
        for line in list(self._lines.values()):
            if is_same(line.to, subject):
                self._fail(line, PermissionError(f"the broker denies to publish on {line.to}"))

    async def _probe(self) -> None:
        """While a circuit is silent, ask the broker now and then whether its other end is still there."""
        while True:
            await asyncio.sleep(PROBE / 2)
            now = monotonic()
            for line in list(self._lines.values()):
                if now - line.heard_at >= PROBE:
                    line.heard_at = now
                    self._send(line, circuit.PROBE_PACKET)

    # -- a server ------------------------------------------------------------------------------------------

    async def open_place(self, client: BrokerClient) -> None:
        async def opened(message: Msg) -> None:
            self._opened(message)

        self._end_listening = await client.subscribe(self.subjects.circuits, opened, QUEUE)

    def _opened(self, message: Msg) -> None:
        """A client opens a circuit."""
        client, to = self.client, message.reply
        if client is None or not to or not message.data or message.data[0] != circuit.OPEN:
            return
        if not self.is_serving:
            self._reset(to)
            return
        line = self._new_line(client, to)
        line.circuit.received = 1
        body = accept_body(f"{client.inbox}.{LISTEN}", f"{client.inbox}.{line.name}")
        self._send(line, line.circuit.packet(circuit.ACCEPT, body))
        self.port.notify(self.port.on_opened, line)

    def stop_serving(self) -> None:
        """Accept no more circuits."""
        self.is_serving = False
        if self._end_listening is not None:
            self._end_listening()
            self._end_listening = None

    # -- a client ------------------------------------------------------------------------------------------

    def dial(self, session: Session, id: str, patience: float) -> None:
        """Open a circuit for a session."""
        self.spawn(self._dial(session, id, patience))

    async def _dial(self, session: Session, id: str, patience: float) -> None:
        port = self.port
        try:
            line = await self.within(patience, self._open_circuit(session, id))
        except LinkError as error:
            port.notify(port.on_dial_failed, session, error)
        else:
            self._homes[id] = line.home

    async def _open_circuit(self, session: Session, id: str) -> Line:
        """To the server that has the session, if it is still there; else to any."""
        client = await self.connect()
        home = self._homes.pop(id, None)
        if home is not None:
            try:
                return await self._call(client, session, home)
            except OSError:
                pass
        await self.greet(client)
        try:
            return await self._call(client, session, self.subjects.circuits)
        except PermissionError as error:
            raise Refused(f"{self.address}: {error}", "denied") from error
        except OSError as error:
            what = str(error) or "the server does not accept it in time"
            raise ConnectFailed(f"cannot connect to {self.address}: {what}") from error

    async def _call(self, client: BrokerClient, session: Session, to: str) -> Line:
        line = self._new_line(client, to)
        line.session = session
        line.accepted = asyncio.get_running_loop().create_future()
        self._send(line, line.circuit.packet(circuit.OPEN))
        try:
            async with asyncio.timeout(ACCEPTING):
                await line.accepted
        except BaseException:
            if line.accepted.cancelled() or line.accepted.exception() is not None:
                self._lines.pop(line.name, None)
                raise
            # It was accepted in the moment in which the time was up.
        return line

    def forget(self, id: str) -> None:
        """A session is over."""
        self._homes.pop(id, None)

    # -- for the port --------------------------------------------------------------------------------------

    def write(self, line: Line, buffers: list[Buffer]) -> None:
        """Send bytes."""
        if line.name in self._lines:
            for packet in line.circuit.packets(buffers):
                self._send(line, packet)

    def shut(self, line: Line) -> None:
        """Half-close."""
        if line.name in self._lines and not line.is_shut:
            line.is_shut = True
            self._send(line, line.circuit.packet(circuit.FIN))

    def drop(self, line: Line, is_abortive: bool) -> None:
        """Close."""
        if self._lines.pop(line.name, None) is not None and (is_abortive or not line.is_shut):
            self._send(line, circuit.RST_PACKET)


class CircuitPort(Port):
    """The links of a P2P endpoint."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lines: set[Line] = set()
        self.exchange: CircuitExchange

    def make_exchange(self) -> CircuitExchange:
        """Make the exchange, on its loop."""
        return CircuitExchange(self)

    # -- from the exchange ---------------------------------------------------------------------------------

    def on_opened(self, line: Line) -> None:
        """A client has opened a circuit."""
        now = self.now()
        link = None if self.events.is_crowded(now) else self.events.accept(str(self.address), None, now)
        self._carry(line, link)

    def on_dialed(self, session: Session, line: Line) -> None:
        """A circuit for a session is open."""
        self._carry(line, self.events.connected(session, self.now()))

    def _carry(self, line: Line, link: Link | None) -> None:
        if link is None:
            self.post(self.exchange.drop, line, True)
            return
        line.link = link
        link.carrier = line
        self._lines.add(line)
        self.flush(link)

    def on_data(self, line: Line, data: bytes) -> None:
        """Bytes have arrived."""
        link = line.link
        if link is not None and not link.closed:
            try:
                self.events.hub.received(link, data, self.now())
            except BaseException as error:
                self.events.reading_failed(link, error)

    def on_fin(self, line: Line) -> None:
        """The peer has closed its half."""
        if line.link is not None and not line.link.closed:
            self.events.hub.ended(line.link, self.now())

    def on_lost(self, line: Line, error: OSError) -> None:
        """The circuit is broken."""
        if line.link is not None and not line.link.closed:
            self.events.hub.lost(line.link, error, self.now())

    # -- for the network -----------------------------------------------------------------------------------

    def dial(self, session: Session) -> None:
        patience = self.events.patience(session, 0, self.now())
        self.post(self.exchange.dial, session, session.peer.id, patience)

    def flush(self, link: Link) -> None:
        line = link.carrier
        assert isinstance(line, Line)
        while not (link.shut or link.closed):
            buffers = link.data_to_send(self.now())
            if not buffers:
                break
            self.post(self.exchange.write, line, buffers)
        if link.half_close and not (link.shut or link.closed):
            self.post(self.exchange.shut, line)
            link.finish_writing()
        if link.closed:
            link.carrier = None
            self._lines.discard(line)
            self.post(self.exchange.drop, line, link.is_abortive)

    def close_links(self) -> None:
        self.report(self.now())
        for line in list(self._lines):
            if line.link is not None:
                self.flush(line.link)

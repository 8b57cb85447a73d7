"""Sockets for the asyncio endpoints: accept, connect, and asyncio's transports to read, write and close."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from linkbox.address import Address
from linkbox.core.connection import Buffer, Carrier
from linkbox.core.connection import Connection as Link
from linkbox.core.session import Session
from linkbox.networks.dialer_aio import AioDialer, is_cancelled
from linkbox.networks.handshakes_aio import HandshakeSockets
from linkbox.networks.listening import SocketListener, accept_some
from linkbox.networks.network import AioNetwork, Listener, NetworkEvents, Route
from linkbox.networks.proxied import ProxiedSockets
from linkbox.networks.sockets import (
    FAIR_READ,
    JOIN_SIZE,
    LARGE_READ,
    TURN_SIZE,
    reset_on_close,
)

if TYPE_CHECKING:
    from linkbox.networks.tls_link import TlsLink

HIGH, LOW = 64 * 1024, 48 * 1024
"""Bytes in asyncio's write buffer: above HIGH stop writing, until only LOW are left."""
CLOSE_WAIT = 0.5
"""Seconds that a stopped endpoint waits for the kernel to accept the last bytes."""


class Protocol(asyncio.BufferedProtocol):
    """What asyncio calls for one connection: reports what has arrived."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._network = connection.network
        self._events = connection.network.events
        self._link = connection.link
        self._tls = connection.tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.opened(cast(asyncio.Transport, transport))  # uvloop's class is not a subclass

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._network.buffer

    def buffer_updated(self, nbytes: int) -> None:
        network = self._network
        data = bytes(network.buffer[:nbytes])
        if nbytes > FAIR_READ:
            network.count_read(nbytes)
        if not self._link.closed:
            now = network.now()
            try:
                if self._tls is None:
                    self._events.hub.received(self._link, data, now)
                else:
                    self._tls.receive(self._events, self._link, data, now)
            except BaseException as error:
                self._events.reading_failed(self._link, error)
            self._events.turn_done(now)

    def eof_received(self) -> bool:
        if not self._link.closed:
            now = self._network.now()
            try:
                if self._tls is None:
                    self._events.hub.ended(self._link, now)
                else:
                    self._tls.receive_eof(self._events, self._link, now)
            except BaseException as error:
                self._events.reading_failed(self._link, error)
            self._events.turn_done(now)
        return True  # Keep the other half open until everything is written.

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.lost(error)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()


class Connection(Carrier):
    """One asyncio transport and its link: the ``link.carrier`` of this network. It writes and closes."""

    def __init__(self, network: AioSockets, link: Link, sock: socket.socket, tls: TlsLink | None) -> None:
        self.network = network
        self._events = network.events
        self.link = link
        self.sock = sock
        self.tls = tls
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        """Is asyncio's write buffer above HIGH?"""
        self._is_paused = False
        self._is_closing = False
        self._is_waiting = False
        """Was there something to write before the transport existed?"""

    # For the protocol.

    def opened(self, transport: asyncio.Transport) -> None:
        """The transport exists."""
        self._transport = transport
        try:
            transport.set_write_buffer_limits(HIGH, LOW)
            self.network.opened(self)
            if self.tls is None and self._events.hub.context.is_client:
                self._events.check_unused(self.link, self.sock, self.network.now())
        except BaseException as error:
            self._events.link_failed(self.link, error)
        if self._is_waiting or self.link.paused or self.link.is_behind or self.link.closed:
            self._writable()

    def lost(self, error: Exception | None) -> None:
        """The transport is closed."""
        self._transport = None
        self.network.gone(self, error)

    def pause_writing(self) -> None:
        """The write buffer is full."""
        self._is_full = True
        self.link.write_stalled(self.network.now())
        self._follow_buffer()

    def resume_writing(self) -> None:
        """The write buffer has become shorter."""
        try:
            self._resume_writing()
        except BaseException as error:
            self._events.link_failed(self.link, error)
            self._events.turn_done(self.network.now())

    def _resume_writing(self) -> None:
        assert self._transport is not None
        self.link.write_moved()
        if self._transport.get_write_buffer_size() > LOW:
            self._follow_buffer()  # may pause again, which sets a timer
            self._events.turn_done(self.network.now())
            return
        self._is_full = False
        self._transport.set_write_buffer_limits(HIGH, LOW)
        self._writable()

    def _follow_buffer(self) -> None:
        """Move the low mark with the buffer, so that asyncio reports any progress of a slow peer."""
        assert self._transport is not None
        mark = max(LOW, self._transport.get_write_buffer_size() - 1)
        self._transport.set_write_buffer_limits(mark, mark)

    def _writable(self) -> None:
        self._events.flush_later(self.link)
        self._events.turn_done(self.network.now())

    # For the network.

    def flush(self) -> None:
        link, transport = self.link, self._transport
        if transport is None or self._is_closing:
            self._is_waiting = True
            return
        now = self.network.now()
        # A failed write closes the transport; the loop reports that in its next iteration.
        while not (self._is_full or link.shut or link.closed or transport.is_closing()):
            if self.tls is None:
                buffers = link.data_to_send(now)
            else:
                buffers = self.tls.data_to_send(self._events, link, now)
            if len(buffers) == 1:
                transport.write(buffers[0])
            elif buffers:
                _write(transport, buffers)
            if not (buffers and link.has_more):
                break
        if link.half_close and not (link.shut or link.closed or self._is_full):
            self._close_tls(transport)
            try:
                transport.write_eof()
            except OSError:
                pass  # The peer has closed already; the loop reports that in its next iteration.
            link.finish_writing()
        if link.closed:
            self.close()
        elif (is_paused := link.paused or link.is_behind) is not self._is_paused and not link.eof:
            self._is_paused = is_paused
            (transport.pause_reading if is_paused else transport.resume_reading)()

    def receive_first(self, data: bytes) -> None:
        """Process the first bytes of TLS, which were read before there was a transport."""
        now = self.network.now()
        try:
            assert self.tls is not None
            self.tls.receive(self._events, self.link, data, now)
        except BaseException as error:
            self._events.reading_failed(self.link, error)
        self._events.turn_done(now)

    def close(self) -> None:
        """Close the connection. Bytes written before are still sent if the peer reads them in time."""
        transport = self._transport
        if transport is None or self._is_closing:
            return
        self._is_closing = True
        if self.link.is_abortive:
            reset_on_close(self.sock)
            transport.abort()
        else:
            self._close_tls(transport)
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(self._events.limits.close, transport.abort)

    def _close_tls(self, transport: asyncio.Transport) -> None:
        if self.tls is not None and (last := self.tls.close_notify()) and not transport.is_closing():
            transport.write(last)

    def abort(self) -> None:
        """Close the connection now, and drop unsent bytes."""
        if self._transport is not None:
            self._transport.abort()


class AioSockets(AioNetwork):
    """All sockets of an asyncio endpoint."""

    def __init__(
        self, events: NetworkEvents, address: Address, make_tls: Callable[[], TlsLink] | None
    ) -> None:
        super().__init__(events, monotonic, has_manual_clock=False)
        self._make_tls = make_tls
        self.routes.append(Route(address, make_tls))
        self._loop = asyncio.get_running_loop()
        self._dialer = AioDialer(self, self._loop, self.carry)
        self._connections: set[Connection] = set()
        self._all_gone = asyncio.Event()
        """No connection is left."""
        self._all_gone.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._not_begun: set[socket.socket] = set()
        """Connections whose task was created and has not begun yet."""
        self._listener: SocketListener | None = None
        self._handshakes = HandshakeSockets(events, make_tls is not None, self.now, self._give_transport)
        self._proxied: ProxiedSockets | None = None
        """Connections whose PROXY protocol header has not arrived, if there are proxies."""
        self.buffer: memoryview
        self.buffer = self._whole_buffer = memoryview(bytearray(LARGE_READ))
        """Where the next bytes of any connection go."""
        self._read_in_turn = 0
        """Bytes read in this turn of the loop; small reads do not count."""

    # -- for connections --------------------------------------------------------------------------------

    def count_read(self, nbytes: int) -> None:
        """Count a read that was not small: after many bytes in one turn, reads are small until the next."""
        if not self._read_in_turn:
            self._loop.call_soon(self._turn_over)
        self._read_in_turn += nbytes
        if self._read_in_turn >= TURN_SIZE:
            self.buffer = self._whole_buffer[:FAIR_READ]

    def _turn_over(self) -> None:
        self._read_in_turn = 0
        self.buffer = self._whole_buffer

    def opened(self, connection: Connection) -> None:
        """The connection has a transport."""
        self._connections.add(connection)
        self._all_gone.clear()

    def gone(self, connection: Connection, error: Exception | None) -> None:
        """The connection is closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()
        link = connection.link
        link.carrier = None
        if not link.closed:
            broken = isinstance(error, OSError)
            failure = error if broken else ConnectionResetError("the connection was closed")
            now = self.now()
            try:
                self.events.hub.lost(link, cast(OSError, failure), now)
            except BaseException as raised:
                self.events.reading_failed(link, raised)
            self.events.turn_done(now)

    # -- accepting ----------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        assert isinstance(listener, SocketListener)
        self._listener = listener
        if listener.proxies is not None:
            self._proxied = ProxiedSockets(
                self.events,
                listener.proxies,
                self._make_tls is not None,
                lambda fd: self._loop.add_reader(fd, self._on_header, fd),
                self._loop.remove_reader,
                self._begin,
            )
        self._loop.add_reader(listener.sock.fileno(), self._on_acceptable)

    def _on_acceptable(self) -> None:
        try:
            self._accept()
        except BaseException as error:
            self.events.accept_failed(error)
        self.events.turn_done(self.now())

    def _on_header(self, fd: int) -> None:
        self._handshakes.read_new()
        now = self.now()
        if self._proxied is not None:
            self._proxied.on_readable(fd, now)
        self.events.turn_done(now)

    def _accept(self) -> None:
        if self._listener is None:
            return
        self._handshakes.read_new()
        is_secure = self._make_tls is not None
        accepted, pause = accept_some(self.events, self._listener, is_secure, self.now(), self._proxied)
        for sock, link in accepted:
            self._begin(sock, link)
        if pause:
            self._loop.remove_reader(self._listener.sock.fileno())
            self._loop.call_later(pause, self._resume_listener)

    def _resume_listener(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener.sock.fileno(), self._on_acceptable)

    def _begin(self, sock: socket.socket, link: Link) -> None:
        """A connection was accepted."""
        if link.is_open() or link.paused:  # a plain framing: nothing has to arrive before
            self._carry_soon(sock, link)
        else:
            self._handshakes.add(sock, link)

    def _give_transport(self, sock: socket.socket, link: Link, data: bytes) -> None:
        """The connection of a client leaves `HandshakeSockets`; ``data`` was read from it."""
        connection = self._make_connection(sock, link)
        self._carry_soon(sock, link, connection)
        if data:
            connection.receive_first(data)

    def _make_connection(self, sock: socket.socket, link: Link) -> Connection:
        connection = link.carrier = Connection(self, link, sock, self.make_tls_of(link))
        return connection

    def _carry_soon(self, sock: socket.socket, link: Link, connection: Connection | None = None) -> None:
        self._not_begun.add(sock)
        self._spawn(self.carry(sock, link, connection))

    async def carry(self, sock: socket.socket, link: Link, connection: Connection | None = None) -> None:
        """Carry the link's bytes over this socket."""
        self._not_begun.discard(sock)
        try:
            connection = connection or self._make_connection(sock, link)
            if link.is_open():  # With a plain framing: messages may have been sent before this task began.
                connection.flush()
            await self._loop.connect_accepted_socket(lambda: Protocol(connection), sock)
        except BaseException as error:
            if is_cancelled(error):
                raise
            sock.close()
            if connection is not None and isinstance(error, OSError):
                self.gone(connection, error)
                return
            self.events.link_failed(link, error)
            self.events.turn_done(self.now())

    def stop_listening(self) -> None:
        if self._listener is not None and not self._listener.is_given:
            # Clients in the queue may have written their first messages already. A refusal shows them that
            # these were not accepted; closing the listener at once would leave them in doubt.
            self._listener.sock.listen(0)
            self._accept()
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener.sock.fileno())
            listener.close()
            if self._proxied is not None:
                self._proxied.close()

    # -- connecting ---------------------------------------------------------------------------------------

    def dial(self, session: Session) -> None:
        self._spawn(self._dialer.dial(session))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- the end ------------------------------------------------------------------------------------------

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for sock in self._not_begun:  # a task that was cancelled before it began has closed nothing
            sock.close()
        self._handshakes.close()
        for connection in list(self._connections):
            connection.close()
        try:
            async with asyncio.timeout(CLOSE_WAIT):
                await self._all_gone.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()

    def close_copies(self) -> None:
        # Without the loop, which shares its selector with the parent.
        socks = [connection.sock for connection in self._connections]
        socks += [connection.sock for connection in self._handshakes.all]
        if self._listener is not None:
            socks.append(self._listener.sock)
        if self._proxied is not None:
            socks += self._proxied.sockets()
        for sock in socks:
            if sock.fileno() >= 0:
                os.close(sock.detach())


def _write(transport: asyncio.Transport, buffers: list[Buffer]) -> None:
    if sum(map(len, buffers)) <= JOIN_SIZE:
        transport.write(b"".join(buffers))
    else:
        transport.writelines(buffers)
        if transport.get_write_buffer_size() > HIGH:
            # From Python 3.12 on, writelines() does not call pause_writing(); this call checks again.
            transport.set_write_buffer_limits(HIGH, LOW)

"""Sockets for the threaded endpoints: accept, connect, read, write, half-close, close."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from linkbox.address import Address
from linkbox.core.connection import Buffer, Carrier
from linkbox.core.connection import Connection as Link
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.networks.dialer import Dialer
from linkbox.networks.listening import SocketListener, accept_some
from linkbox.networks.network import Listener, NetworkEvents, Route, ThreadedNetwork
from linkbox.networks.poller import BROKEN, READ, WRITE, make_poller
from linkbox.networks.proxied import ProxiedSockets
from linkbox.networks.sockets import (
    FAIR_READ,
    LARGE_READ,
    TURN_SIZE,
    reset_on_close,
    write_buffers,
)

if TYPE_CHECKING:
    from linkbox.networks.tls_link import TlsLink

READ_SIZE = 16 * 1024
"""Bytes that one read takes at most, until so much was there."""
SMALL_WRITE = 16 * 1024
"""Up to this many bytes, a non-blocking write costs less than releasing the lock for it."""


class Connection(Carrier):
    """One socket and its link: the ``link.carrier`` of this network."""

    __slots__ = (
        "again",
        "fd",
        "is_writing",
        "link",
        "mask",
        "network",
        "read_size",
        "received",
        "sock",
        "tls",
        "unsent",
    )

    def __init__(
        self, network: ThreadedSockets, sock: socket.socket, link: Link, tls: TlsLink | None
    ) -> None:
        self.network: ThreadedSockets = network
        self.sock: socket.socket = sock
        self.fd: int = sock.fileno()
        self.link: Link = link
        self.tls: TlsLink | None = tls
        self.mask: int = READ
        """The events for which the poller watches the socket."""
        self.read_size: int = READ_SIZE
        self.received: bytes | BaseException | None = None
        """Bytes that the leader has read and not reported yet. Empty: the peer has closed its half."""
        self.unsent: list[Buffer] = []
        """Buffers that the kernel did not accept."""
        self.is_writing: bool = False
        """Is a thread writing without the lock?"""
        self.again: bool = False
        """Is there more to write for this thread?"""

    def flush(self) -> None:
        if self.is_writing:
            self.again = True
            return
        network, link, tls = self.network, self.link, self.tls
        more = not (self.unsent or link.shut or link.closed)
        while more:
            now = network.now()
            self.again = False
            buffers = link.data_to_send(now) if tls is None else tls.data_to_send(network.events, link, now)
            if not buffers:
                break
            if len(buffers) == 1 and len(buffers[0]) <= SMALL_WRITE:
                try:
                    sent = self.sock.send(buffers[0])
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError as error:
                    self._write_failed(error)
                    break
                if sent != len(buffers[0]):
                    self._stall([memoryview(buffers[0])[sent:]])
                    break
            elif not self._write(buffers):
                break
            more = (link.has_more or self.again) and not link.closed
        if link.closed:
            network.close_connection(self)
            return
        if link.half_close and not link.shut and not self.unsent:
            self._shut()
        if self.unsent or link.eof or link.paused or link.is_behind or self.mask != READ:
            self._set_mask()

    def _write(self, buffers: list[Buffer]) -> bool:
        """Write; without the lock if it is a lot. Returns whether the kernel accepted everything."""
        is_large = sum(map(len, buffers)) > SMALL_WRITE
        if is_large:
            self.is_writing = True
            self.network.lock.release()
        try:
            rest = write_buffers(self.sock, buffers)
        except OSError as error:
            failure: OSError | None = error.with_traceback(None)  # Its frame is this one.
        else:
            failure = None
        finally:
            if is_large:
                self.network.lock.acquire()
                self.is_writing = False
        if failure is not None:
            self._write_failed(failure)
            return False
        if rest:
            self._stall(rest)
        return not rest

    def _write_failed(self, error: OSError) -> None:
        link = self.link
        if link.eof or link.paused:
            self.network.events.hub.lost(link, error, self.network.now())
        # Bytes that the peer sent before the connection broke must still be read; then reading fails too.
        link.shut = True

    def _stall(self, rest: list[Buffer]) -> None:
        self.unsent = rest
        self.link.write_stalled(self.network.now())

    def resume_writing(self) -> None:
        """The kernel accepts bytes again."""
        link = self.link
        if self.is_writing or link.closed:
            return
        link.write_moved()
        buffers, self.unsent = self.unsent, []
        if buffers:
            self._write(buffers)
        self.network.events.flush_later(link)

    def _shut(self) -> None:
        """Half-close."""
        try:
            if self.tls is not None and (last := self.tls.close_notify()):
                self.unsent = write_buffers(self.sock, [last])
                if self.unsent:
                    return
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The peer has closed already; the next read reports that.
        self.link.finish_writing()
        if self.link.closed:
            self.network.close_connection(self)

    def _set_mask(self) -> None:
        link = self.link
        if link.closed:
            return
        mask = 0 if link.eof or link.paused or link.is_behind else READ
        if self.unsent:
            mask |= WRITE
        if mask != self.mask:
            self.mask = mask
            self.network.poller.watch(self.fd, mask, True)


class AcceptPause:
    """A timer that resumes accepting after a pause."""

    __slots__ = ("network", "timer_at", "until")

    def __init__(self, network: ThreadedSockets, until: float) -> None:
        self.network: ThreadedSockets = network
        self.until: float = until
        self.timer_at: float = NEVER

    def next_timer(self) -> float:
        """When to accept again."""
        return self.until

    def handle_timer(self, now: float) -> None:
        """Accept again."""
        self.until = NEVER
        self.network.resume_listener()


class ThreadedSockets(ThreadedNetwork):
    """All sockets of a threaded endpoint."""

    def __init__(
        self,
        events: NetworkEvents,
        address: Address,
        lock: threading.RLock,
        make_tls: Callable[[], TlsLink] | None,
    ) -> None:
        super().__init__(events, make_poller(), monotonic, has_manual_clock=False)
        self.lock = lock
        self._make_tls = make_tls
        self.routes.append(Route(address, make_tls))
        self._connections: dict[int, Connection] = {}
        self._read: list[Connection] = []
        """Connections that the leader has read from in this turn."""
        self._others: list[tuple[int, int]] = []
        """Other descriptors that were ready."""
        self._listener: SocketListener | None = None
        self._proxied: ProxiedSockets | None = None
        """Connections whose PROXY protocol header has not arrived, if there are proxies."""
        self._dialer = Dialer(self, lock, self._open_dialled)

    # -- the leader's turn ------------------------------------------------------------------------------

    def read(self, timeout: float | None) -> None:
        total = 0
        for fd, mask in self.poller.poll(timeout):
            connection = self._connections.get(fd)
            if connection is None or not mask & (READ | BROKEN) or connection.link.is_behind:
                self._others.append((fd, mask))
                continue
            if connection.received is not None:
                continue  # It is of a turn that was interrupted, and not reported yet.
            if not connection.link.eof:
                try:
                    size = connection.read_size if total < TURN_SIZE else FAIR_READ
                    data = connection.sock.recv(size)
                except (BlockingIOError, InterruptedError):
                    pass
                except BaseException as error:
                    connection.received = error
                else:
                    connection.received = data
                    total += len(data)
                    if len(data) == READ_SIZE:
                        connection.read_size = LARGE_READ
            elif mask & BROKEN:
                connection.received = ConnectionResetError("the connection was reset")
            self._read.append(connection)
            if mask & WRITE:
                self._others.append((fd, mask))

    def report(self, now: float) -> None:
        events, hub = self.events, self.events.hub
        for connection in self._read:
            received = connection.received
            if received is None:
                continue
            connection.received = None
            link = connection.link
            if link.closed:
                continue
            try:
                if isinstance(received, OSError):
                    hub.lost(link, received, now)
                elif isinstance(received, BaseException):
                    raise received
                elif connection.tls is not None:
                    if received:
                        connection.tls.receive(events, link, received, now)
                    else:
                        connection.tls.receive_eof(events, link, now)
                elif received:
                    hub.received(link, received, now)
                else:
                    hub.ended(link, now)
            except BaseException as error:
                events.reading_failed(link, error)
        self._read.clear()
        if self._others:
            others, self._others = self._others, []
            for fd, _ in others:
                self._handle_other(fd, now)

    def _handle_other(self, fd: int, now: float) -> None:
        connection = self._connections.get(fd)
        if connection is not None:
            try:
                connection.resume_writing()
            except BaseException as error:
                self.events.link_failed(connection.link, error)
        elif self._listener is not None and fd == self._listener.sock.fileno():
            self._accept(now)
        elif self._proxied is not None and self._proxied.on_readable(fd, now):
            pass
        elif not self.poller.drain(fd):
            self._dialer.finish(fd, now)

    # -- connections --------------------------------------------------------------------------------------

    def close_connection(self, connection: Connection) -> None:
        """Close the socket, and forget the connection."""
        if self._connections.pop(connection.fd, None) is None:
            return
        self.poller.forget(connection.fd)
        connection.link.carrier = None
        if connection.link.is_abortive:
            reset_on_close(connection.sock)
        elif connection.tls is not None and not (connection.unsent or connection.is_writing):
            try:
                write_buffers(connection.sock, [connection.tls.close_notify()])
            except OSError:
                pass  # The peer has closed already.
        connection.unsent = []
        connection.sock.close()

    def dial(self, session: Session) -> None:
        self._dialer.dial(session)

    def open(self, sock: socket.socket, link: Link) -> None:
        """Begin to carry the link's bytes over this socket."""
        connection = Connection(self, sock, link, self.make_tls_of(link))
        link.carrier = connection
        self._connections[connection.fd] = connection
        self.poller.watch(connection.fd, READ, False)

    def _open_dialled(self, sock: socket.socket, link: Link) -> None:
        """The same, for a connection of a client."""
        self.open(sock, link)
        if self._connections[sock.fileno()].tls is None:
            self.events.check_unused(link, sock, self.now())

    def listen(self, listener: Listener) -> None:
        assert isinstance(listener, SocketListener)
        self._listener = listener
        if listener.proxies is not None:
            self._proxied = ProxiedSockets(
                self.events,
                listener.proxies,
                self._make_tls is not None,
                lambda fd: self.poller.watch(fd, READ, False),
                self.poller.forget,
                self.open,
            )
        self.poller.watch(listener.sock.fileno(), READ, False)

    def resume_listener(self) -> None:
        """Accept again after a pause."""
        if self._listener is not None:
            self.poller.watch(self._listener.sock.fileno(), READ, True)

    def _accept(self, now: float) -> None:
        assert self._listener is not None
        accepted, seconds = accept_some(
            self.events, self._listener, self._make_tls is not None, now, self._proxied
        )
        for sock, link in accepted:
            try:
                self.open(sock, link)
            except BaseException as error:
                sock.close()
                self.events.link_failed(link, error)
        if seconds:
            self.poller.watch(self._listener.sock.fileno(), 0, True)
            pause = AcceptPause(self, now + seconds)
            self.events.schedule(pause, pause.until)

    # -- the end --------------------------------------------------------------------------------------------

    def stop_listening(self) -> None:
        if self._listener is not None and not self._listener.is_given:
            # Clients in the queue may have written their first messages already. A refusal shows them that
            # these were not accepted; closing the listener at once would leave them in doubt.
            self._listener.sock.listen(0)
            self._accept(self.now())
        listener, self._listener = self._listener, None
        if listener is not None:
            self.poller.forget(listener.sock.fileno())
            listener.close()
            if self._proxied is not None:
                self._proxied.close()

    def close(self) -> None:
        self._dialer.close()
        for connection in list(self._connections.values()):
            self.close_connection(connection)
        self.stop_listening()

    def close_copies(self) -> None:
        for connection in self._connections.values():
            connection.sock.close()
        self._dialer.close_copies()
        if self._listener is not None:
            self._listener.close_copy()
        if self._proxied is not None:
            for sock in self._proxied.sockets():
                sock.close()
        self.poller.close()

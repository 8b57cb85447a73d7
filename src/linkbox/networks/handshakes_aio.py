"""Accepted connections during their handshake, with asyncio.

An asyncio transport costs a task and some turns of the loop. A flood of connections that never finish their
handshake must not cost so much: a connection gets its transport when it is admitted, with TLS when its first
bytes arrive. Until then it is a socket that the loop watches.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from linkbox.core.connection import Carrier
from linkbox.core.connection import Connection as Link
from linkbox.networks.network import NetworkEvents

READ_SIZE = 16 * 1024
"""Bytes that one read takes at most."""


class HandshakeSocket(Carrier):
    """One such connection: the ``link.carrier`` of its link."""

    __slots__ = ("_is_watched", "_sockets", "link", "sock")

    def __init__(self, sockets: HandshakeSockets, sock: socket.socket, link: Link) -> None:
        self._sockets = sockets
        self._is_watched = False
        self.link: Link = link
        self.sock: socket.socket = sock

    def watch(self) -> None:
        """Wait for bytes."""
        self._sockets.loop.add_reader(self.sock.fileno(), self.read)
        self._is_watched = True

    def read(self) -> None:
        """Read what is there."""
        if not self._is_watched:
            return
        sockets, events, link = self._sockets, self._sockets.events, self.link
        now = sockets.now()
        try:
            data = self.sock.recv(READ_SIZE)
            if sockets.is_secure:
                self._leave(data)
                return
            if data:
                events.hub.received(link, data, now)
            else:
                self._unwatch()
                events.hub.ended(link, now)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            events.hub.lost(link, error, now)
        except BaseException as error:
            events.reading_failed(link, error)
        events.turn_done(now)

    def flush(self) -> None:
        """Write what belongs to the handshake; half-close, close."""
        link, sockets = self.link, self._sockets
        if link.is_open() or link.paused:
            self._leave(b"")
            return
        if not (link.closed or link.shut or sockets.is_secure):
            self._write()
        if link.closed:
            self.close()

    def _write(self) -> None:
        link, now = self.link, self._sockets.now()
        try:
            for piece in link.data_to_send(now):
                self.sock.send(piece)  # a few hundred bytes: the buffer of a new socket has room
            if link.half_close:
                self.sock.shutdown(socket.SHUT_WR)
                link.finish_writing()
        except OSError as error:
            self._sockets.events.hub.lost(link, error, now)

    def _leave(self, data: bytes) -> None:
        """Give the connection to a transport, with bytes that were read already."""
        self._forget()
        try:
            self._sockets.carry(self.sock, self.link, data)
        except BaseException as error:
            self.sock.close()
            self._sockets.events.link_failed(self.link, error)

    def close(self) -> None:
        """Close the connection."""
        self._forget()
        self.sock.close()

    def _forget(self) -> None:
        self._unwatch()
        self._sockets.all.discard(self)
        self.link.carrier = None

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._sockets.loop.remove_reader(self.sock.fileno())


class HandshakeSockets:
    """All of them, of one endpoint."""

    def __init__(
        self,
        events: NetworkEvents,
        is_secure: bool,
        now: Callable[[], float],
        carry: Callable[[socket.socket, Link, bytes], None],
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.events = events
        self.is_secure = is_secure
        self.now = now
        self.carry = carry
        """Makes the transport."""
        self.all: set[HandshakeSocket] = set()
        self._new: list[HandshakeSocket] = []

    def add(self, sock: socket.socket, link: Link) -> None:
        """A connection was accepted."""
        connection = link.carrier = HandshakeSocket(self, sock, link)
        self.all.add(connection)
        self._new.append(connection)
        try:
            connection.watch()
        except BaseException as error:
            self.events.link_failed(link, error)  # the link closes the connection

    def read_new(self) -> None:
        """Read from those that were accepted last, before others are accepted: see `PendingLinks`."""
        new, self._new = self._new, []
        for connection in new:
            connection.read()

    def close(self) -> None:
        """Close them all."""
        for connection in list(self.all):
            connection.close()

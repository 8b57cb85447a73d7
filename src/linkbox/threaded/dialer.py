"""Making connections: names, addresses to try one after the other, and what becomes of them."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import deque
from time import monotonic
from typing import Any

from linkbox.address import Address
from linkbox.core.client import ClientHub
from linkbox.core.session import NEVER, Session
from linkbox.front.sockets import connect_error, is_connected, prepare, resolve
from linkbox.threaded.poller import WRITE


class Connecting:
    """A connection that is being made for a session; ``rest``: other addresses to try."""

    __slots__ = ("dialer", "rest", "session", "sock", "timer_at", "until")

    def __init__(self, dialer: Dialer, session: Session, rest: deque[Any]) -> None:
        self.dialer = dialer
        self.session = session
        self.rest = rest
        self.sock: socket.socket | None = None
        self.until = NEVER
        self.timer_at = NEVER

    def next_timer(self) -> float:
        """When the other end has been silent for too long."""
        return self.until

    def handle_timer(self, now: float) -> None:
        """No answer: the next address, or failure."""
        if now >= self.until:
            self.dialer.try_next(self, TimeoutError("no answer in time"))


class Dialer:
    """Makes the connections that a client's hub asks for. Under the lock, but for resolving names."""

    def __init__(self, transport: Any, hub: ClientHub) -> None:
        self._transport = transport
        self._hub = hub
        self._connecting: dict[int, Connecting] = {}
        self._address = address = Address.parse(hub.address)
        is_name = address.scheme != "unix" and address.host_kind == "name"
        self._targets = None if is_name else resolve(address)
        """What to connect to; None: a name, which may stand for something else each time."""

    def owner_of(self, fd: int) -> Connecting | None:
        """The attempt that a descriptor belongs to."""
        return self._connecting.get(fd)

    def close(self) -> None:
        """Give up every attempt."""
        for connecting in list(self._connecting.values()):
            self._drop(connecting)

    def close_copies(self) -> None:
        """In a forked child: give back the descriptors."""
        for connecting in self._connecting.values():
            if connecting.sock is not None:
                connecting.sock.close()

    def dial_all(self) -> None:
        """Begin every connection that is wanted now."""
        dials = self._hub.dials
        while dials:
            session = dials[0]
            self.dial(session)
            if session in dials:  # not before: what Ctrl-C strikes here is dialled again
                dials.remove(session)

    def dial(self, session: Session) -> None:
        """Begin to make a connection for the session."""
        if self._targets is not None:
            self._try_all(session, self._targets)
        else:
            # A name server may take its time: nobody else shall wait for it.
            threading.Thread(
                target=self._resolve, args=(session,), name="linkbox resolve", daemon=True
            ).start()

    def _resolve(self, session: Session) -> None:
        found: list[Any] | OSError
        try:
            found = resolve(self._address)
        except OSError as error:
            found = error
        with self._transport.lock:
            if isinstance(found, OSError):
                self._connect_failed(session, found)
            else:
                self._try_all(session, found)
            self._transport.update()
            self._transport.engine.kick()

    def _try_all(self, session: Session, targets: list[Any]) -> None:
        self.try_next(Connecting(self, session, deque(targets)), OSError("no address"))

    def try_next(self, connecting: Connecting, error: OSError) -> None:
        """Try the next address; ``error``: what became of the one before."""
        self._drop(connecting)
        session = connecting.session
        while connecting.rest and session.error is None:
            family, target = connecting.rest.popleft()
            try:
                sock = connecting.sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                code = sock.connect_ex(target)
            except OSError as failure:
                error = failure
                self._drop(connecting)
                continue
            if code == 0 or (code == errno.EINPROGRESS and is_connected(sock)):
                self._connected(connecting, monotonic())
                return
            if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR) and family != getattr(
                socket, "AF_UNIX", -1
            ):
                self._connecting[sock.fileno()] = connecting
                self._transport.engine.poller.watch(sock.fileno(), WRITE, False)
                now = monotonic()
                connecting.until = now + self._hub.patience(session, len(connecting.rest), now)
                self._hub.schedule(connecting, connecting.until)
                return
            error = OSError(code, os.strerror(code))
            self._drop(connecting)
        self._connect_failed(session, error)

    def _drop(self, connecting: Connecting) -> None:
        sock, connecting.sock = connecting.sock, None
        connecting.until = NEVER
        if sock is not None:
            if self._connecting.pop(sock.fileno(), None) is not None:
                self._transport.engine.poller.forget(sock.fileno())
            sock.close()

    def finish(self, connecting: Connecting, now: float) -> None:
        sock = connecting.sock
        assert sock is not None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.try_next(connecting, OSError(code, os.strerror(code)))
        else:
            del self._connecting[sock.fileno()]
            self._transport.engine.poller.forget(sock.fileno())
            self._connected(connecting, now)

    def _connected(self, connecting: Connecting, now: float) -> None:
        hub, sock = self._hub, connecting.sock
        assert sock is not None
        connecting.sock, connecting.until = None, NEVER
        prepare(sock, self._hub.limits)
        link = hub.on_connected(connecting.session, hub.address, now)
        if link is None:
            sock.close()
        else:
            self._transport.open_channel(sock, link)

    def _connect_failed(self, session: Session, error: OSError) -> None:
        hub = self._hub
        hub.on_connect_failed(session, connect_error(hub.address, error), monotonic())

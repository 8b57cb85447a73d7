"""Connects sockets for the threaded endpoints: resolves the name and tries its addresses one by one."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from linkbox.address import Address
from linkbox.core.connection import Connection as Link
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.networks.network import ThreadedNetwork
from linkbox.networks.poller import WRITE
from linkbox.networks.sockets import (
    AF_UNIX,
    IN_PROGRESS,
    KnownTargets,
    Target,
    as_os_error,
    checked_socket,
    connect_now,
    prepare,
)

Place = tuple[Address, Target]
"""An address of the server, and one of its targets."""


class Attempt:
    """An attempt to connect for a session."""

    __slots__ = ("address", "dialer", "rest", "session", "sock", "timer_at", "until")

    def __init__(self, dialer: Dialer, session: Session, rest: deque[Place]) -> None:
        self.dialer: Dialer = dialer
        self.session: Session = session
        self.rest: deque[Place] = rest
        """What has not been tried yet."""
        self.address: Address | None = None
        """The address that is being tried."""
        self.sock: socket.socket | None = None
        self.until: float = NEVER
        self.timer_at: float = NEVER

    def next_timer(self) -> float:
        """The deadline for the current address."""
        return self.until

    def handle_timer(self, now: float) -> None:
        """Timeout: try the next address, or fail."""
        if now >= self.until:
            try:
                self.dialer.try_next(self, TimeoutError("no answer in time"))
            except BaseException as error:
                self.dialer.failed(self, error)


class Dialer:
    """Makes the connections of a client. Called under the lock."""

    def __init__(
        self,
        network: ThreadedNetwork,
        lock: threading.RLock,
        open_connection: Callable[[socket.socket, Link], None],
    ) -> None:
        self._network = network
        self._open = open_connection
        self._lock = lock
        self._attempts: dict[int, Attempt] = {}
        self._known = KnownTargets()

    def close(self) -> None:
        """Give up every attempt."""
        for attempt in list(self._attempts.values()):
            self._drop(attempt)

    def close_copies(self) -> None:
        """In a forked child: close the copies of the descriptors."""
        for attempt in self._attempts.values():
            if attempt.sock is not None:
                attempt.sock.close()

    def dial(self, session: Session) -> None:
        """Begin to connect for a session."""
        addresses = [route.address for route in self._network.routes_of(session)]
        work: Callable[[], None] | None = None
        if self._network.make_socket is not None:
            work = partial(self._call_connect, session, self._network.make_socket)
        elif any(map(self._known.asks_name_server, addresses)):
            # A slow name server must not block the threads of this endpoint.
            work = partial(self._resolve, session, addresses)
        if work is None:
            self._found(session, *self._look_up(addresses))
        else:
            thread = threading.Thread(target=work, name="linkbox resolve", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no memory for it, or the interpreter is about to exit
                self._fail(session, OSError(str(error)))

    def _look_up(self, addresses: list[Address]) -> tuple[list[Place], OSError]:
        """The targets of all addresses, and the last error."""
        found: list[Place] = []
        last = OSError("no address")
        for address in addresses:
            try:
                found += [(address, target) for target in self._known.find(address)]
            except OSError as error:
                last = error.with_traceback(None)  # It would refer to this frame.
        return found, last

    def _resolve(self, session: Session, addresses: list[Address]) -> None:
        try:
            found, error = self._look_up(addresses)
        except BaseException as failure:
            self._report(session, partial(self._raise, failure))
        else:
            self._report(session, partial(self._found, session, found, error))

    def _call_connect(self, session: Session, connect: Callable[[], Any]) -> None:
        """Let the user's function connect."""
        try:
            sock = checked_socket(connect())
        except Exception as error:
            self._report(session, partial(self._fail, session, as_os_error(error)))
        except BaseException as failure:
            self._report(session, partial(self._raise, failure))
        else:
            attempt = Attempt(self, session, deque())
            attempt.address, attempt.sock = self._network.routes[0].address, sock
            self._report(session, partial(self._given, attempt))

    def _given(self, attempt: Attempt) -> None:
        assert attempt.sock is not None
        self._connected(attempt, attempt.sock.family, self._network.now())

    def _raise(self, error: BaseException) -> None:
        raise error

    def _report(self, session: Session, outcome: Callable[[], None]) -> None:
        """Go on under the lock, after work without it."""
        events = self._network.events
        with self._lock:
            try:
                outcome()
            except BaseException as error:
                events.dial_failed(session, error)
            events.turn_soon()

    def _found(self, session: Session, places: list[Place], error: OSError) -> None:
        attempt = Attempt(self, session, deque(places))
        try:
            self.try_next(attempt, error)
        except BaseException as failure:
            self.failed(attempt, failure)

    def try_next(self, attempt: Attempt, error: OSError) -> None:
        """Try the next address; ``error`` is the error of the one before."""
        self._drop(attempt)
        session, events = attempt.session, self._network.events
        while attempt.rest and session.error is None:
            attempt.address, (family, target) = attempt.rest.popleft()
            try:
                sock = attempt.sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                code = connect_now(sock, target)
            except OSError as failure:
                error = failure
                self._drop(attempt)
                continue
            now = self._network.now()
            if code == 0:
                self._connected(attempt, family, now)
                return
            if code in IN_PROGRESS and family != AF_UNIX:
                self._attempts[sock.fileno()] = attempt
                self._network.poller.watch(sock.fileno(), WRITE, False)
                attempt.until = now + events.patience(session, len(attempt.rest), now)
                events.schedule(attempt, attempt.until)
                return
            error = OSError(code, os.strerror(code))
            self._drop(attempt)
        self._fail(session, error)

    def _drop(self, attempt: Attempt) -> None:
        sock, attempt.sock = attempt.sock, None
        attempt.until = NEVER
        if sock is not None:
            if self._attempts.pop(sock.fileno(), None) is not None:
                self._network.poller.forget(sock.fileno())
            sock.close()

    def finish(self, fd: int, now: float) -> None:
        """Complete the attempt with this descriptor, if there is one."""
        attempt = self._attempts.get(fd)
        if attempt is None or attempt.sock is None:
            return
        try:
            code = attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self.try_next(attempt, OSError(code, os.strerror(code)))
            else:
                del self._attempts[fd]
                self._network.poller.forget(fd)
                self._connected(attempt, attempt.sock.family, now)
        except BaseException as error:
            self.failed(attempt, error)

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """An unexpected error has hit an attempt: give it up."""
        self._drop(attempt)
        self._network.events.dial_failed(attempt.session, error)

    def _connected(self, attempt: Attempt, family: int, now: float) -> None:
        sock, events = attempt.sock, self._network.events
        assert sock is not None
        attempt.sock, attempt.until = None, NEVER
        link: Link | None = None
        try:
            prepare(sock, family, events.limits, events.hub.context.is_plain)
            address = "" if attempt.address is None else attempt.address.url
            link = events.connected(attempt.session, now, address)
            if link is not None:
                self._open(sock, link)
        except BaseException as error:
            sock.close()
            if link is None:
                raise
            events.link_failed(link, error)
        if link is None:
            sock.close()

    def _fail(self, session: Session, error: OSError) -> None:
        network = self._network
        network.events.connect_failed(session, network.failure(error), network.now())

"""What carries the bytes of one life of an endpoint, from ``start()`` to ``stop()``: asyncio for the core.

How to think about it. The core is fed where bytes, connections or time arrive, and whoever called into it
calls `settle`: write, dial, wake who waits, set the one timer. Who waits is a future with a *wish*: it is
checked again when the task runs, so being woken for nothing is harmless; and a task that is cancelled just
when it was woken passes that on. Nothing is taken between being woken and running: cancelling takes nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from linkbox.address import Address
from linkbox.aio.carrier import Carrier
from linkbox.core.client import ClientHub
from linkbox.core.decoding import decode_all
from linkbox.core.hub import Hub
from linkbox.core.link import Arrival, Link
from linkbox.core.mailbox import Box
from linkbox.core.server import ServerHub
from linkbox.core.session import NEVER, Session
from linkbox.front.base import log_notes
from linkbox.front.listening import accept_some
from linkbox.front.sockets import AF_UNIX, connect_error, prepare
from linkbox.operations import runtime as operations

if TYPE_CHECKING:
    from linkbox.front.secured import Secured

GONE = 0.5
"""Seconds that a stopped endpoint gives to last bytes that the kernel has not taken yet."""


class Waiter:
    """One task that waits for one wish."""

    __slots__ = ("future", "wish")

    def __init__(self, wish: Callable[[], Any], future: asyncio.Future[None]) -> None:
        self.wish = wish
        self.future = future

    def wake(self) -> None:
        """Let it look again."""
        if not self.future.done():
            self.future.set_result(None)


class Driver(operations.Driver):
    """Connections, the timer, and whoever waits."""

    def __init__(self, hub: Hub, decode: Callable[[bytes], Any] | None) -> None:
        self.hub = hub
        self.is_closed = False
        self.tls: Callable[[], Secured] | None = None
        """Makes the TLS of a connection, if there is to be one."""
        self._decode = decode
        self._loop = asyncio.get_running_loop()
        self._arrivals: deque[Arrival] = deque()
        self._carriers: set[Carrier] = set()
        self._gone = asyncio.Event()
        """No connection is left."""
        self._gone.set()
        self._waiters: set[Waiter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lazy: list[Session] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._listener: socket.socket | None = None
        self._is_settling = False

    # -- waiting ------------------------------------------------------------------------------------

    async def wait(self, box: Box, wish: Callable[[], Any], deadline: float = NEVER) -> bool:
        """Wait until ``wish()`` holds, or the deadline (of ``monotonic()``) has passed. Does it hold?"""
        while not wish():
            now = monotonic()
            if self.is_closed or now >= deadline:
                return False
            waiter = Waiter(wish, self._loop.create_future())
            box.waiters[waiter] = None
            self._waiters.add(waiter)
            alarm = None if deadline == NEVER else self._loop.call_later(deadline - now, waiter.wake)
            try:
                await waiter.future
            except asyncio.CancelledError:
                box.waiters.pop(waiter, None)
                if not waiter.future.cancelled():
                    self.ring(box)  # What it was woken for may be another's.
                raise
            finally:
                box.waiters.pop(waiter, None)
                self._waiters.discard(waiter)
                if alarm is not None:
                    alarm.cancel()
        return True

    def ring(self, box: Box) -> None:
        """What this box stands for has changed: wake those whose wish is fulfilled, not more than it has."""
        supply = NEVER if box.supply is None else box.supply()
        waiter: Waiter
        for waiter in box.waiters:
            if supply <= 0:
                return
            if waiter.future.done() or waiter.wish():
                supply -= 1
                waiter.wake()

    # -- what carriers say --------------------------------------------------------------------------

    def opened(self, carrier: Carrier) -> None:
        """The connection is there."""
        self._carriers.add(carrier)
        self._gone.clear()
        if carrier.is_waiting or carrier.link.paused:
            self.writable(carrier.link)

    def received(self, carrier: Carrier, data: bytes) -> None:
        """Bytes came."""
        now = monotonic()
        if carrier.tls is None:
            self.hub.receive(carrier.link, data, now, self._arrivals)
        else:
            carrier.tls.receive(carrier.link, data, now, self._arrivals)
        self._deliver(now)

    def ended(self, carrier: Carrier) -> None:
        """The peer closed its half."""
        now = monotonic()
        if carrier.tls is None:
            self.hub.receive_eof(carrier.link, now, self._arrivals)
        else:
            carrier.tls.receive_eof(carrier.link, now, self._arrivals)
        self._deliver(now)

    def lost(self, carrier: Carrier, error: Exception | None) -> None:
        """The connection is gone."""
        self._carriers.discard(carrier)
        if not self._carriers:
            self._gone.set()
        link = carrier.link
        link.carrier = None
        if not link.closed:
            failure = (
                error if isinstance(error, OSError) else ConnectionResetError("the connection was closed")
            )
            self.hub.broken(link, failure, monotonic())
            self.settle()

    def writable(self, link: Link) -> None:
        """The link may write (again)."""
        self.hub.dirty.append(link)
        self.settle()

    def _deliver(self, now: float) -> None:
        """Decode and store all that has arrived."""
        hub, arrivals, decode = self.hub, self._arrivals, self._decode
        while arrivals or hub.unread:
            while hub.unread:
                hub.receive(hub.unread.pop(), b"", now, arrivals)
            while arrivals:
                arrival = arrivals.popleft()
                hub.deliver(arrival, arrival.payloads if decode is None else decode_all(decode, arrival), now)
        self.settle()

    # -- after every call into the hub ----------------------------------------------------------------

    def settle(self) -> None:
        """Do what the hub has left to be done."""
        if self._is_settling:
            return  # Whoever is at it sees this too.
        self._is_settling = True
        hub = self.hub
        try:
            while hub.dirty or hub.changed or self._dials:
                while hub.dirty:
                    link = hub.dirty.pop()
                    if link.carrier is not None:
                        link.carrier.flush()
                while self._dials:
                    self._spawn(self._dial(self._dials.pop(0)))
                changed, hub.changed = hub.changed, []
                for box in changed:
                    if box.waiters:
                        self.ring(box)
        finally:
            self._is_settling = False
        if hub.unread:
            self._loop.call_soon(self._deliver, monotonic())
        if hub.notes:
            log_notes(hub)
        self._set_timer()

    @property
    def _dials(self) -> list[Session]:
        return self.hub.dials if isinstance(self.hub, ClientHub) else []

    def write_later(self, session: Session) -> None:
        """Write what the session has when this turn of the loop is over: many messages at once."""
        if not self._lazy:
            self._loop.call_soon(self._write_lazy)
        if session not in self._lazy:
            self._lazy.append(session)

    def _write_lazy(self) -> None:
        lazy, self._lazy = self._lazy, []
        for session in lazy:
            self.hub.flush_soon(session)
        self.settle()

    def _set_timer(self) -> None:
        """Meet the hub's next timer. One that has moved later is met too early, which is fine."""
        when = self.hub.next_timer()
        if when < self._timer_at and not self.is_closed:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._loop.call_later(max(0.0, when - monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, NEVER
        now = monotonic()
        if now >= self.hub.next_timer():
            self.hub.handle_timers(now)
        self.settle()

    # -- connections ------------------------------------------------------------------------------------

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        self._listener = listener
        self._loop.add_reader(listener.fileno(), self._accept)

    def _accept(self) -> None:
        if self._listener is None:
            return
        assert isinstance(self.hub, ServerHub)
        accepted, pause = accept_some(self.hub, self._listener, monotonic())
        for sock, link in accepted:
            self._spawn(self._carry(sock, link))
        if pause:
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(pause, self._resume_listener)
        self.settle()

    def _resume_listener(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    async def _carry(self, sock: socket.socket, link: Link) -> None:
        link.carrier = carrier = Carrier(self, link, sock, None if self.tls is None else self.tls())
        try:
            await self._loop.connect_accepted_socket(lambda: carrier, sock)
        except OSError as error:
            sock.close()
            self.lost(carrier, error)

    async def _dial(self, session: Session) -> None:
        hub = self.hub
        assert isinstance(hub, ClientHub)
        failure = OSError("no address")
        try:
            targets = await self._resolve(Address.parse(hub.address))
        except OSError as error:
            failure, targets = error, []
        for others, (family, target) in zip(range(len(targets) - 1, -1, -1), targets, strict=True):
            if session.error is not None:
                return
            try:
                sock = await self._connect(family, target, hub.patience(session, others, monotonic()))
            except OSError as error:  # a TimeoutError is one too
                failure = error
                continue
            link = hub.on_connected(session, hub.address, monotonic())
            if link is None:
                sock.close()
            else:
                await self._carry(sock, link)
            self.settle()
            return
        hub.on_connect_failed(session, connect_error(hub.address, failure), monotonic())
        self.settle()

    async def _resolve(self, address: Address) -> list[tuple[int, Any]]:
        if address.scheme == "unix":
            return [(AF_UNIX, address.sockaddr)]
        found = await self._loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return [(family, target) for family, _, _, _, target in found]

    async def _connect(self, family: int, target: Any, patience: float) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(patience):
                await self._loop.sock_connect(sock, target)
        except BaseException:
            sock.close()
            raise
        prepare(sock, self.hub.limits)
        return sock

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- the end ----------------------------------------------------------------------------------------

    def stop_listening(self) -> None:
        """Accept nobody any more."""
        if self._listener is not None:
            # Who is in the queue already may have written its first messages: a refusal tells it that
            # they were not taken. Closing the listener right away would leave it in doubt.
            self._listener.listen(0)
            self._accept()
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener.fileno())
            listener.close()

    async def close(self) -> None:
        """Close every connection, and wake everyone who waits."""
        self.is_closed = True
        self.stop_listening()
        if self._timer is not None:
            self._timer.cancel()
        for waiter in list(self._waiters):
            waiter.wake()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for carrier in list(self._carriers):
            carrier.close()
        try:
            async with asyncio.timeout(GONE):
                await self._gone.wait()
        except TimeoutError:
            for carrier in list(self._carriers):
                carrier.abort()

    def close_copies(self) -> None:
        """In a forked child: give back the descriptors, past the loop, which shares the parent's selector."""
        self.is_closed = True
        for sock in (self._listener, *(carrier.sock for carrier in self._carriers)):
            if sock is not None and sock.fileno() >= 0:
                os.close(sock.detach())

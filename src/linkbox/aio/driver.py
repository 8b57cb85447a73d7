"""The driver of an asyncio endpoint: does the work that calls into the core leave.

How to think about it. A `Driver` exists from ``start()`` to ``stop()``, on one event loop. The core is called
when bytes or connections arrive, when a timer is due, or by a task of the user. After that `settle` is
called: it writes, connects, wakes waiters and sets the timer. A network (`linkbox.networks`) carries the
bytes.

A waiting task is a future with a predicate. The task checks the predicate again when it runs, so an
unnecessary wake-up is harmless. A task that is cancelled after it was woken wakes another one. Nothing is
taken between the wake-up and the run of the task, so a cancelled call has taken nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from linkbox.address import Address
from linkbox.core.decoding import Decoding
from linkbox.core.endpoint import EndpointCore
from linkbox.core.timers import NEVER
from linkbox.core.values import Value
from linkbox.core.wait_queue import NOTHING, Predicate, WaitQueue
from linkbox.networks.choose import BrokerAccess, aio_network
from linkbox.networks.endpoint_driver import EndpointDriver
from linkbox.networks.network import AioNetwork
from linkbox.surviving import LoopErrors

if TYPE_CHECKING:
    from linkbox.networks.tls_link import TlsLink

AT_ONCE = 500
"""After this number of waits that were over at once the event loop runs. A loop over the messages of a flood,
and a handler that waits for nothing, would let it read and write for nobody until all of them are taken."""


class Driver(EndpointDriver):
    """The core of an endpoint, its network, its timer, and the tasks that wait."""

    def __init__(
        self,
        hub: EndpointCore,
        decoding: Decoding | None,
        address: Address,
        make_tls: Callable[[], TlsLink] | None,
        access: BrokerAccess | None,
        errors: LoopErrors,
    ) -> None:
        super().__init__(hub, decoding, errors)
        self.reads_on: bool = False
        self.is_closed: bool = False
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.network: AioNetwork = aio_network(self, address, make_tls, access)
        self._use(self.network)
        self._waiters: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._at_once = 0

    # -- waiting ------------------------------------------------------------------------------------

    async def wait(self, queue: WaitQueue, predicate: Predicate, deadline: float = NEVER) -> Value:
        """Wait until the predicate has a result, or the deadline (of `now`) has passed: then `NOTHING`."""
        if self._at_once == AT_ONCE:
            self._at_once = 0
            await asyncio.sleep(0)
        self._at_once += 1
        while (result := predicate.claim()) is NOTHING:
            self._at_once = 0
            left = deadline - self.now()
            if self.is_closed or left <= 0:
                break
            waiter: asyncio.Future[None] = self.loop.create_future()
            queue.waiters[waiter] = predicate
            self._waiters.add(waiter)
            alarm: asyncio.TimerHandle | None = None
            if deadline != NEVER and not self.network.has_manual_clock:
                alarm = self.loop.call_later(left, _wake, waiter)
            is_cancelled = True
            try:
                await waiter
                is_cancelled = False
            finally:
                queue.waiters.pop(waiter, None)
                self._waiters.discard(waiter)
                if alarm is not None:
                    alarm.cancel()
                if is_cancelled and not waiter.cancelled():
                    self.ring(queue)  # Wake another task in its place.
        return result

    def ring(self, queue: WaitQueue) -> None:
        waiters, awake = queue.waiters, 0
        for waiter, predicate in waiters.items():
            assert isinstance(waiter, asyncio.Future)
            if not waiter.done():
                if not predicate.holds():
                    continue
                waiter.set_result(None)
            elif waiter.cancelled():
                continue  # It will take nothing.
            awake += 1
            if predicate.is_relayed or len(waiters) == 1 or awake >= queue.available():
                return

    # -- for the network ------------------------------------------------------------------------------

    def clock_moved(self) -> None:
        """A manual clock was advanced: check every deadline."""
        self._on_timer()
        self._wake_all()

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            _wake(waiter)

    # -- turns and timers -------------------------------------------------------------------------------

    def turn_soon(self) -> None:
        if not self.is_turn_due:
            self.is_turn_due: bool = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.is_turn_due = False
        self.reads_on = True
        try:
            self.turn_done(self.now())
        finally:
            self.reads_on = False

    def look_earlier(self) -> None:
        """Set the timer for the core. If a deadline is postponed it fires too early, which is harmless."""
        when = self.hub.next_timer()
        if self.is_closed or (self.network.has_manual_clock and when > self.now()):
            return  # `clock_moved` checks again.
        if self._timer is not None:
            self._timer.cancel()
        self.looks_at: float = when
        self._timer = self.loop.call_later(max(0.0, when - self.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self.looks_at = None, NEVER
        self.turn_done(self.now())

    async def close(self) -> None:
        """Close every connection, and wake every waiting task."""
        self.is_closed = True
        self.stop_listening()
        if self._timer is not None:
            self._timer.cancel()
        self._wake_all()
        await self.network.close()

    def close_copies(self) -> None:
        self.is_closed = True
        super().close_copies()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)

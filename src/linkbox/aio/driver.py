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
from typing import TYPE_CHECKING, Any

from linkbox.address import Address
from linkbox.core.decoding import decode_all
from linkbox.core.endpoint import Channel, EndpointCore
from linkbox.core.timers import NEVER
from linkbox.core.wait_queue import Predicate, Waiter, WaitQueue
from linkbox.networks.choose import aio_network
from linkbox.networks.driver_log import log_lines
from linkbox.networks.network import AioNetwork, Listener, NetworkEvents

if TYPE_CHECKING:
    from linkbox.networks.tls_link import TlsLink


class TaskWaiter(Waiter):
    """One task that waits for a predicate."""

    __slots__ = ("future", "predicate")

    def __init__(self, predicate: Predicate, future: asyncio.Future[None]) -> None:
        self.predicate = predicate
        self.future = future

    def wake(self) -> None:
        """Let the task check its predicate."""
        if not self.future.done():
            self.future.set_result(None)


class Driver(NetworkEvents):
    """The core of an endpoint, its network, its timer, and the tasks that wait."""

    def __init__(
        self,
        hub: EndpointCore,
        decode: Callable[[bytes], Any] | None,
        address: Address,
        make_tls: Callable[[], TlsLink] | None,
    ) -> None:
        super().__init__(hub)
        self.is_closed = False
        self._decode = decode
        self._loop = asyncio.get_running_loop()
        self.network: AioNetwork = aio_network(self, address, make_tls)
        self.now = self.network.now
        """The clock: seconds, as of ``time.monotonic()``."""
        if self.network.has_manual_clock:
            hub.effects.ack_delay = 0.0  # The clock may not move: acknowledge at once.
        self._waiters: set[TaskWaiter] = set()
        self._lazy: list[Channel] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._is_settling = False

    # -- waiting ------------------------------------------------------------------------------------

    async def wait(self, queue: WaitQueue, predicate: Predicate, deadline: float = NEVER) -> bool:
        """Wait until the predicate holds, or the deadline (of `now`) has passed. Returns whether it holds."""
        while not predicate.holds():
            now = self.now()
            if self.is_closed or now >= deadline:
                return False
            waiter = TaskWaiter(predicate, self._loop.create_future())
            queue.waiters[waiter] = None
            self._waiters.add(waiter)
            alarm: asyncio.TimerHandle | None = None
            if deadline != NEVER and not self.network.has_manual_clock:
                alarm = self._loop.call_later(deadline - now, waiter.wake)
            try:
                await waiter.future
            except asyncio.CancelledError:
                queue.waiters.pop(waiter, None)
                if not waiter.future.cancelled():
                    self.ring(queue)  # Wake another task in its place.
                raise
            finally:
                queue.waiters.pop(waiter, None)
                self._waiters.discard(waiter)
                if alarm is not None:
                    alarm.cancel()
        return True

    def ring(self, queue: WaitQueue) -> None:
        """Wake waiters of a changed queue whose predicate holds, but no more than it can serve."""
        available = queue.available()
        for waiter in queue.waiters:
            if available <= 0:
                return
            assert isinstance(waiter, TaskWaiter)
            if waiter.future.done() or waiter.predicate.holds():
                available -= 1
                waiter.wake()

    # -- for the network ------------------------------------------------------------------------------

    def turn_done(self, now: float) -> None:
        """Decode and store what has arrived, then settle."""
        hub, arrivals, decode = self.hub, self.arrivals, self._decode
        while arrivals or hub.effects.to_read:
            while hub.effects.to_read:
                hub.received(hub.effects.to_read.pop(), b"", now, arrivals)
            while arrivals:
                arrival = arrivals.popleft()
                hub.deliver(arrival, arrival.payloads if decode is None else decode_all(decode, arrival), now)
        self.settle()

    def timers_changed(self) -> None:
        if not self._is_settling:  # otherwise `settle` does this at its end
            self._set_timer()

    def clock_moved(self) -> None:
        """A manual clock was advanced: check every deadline."""
        self._on_timer()
        for waiter in self._waiters:
            waiter.wake()

    def is_busy(self) -> bool:
        return super().is_busy() or bool(self._lazy)

    # -- after every call into the core -----------------------------------------------------------------

    def settle(self) -> None:
        """Do the work that the core has left."""
        if self._is_settling:
            return  # The outer call handles this too.
        self._is_settling = True
        hub, network = self.hub, self.network
        try:
            while True:
                while hub.effects.to_write:
                    network.flush(hub.effects.to_write.pop())
                if self.dials:
                    network.dial(self.dials.pop(0))
                elif hub.effects.to_wake:
                    changed, hub.effects.to_wake = hub.effects.to_wake, []
                    for box in changed:
                        if box.waiters:
                            self.ring(box)
                elif not hub.effects.to_write:
                    break
        finally:
            self._is_settling = False
        if hub.effects.to_read:
            self._loop.call_soon(self.turn_done, self.now())
        if hub.effects.log_lines:
            log_lines(hub.effects)
        self._set_timer()

    def write_later(self, channel: Channel) -> None:
        """Write what the channel has queued after this iteration of the loop, many messages at once."""
        if not self._lazy:
            self._loop.call_soon(self._write_lazy)
        if channel not in self._lazy:
            self._lazy.append(channel)

    def _write_lazy(self) -> None:
        lazy, self._lazy = self._lazy, []
        for channel in lazy:
            channel.flush()
        self.settle()

    def _set_timer(self) -> None:
        """Set the timer for the core. If a deadline is postponed it fires too early, which is harmless."""
        when = self.hub.next_timer()
        if self.network.has_manual_clock and when > self.now():
            return  # `clock_moved` checks again.
        if when < self._timer_at and not self.is_closed:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._loop.call_later(max(0.0, when - self.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, NEVER
        now = self.now()
        if now >= self.hub.next_timer():
            self.hub.handle_timers(now)
        self.settle()

    # -- connections ------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Accept connections from now on."""
        self.network.listen(listener)

    def stop_listening(self) -> None:
        """Accept no more connections."""
        self.network.stop_listening()
        self.settle()

    async def close(self) -> None:
        """Close every connection, and wake every waiting task."""
        self.is_closed = True
        self.stop_listening()
        if self._timer is not None:
            self._timer.cancel()
        for waiter in list(self._waiters):
            waiter.wake()
        await self.network.close()

    def close_copies(self) -> None:
        """In a forked child: close the copies of the descriptors; the connections belong to the parent."""
        self.is_closed = True
        self.network.close_copies()

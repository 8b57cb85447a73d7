"""The part of a driver that is the same for threads and tasks: the work after each call into the core.

It writes, connects, wakes waiters and logs. `threaded/transport.py` and `aio/driver.py` add how waiting
threads or tasks are woken, and how the next timer is set.
"""

from __future__ import annotations

import gc
from typing import Any, Final, TypeAlias

from linkbox.core.arrival import Arrival
from linkbox.core.backlog import Backlog
from linkbox.core.decoding import Decoding
from linkbox.core.endpoint import Channel, EndpointCore
from linkbox.core.timers import NEVER
from linkbox.core.wait_queue import WaitQueue
from linkbox.networks.driver_log import log_lines
from linkbox.networks.network import Listener, Network, NetworkEvents

Awaited: TypeAlias = Any
"""With threads the result itself, with asyncio an awaitable for it."""

LARGE: Final = 1024 * 1024
"""Bytes of memory of values from which on decoding them pauses the garbage collector."""


class EndpointDriver(NetworkEvents):
    """The driver of an endpoint from ``start()`` to ``stop()``. Used under the lock, or on the event loop."""

    _network: Network

    def __init__(self, hub: EndpointCore, decoding: Decoding | None) -> None:
        super().__init__(hub)
        self._decoding = decoding
        """None: messages are the bytes themselves."""
        self.backlog = Backlog(hub.context)
        self.is_turn_due = False
        """With asyncio: will a turn come soon, which decodes first what was left?"""
        self.looks_at = NEVER
        """When the driver will look at the timers by itself; minus infinity while it is about to."""
        self._lazy: list[Channel] = []

    def _use(self, network: Network) -> None:
        """Set the network. A subclass calls this in its constructor."""
        self._network = network
        self.now = network.now
        """The clock: seconds, as of ``time.monotonic()``."""
        if network.has_manual_clock:
            # Otherwise no acknowledgement would be sent while the clock does not move.
            self.hub.effects.ack_delay = 0.0

    # -- after every call into the core ----------------------------------------------------------------

    def settle(self) -> None:
        """Do the work that the core has left."""
        effects, network = self.hub.effects, self._network
        while True:
            while effects.to_write:
                network.flush(effects.to_write.pop())
            if self.dials:
                network.dial(self.dials.pop(0))
            elif effects.to_wake:
                changed, effects.to_wake = effects.to_wake, []
                for queue in changed:
                    if queue.waiters:
                        self.ring(queue)
            elif not effects.to_write:
                break
        if effects.to_read or (self.backlog.queues and self.must_decode()):
            self.turn_soon()
        if effects.log_lines:
            log_lines(effects)
        if effects.acks_due_at < self.looks_at or effects.timers.soonest < self.looks_at:
            self.look_earlier()

    def write_later(self, channel: Channel) -> None:
        """Let the next turn write what the channel has queued, many messages at once."""
        if channel not in self._lazy:
            self._lazy.append(channel)
            self.turn_soon()

    def turn_done(self, now: float) -> None:
        """Handle due timers, flush the channels of `write_later`, store what has arrived; then settle."""
        hub, effects = self.hub, self.hub.effects
        if now >= effects.acks_due_at or now >= effects.timers.soonest:
            hub.handle_timers(now)
        while self._lazy:
            self._lazy.pop().flush()
        while effects.to_read:
            hub.received(effects.to_read.pop(), b"", now)
        if hub.arrivals or self.backlog.queues:
            self.deliver(now)
        self.settle()

    def deliver(self, now: float) -> None:
        """Decode and store what has arrived, or a part of it."""
        hub = self.hub
        if self._decoding is None:
            while hub.arrivals:
                arrival = hub.arrivals.popleft()
                hub.deliver(arrival, arrival.payloads, now)
        elif self.is_turn_due:
            self.backlog.add(hub.arrivals)
        else:
            for arrival in self.backlog.next(hub.arrivals):
                hub.deliver(arrival, self._decoded(arrival), now)

    def _decoded(self, arrival: Arrival) -> list[Any]:
        """The values of an arrival, with an exception for each message that could not be decoded."""
        decoding = self._decoding
        assert decoding is not None
        decoding.check(arrival)
        if arrival.memory < LARGE or not gc.isenabled():
            return decoding.values(arrival)
        # It would visit a million new objects many times, and find nothing: that takes longer than decoding.
        gc.disable()
        try:
            return decoding.values(arrival)
        finally:
            gc.enable()

    def ring(self, queue: WaitQueue) -> None:
        """Wake waiters of a changed queue whose predicate holds.

        No more of them are woken than the queue can serve.
        """
        raise NotImplementedError

    def look_earlier(self) -> None:
        """A timer is due before `looks_at`: look at the timers in time."""
        raise NotImplementedError

    def must_decode(self) -> bool:
        """Must a turn be taken to decode what is left?"""
        return self.backlog.is_ready()

    def is_busy(self) -> bool:
        return super().is_busy() or bool(self._lazy) or self.backlog.is_ready()

    # -- connections -----------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Accept connections from now on."""
        self._network.listen(listener)

    def stop_listening(self) -> None:
        """Accept no more connections."""
        self._network.stop_listening()
        self.settle()

    def close(self) -> Awaited:
        """Close every connection, and wake all waiters."""
        raise NotImplementedError

    def close_copies(self) -> None:
        """In a forked child: close the copies of the descriptors; the connections belong to the parent."""
        self._network.close_copies()

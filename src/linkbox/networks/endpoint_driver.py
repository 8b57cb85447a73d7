"""What has to be done after each call into the core: write, connect, wake, log. The same for threads and for tasks.

`threaded/transport.py` and `aio/driver.py` add how waiting threads or tasks are woken, and when the next timer is met.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from linkbox.core.arrival import Arrival
from linkbox.core.decoding import Decode, decode_all
from linkbox.core.endpoint import Channel, EndpointCore
from linkbox.core.wait_queue import WaitQueue
from linkbox.networks.driver_log import log_lines
from linkbox.networks.network import Listener, Network, NetworkEvents

Awaited: TypeAlias = Any
"""For threads the result itself; for asyncio an awaitable of it."""


class EndpointDriver(NetworkEvents):
    """Moves the bytes from one ``start()`` to the next ``stop()``. Used under the lock, or on the event loop."""

    _network: Network

    def __init__(self, hub: EndpointCore, decode: Decode | None) -> None:
        super().__init__(hub)
        self._decode = decode
        """None: messages are the bytes themselves."""
        self._lazy: list[Channel] = []

    def _use(self, network: Network) -> None:
        """This network carries the bytes. A subclass calls it in its constructor."""
        self._network = network
        self.now = network.now
        """The clock of this life: seconds, as of ``time.monotonic()``."""
        if network.has_manual_clock:
            # Else no acknowledgement would be sent while the clock stands still.
            self.hub.effects.ack_delay = 0.0

    # -- after every call into the core ----------------------------------------------------------------

    def settle(self) -> None:
        """Do what the core has left to do."""
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
        if effects.to_read:
            self.turn_soon()
        if effects.log_lines:
            log_lines(effects)

    def update(self) -> None:
        """Settle, and see to it that a new timer is met."""
        self.settle()
        self.timers_changed()

    def write_later(self, channel: Channel) -> None:
        """Let the next turn write what the channel has queued: many messages at once."""
        if channel not in self._lazy:
            self._lazy.append(channel)
            self.turn_soon()

    def _begin_turn(self, now: float) -> None:
        """Do what is due, flush what was to be written later, process what connections still hold."""
        effects = self.hub.effects
        if now >= effects.acks_due_at or now >= effects.timers.soonest:
            self.hub.handle_timers(now)
        while self._lazy:
            self._lazy.pop().flush()
        while effects.to_read:
            self.hub.received(effects.to_read.pop(), b"", now, self.arrivals)

    def _decoded(self, arrival: Arrival) -> Any:
        """The values of what has arrived; an exception is in the place of one that could not be decoded."""
        return arrival.payloads if self._decode is None else decode_all(self._decode, arrival)

    def ring(self, queue: WaitQueue) -> None:
        """What this queue stands for has changed: wake those whose predicate holds.

        No more of them are woken than there is something for.
        """
        raise NotImplementedError

    def turn_soon(self) -> None:
        """There is something left to do: take a turn soon."""
        raise NotImplementedError

    def is_busy(self) -> bool:
        return super().is_busy() or bool(self._lazy)

    # -- connections -----------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Accept connections from now on."""
        self._network.listen(listener)

    def stop_listening(self) -> None:
        """Accept no more connections."""
        self._network.stop_listening()
        self.settle()

    def close(self) -> Awaited:
        """Close every connection, and wake everyone who waits."""
        raise NotImplementedError

    def close_copies(self) -> None:
        """In a forked child: give back the descriptors; the connections are the parent's."""
        self._network.close_copies()

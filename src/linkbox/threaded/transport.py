"""The driver of a threaded endpoint: does the work that calls into the core leave.

A `Transport` exists from ``start()`` to ``stop()``. The engine calls `work` on the leading thread. A thread
that has called the core itself calls `settle` or `update` afterwards, under the lock. A network
(`linkbox.networks`) carries the bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from linkbox.address import Address
from linkbox.core.arrival import Arrival
from linkbox.core.decoding import decode_all
from linkbox.core.endpoint import Channel, EndpointCore
from linkbox.core.wait_queue import WaitQueue
from linkbox.networks.choose import threaded_network
from linkbox.networks.driver_log import log_lines
from linkbox.networks.network import Listener, NetworkEvents, ThreadedNetwork
from linkbox.threaded.engine import Engine

if TYPE_CHECKING:
    from linkbox.networks.tls_link import TlsLink


class Transport(NetworkEvents):
    """The core of an endpoint, its network, and the engine whose threads move both."""

    def __init__(
        self,
        hub: EndpointCore,
        lock: threading.RLock,
        decode: Callable[[bytes], Any] | None,
        name: str,
        address: Address,
        make_tls: Callable[[], TlsLink] | None,
    ) -> None:
        super().__init__(hub)
        self.lock = lock
        self.network: ThreadedNetwork = threaded_network(self, address, lock, make_tls)
        self.now = self.network.now
        """The clock: seconds, as of ``time.monotonic()``."""
        if self.network.has_manual_clock:
            hub.effects.ack_delay = 0.0  # The clock may not move: acknowledge at once.
        self.engine = Engine(lock, self, hub.effects, self.network, name)
        self._decode = decode
        """None: messages are the bytes themselves."""
        self.decode_later = False
        """Is the format user code? Then a thread of its own decodes (see `undecoded`)."""
        self.undecoded: deque[Arrival] = deque()
        self.undecoded_box = WaitQueue()
        self._lazy: list[Channel] = []
        self.next_timer = hub.next_timer
        """When the next timer of the core is due."""

    # -- the leader's turn ----------------------------------------------------------------------------

    def work(self, ready: list[tuple[int, int]]) -> None:
        """Handle the result of a poll. Called without the lock, by one thread at a time."""
        network, hub, arrivals = self.network, self.hub, self.arrivals
        network.read(ready)
        with self.lock:
            now = self.now()
            while self._lazy:
                self._lazy.pop().flush()
            network.report(now)
            if now >= hub.next_timer():
                hub.handle_timers(now)
            while hub.effects.to_read:
                hub.received(hub.effects.to_read.pop(), b"", now, arrivals)
            if self._decode is None:
                while arrivals:
                    arrival = arrivals.popleft()
                    hub.deliver(arrival, arrival.payloads, now)
            elif self.decode_later and arrivals:
                self.undecoded += arrivals
                arrivals.clear()
                self.engine.ring(self.undecoded_box)
            self.settle()
        if arrivals:
            self._decode_and_deliver()

    def _decode_and_deliver(self) -> None:
        """Decode with one of our own formats. Without the lock, because it may take long."""
        decode = self._decode
        assert decode is not None
        arrivals = list(self.arrivals)
        self.arrivals.clear()
        decoded = [decode_all(decode, arrival) for arrival in arrivals]
        with self.lock:
            now = self.now()
            for arrival, values in zip(arrivals, decoded, strict=True):
                self.hub.deliver(arrival, values, now)
            self.settle()

    def decode(self, arrivals: list[Arrival]) -> None:
        """Decode with a format that is user code, and deliver. Only the decoding thread calls this."""
        decode = self._decode
        assert decode is not None
        for arrival in arrivals:
            values = decode_all(decode, arrival)
            with self.lock:
                self.hub.deliver(arrival, values, self.now())
                self.settle()

    # -- after every call into the core -----------------------------------------------------------------

    def settle(self) -> None:
        """Do the work that the core has left. Under the lock."""
        hub, network = self.hub, self.network
        while True:
            while hub.effects.to_write:
                network.flush(hub.effects.to_write.pop())
            if self.dials:
                network.dial(self.dials.pop(0))
            elif hub.effects.to_wake:
                changed, hub.effects.to_wake = hub.effects.to_wake, []
                for box in changed:
                    if box.waiters:
                        self.engine.ring(box)
            elif not hub.effects.to_write:
                break
        if hub.effects.to_read:
            self.engine.kick()
        if hub.effects.log_lines:
            log_lines(hub.effects)

    def update(self) -> None:
        """Settle, and let the engine check for a new timer. For threads that have called the core."""
        self.settle()
        self.engine.timers_changed()

    def write_later(self, channel: Channel) -> None:
        """Let the next turn write what the channel has queued, many messages at once."""
        if channel not in self._lazy:
            self._lazy.append(channel)
            self.engine.kick()

    # -- for the network ----------------------------------------------------------------------------------

    def turn_done(self, now: float) -> None:
        self.update()
        self.engine.kick()

    def timers_changed(self) -> None:
        self.engine.timers_changed()

    def clock_moved(self) -> None:
        self.engine.clock_moved()

    def is_busy(self) -> bool:
        return super().is_busy() or self.engine.is_busy() or bool(self._lazy)

    # -- connections ----------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Accept connections from now on. Under the lock."""
        self.network.listen(listener)

    def stop_listening(self) -> None:
        """Accept no more connections. Under the lock."""
        self.network.stop_listening()

    def close(self) -> None:
        """Close every connection, and wake all waiters. Under the lock."""
        self.network.close()
        self.engine.close()

    def close_copies(self) -> None:
        """In a forked child: close the copies of the descriptors; the connections belong to the parent."""
        self.network.close_copies()

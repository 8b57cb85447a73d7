"""The driver of a threaded endpoint: does the work that calls into the core leave.

A `Transport` exists from ``start()`` to ``stop()``. The engine calls `turn_done` on the leading thread. A
thread that has called the core itself calls `settle` afterwards, under the lock. A network
(`linkbox.networks`) carries the bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from linkbox.address import Address
from linkbox.core.arrival import Arrival
from linkbox.core.decoding import Decoding
from linkbox.core.endpoint import EndpointCore
from linkbox.core.wait_queue import WaitQueue
from linkbox.networks.choose import BrokerAccess, threaded_network
from linkbox.networks.endpoint_driver import EndpointDriver
from linkbox.networks.network import ThreadedNetwork
from linkbox.surviving import LoopErrors
from linkbox.threaded.engine import Engine

if TYPE_CHECKING:
    from linkbox.networks.tls_link import TlsLink


class Transport(EndpointDriver):
    """The core of an endpoint, its network, and the engine whose threads move both."""

    def __init__(
        self,
        hub: EndpointCore,
        lock: threading.RLock,
        decoding: Decoding | None,
        name: str,
        address: Address,
        make_tls: Callable[[], TlsLink] | None,
        access: BrokerAccess | None,
        errors: LoopErrors,
    ) -> None:
        super().__init__(hub, decoding, errors)
        self.lock = lock
        self.network: ThreadedNetwork = threaded_network(self, address, lock, make_tls, access)
        self._use(self.network)
        self.engine: Engine = Engine(lock, self, hub.effects, self.network, name)
        self.decode_later = False
        """Is the format user code? Then a thread of its own decodes."""

    # -- what has arrived ------------------------------------------------------------------------------

    def deliver(self, now: float) -> None:
        if self._decoding is None:
            super().deliver(now)
        elif self.decode_later:
            if self.hub.arrivals:
                self.backlog.add(self.hub.arrivals)
                self.engine.ring(self.effects.room)
        elif group := self.backlog.next(self.hub.arrivals):
            self.settle()  # nothing else has to wait for the decoder
            self._decode_and_deliver(group)

    def _decode_and_deliver(self, group: list[Arrival]) -> None:
        """Decode without the lock, because it may take long."""
        self.lock.release()
        try:
            # Also our own formats may call code of the application: `__post_init__` of a Struct.
            decoded = [self._decoded(arrival) for arrival in group]
        finally:
            self.lock.acquire()
        self._store(group, decoded, self.now())

    def decode(self) -> None:
        """Decode with a format that is user code, and deliver. Only the decoding thread calls this."""
        with self.lock:
            while group := self.backlog.next(deque()):
                for arrival in group:
                    self._decode_and_deliver([arrival])
                    self.settle()

    def must_decode(self) -> bool:
        return not self.decode_later and super().must_decode()

    # -- waking ----------------------------------------------------------------------------------------

    def ring(self, queue: WaitQueue) -> None:
        self.engine.ring(queue)

    def look_earlier(self) -> None:
        self.engine.look_earlier()

    def turn_soon(self) -> None:
        self.engine.kick()

    def clock_moved(self) -> None:
        self.engine.clock_moved()

    def is_busy(self) -> bool:
        return super().is_busy() or self.engine.is_busy()

    # -- the end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every connection, and wake all waiters. Under the lock."""
        self.network.close()
        self.engine.close()

"""The network over a broker, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from linkbox.address import Address
from linkbox.core.session import Session
from linkbox.nats import loop
from linkbox.nats.asks import AskPort, RequestPort
from linkbox.nats.circuits import CircuitPort
from linkbox.nats.exchange import Exchange
from linkbox.nats.port import Bell, Port
from linkbox.nats.streams import SourcePort, StreamPort
from linkbox.networks.choose import BrokerAccess
from linkbox.networks.network import AioNetwork, Listener, NetworkEvents, ThreadedNetwork
from linkbox.networks.poller import MemoryPoller

CLOSING: Final = 2.0
"""Most seconds that a stop waits until the broker has the last bytes."""


def make_port(
    events: NetworkEvents, address: Address, access: BrokerAccess, bell: Bell, post: Callable[..., None]
) -> Port:
    """The port for the pattern of the endpoint."""
    context = events.hub.context
    kind: type[Port]
    if context.pattern.asks:
        kind = AskPort if context.is_client else RequestPort
    elif context.pattern.server_sends:
        kind = CircuitPort
    else:
        kind = StreamPort if context.is_client else SourcePort
    return kind(events, address, access, bell, post, monotonic)


class ThreadedNats(ThreadedNetwork):
    """For a threaded endpoint: its exchange is on the loop that all of them share."""

    def __init__(self, events: NetworkEvents, address: Address, access: BrokerAccess) -> None:
        poller = MemoryPoller(False)
        super().__init__(events, poller, monotonic, has_manual_clock=False)
        self._port = make_port(events, address, access, poller, loop.call)
        made: concurrent.futures.Future[Exchange] = concurrent.futures.Future()
        loop.call(lambda: made.set_result(self._port.make_exchange()))
        self._port.exchange = self._exchange = made.result()

    def read(self, timeout: float | None) -> None:
        self.poller.poll(timeout)  # The loop of the exchange has read.

    def report(self, now: float) -> None:
        self._port.report(now)

    def dial(self, session: Session) -> None:
        self._port.dial(session)

    def listen(self, listener: Listener) -> None:
        self._port.listen(listener)

    def stop_listening(self) -> None:
        self._port.stop_listening()

    def close(self) -> None:
        self._port.close_links()
        closing = asyncio.run_coroutine_threadsafe(self._exchange.close(), loop.shared_loop())
        try:
            closing.result(CLOSING)  # A process that exits now must not lose what was written last.
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            pass

    def close_copies(self) -> None:
        self._exchange.close_copy()


class LoopBell:
    """Notifies an asyncio endpoint, on its own loop."""

    port: Port

    def __init__(self, events: NetworkEvents) -> None:
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._is_rung = False

    def ring(self) -> None:
        """Let the loop report soon."""
        if not self._is_rung:
            self._is_rung = True
            self._loop.call_soon(self._answer)

    def _answer(self) -> None:
        self._is_rung = False
        now = self.port.now()
        self.port.report(now)
        self._events.turn_done(now)


def _call(function: Callable[..., Any], *arguments: Any) -> None:
    function(*arguments)


class AioNats(AioNetwork):
    """For an asyncio endpoint: its exchange is on the same loop."""

    def __init__(self, events: NetworkEvents, address: Address, access: BrokerAccess) -> None:
        super().__init__(events, monotonic, has_manual_clock=False)
        bell = LoopBell(events)
        self._port = bell.port = make_port(events, address, access, bell, _call)
        self._port.exchange = self._exchange = self._port.make_exchange()

    def dial(self, session: Session) -> None:
        self._port.dial(session)

    def listen(self, listener: Listener) -> None:
        self._port.listen(listener)

    def stop_listening(self) -> None:
        self._port.stop_listening()

    async def close(self) -> None:
        self._port.close_links()
        await self._exchange.close()

    def close_copies(self) -> None:
        self._exchange.close_copy()

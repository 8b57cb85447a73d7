"""`Endpoint`, the base class of the six asyncio endpoints: life cycle, callbacks, peers."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from linkbox.aio.mailbox import Receiving
from linkbox.aio.runtime import Tasks
from linkbox.events import Callback, EndpointState, EventKind, Peer, Statistics
from linkbox.formats import K_co, T
from linkbox.operations import inspecting
from linkbox.operations.endpoint import F, registering
from linkbox.operations.lifecycle import STOP, Life
from linkbox.operations.taking import Taking
from linkbox.operations.unsupported import abstract_error, supported


class Endpoint(Receiving[T, K_co]):
    """Base of the aio endpoints."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise abstract_error(type(self))

    def _attach(self, operations: Life, taking: Taking, tasks: Tasks) -> None:
        """Complete the constructor of an endpoint."""
        super().__init__(taking, tasks)
        self._operations = operations
        tasks.on_lost = operations.lost

    def __repr__(self) -> str:
        return repr(self._operations)

    def __dir__(self) -> list[str]:
        return supported(type(self), list(super().__dir__()))

    @property
    def address(self) -> str:
        """The endpoint's address as a URL. A started server's address has the actual port."""
        return str(self._operations.address)

    # -- what it is doing ------------------------------------------------------------------------------

    @property
    def state(self) -> EndpointState:
        """What the endpoint is doing now."""
        return inspecting.state(self._operations)

    @property
    def connected(self) -> bool:
        """Is a peer connected now?"""
        return inspecting.is_connected(self._operations)

    @property
    def ended(self) -> bool:
        """Can no further message arrive? The mailbox may still hold some."""
        return inspecting.has_ended(self._operations)

    @property
    def last_error(self) -> Exception | None:
        """The most recent connection error, or None."""
        return self._operations.counters.last_error

    @property
    def retry_at(self) -> float | None:
        """When a client tries to connect again, in seconds since the epoch; None if it is not waiting."""
        return inspecting.retry_at(self._operations)

    # -- life cycle -----------------------------------------------------------------------------------

    async def stop(self, timeout: float = 10.0) -> bool:
        """Send what is queued, end gracefully, close. Returns whether everything sent was acknowledged.

        Also from inside a callback, any number of times. Always returns, after ``timeout`` seconds at the
        latest, and ends every wait on this endpoint. Messages in the mailbox can still be taken, and
        ``start()`` may follow. With ``store=`` the mailbox is empty then: what was not taken is in the store,
        for the next start.
        """
        return await self._tasks.run(self._operations.stop(timeout))

    async def __aenter__(self) -> Self:
        await self._tasks.run(self._operations.start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.run(self._operations.stop(STOP))

    # -- callbacks ------------------------------------------------------------------------------------

    def add_callback(self, fn: Callback, *kinds: EventKind) -> None:
        """Call ``fn(event)`` whenever one of these happens; by default for `EventKind.DATA`.

        Callbacks of one endpoint run one at a time and never delay messages. A callback may call any
        method. If it raises, the exception is logged and the conversation continues. When the first DATA
        callback is added, an event is emitted for each message that is waiting already.
        """
        self._operations.add_callback(fn, kinds)

    def remove_callback(self, fn: Callback) -> None:
        """Stop calling ``fn``, for all kinds. `ValueError` if it was not added."""
        self._operations.remove_callback(fn)

    def on(self, *kinds: EventKind) -> Callable[[F], F]:
        """Decorator: ``@endpoint.on(EventKind.ERROR)``."""
        return registering(self.add_callback, kinds)

    # -- peers and numbers ----------------------------------------------------------------------------

    def peers(self) -> tuple[Peer, ...]:
        """The connected peers."""
        return self._operations.peers()

    def statistics(self) -> Statistics:
        """A snapshot of all counters: totals, and for each connected peer."""
        return inspecting.statistics_of(self._operations)

    async def wait_connected(self, count: int = 1, timeout: float | None = None) -> None:
        """Wait until that many peers are connected. `DeadlineExceeded` after ``timeout`` seconds."""
        await self._tasks.run(self._operations.wait_connected(count, timeout))

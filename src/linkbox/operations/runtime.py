"""`Runtime`: what operations need of the front end that runs them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from linkbox.address import Address
from linkbox.core.connection import Listening
from linkbox.core.driver import Driver
from linkbox.core.endpoint import Channel, EndpointCore
from linkbox.operations.steps import Operation
from linkbox.operations.unsupported import mypyc_attr

Awaited: TypeAlias = Any
"""For threads the result itself; for asyncio an awaitable of it. Only for a `Call`."""


class Service:
    """A thread or a task of the endpoint that runs an operation of its own."""

    def start(self) -> None:
        """Begin."""
        raise NotImplementedError

    def is_current(self) -> bool:
        """Is the caller running in it?"""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Runtime:
    """Threads or tasks, and what moves the bytes. One for each endpoint; it outlives ``stop()``."""

    now: Callable[[], float]
    """The clock of the endpoint: seconds, as of ``time.monotonic()``."""
    lock: AbstractContextManager[object]
    """Held around each call into the core."""
    must_pause = False
    """Must a loop that never waits call `pause` now and then?"""

    driver: Driver | None = None
    """None before the start and after the stop."""
    services: list[Service]
    """Those of this life."""
    starting: Any
    """A lock, of threads or tasks: one call at a time starts the endpoint."""
    closed: Any
    """An event: everything is closed, though services may still run."""
    stopped: Any
    """An event: the last life is over, and ``start()`` may follow."""

    # -- one life, from start() to stop() --------------------------------------------------------------

    def open(self, core: EndpointCore) -> None:
        """Begin a life: make what moves the bytes."""
        raise NotImplementedError

    def bind(self, address: Address, given: socket.socket | None) -> tuple[Listening, Address]:
        """Listen at an address; return the listener and its actual address. May block. `ListenFailed`."""
        raise NotImplementedError

    def most_connections(self, limit: int) -> int:
        """The most connections of a server: the limit, or fewer if the process has too few descriptors."""
        raise NotImplementedError

    def listen(self, listener: Listening) -> None:
        """Accept connections from now on."""
        raise NotImplementedError

    def stop_listening(self) -> None:
        """Accept no more connections."""
        raise NotImplementedError

    def close(self) -> Awaited:
        """Close every connection, and end every wait."""
        raise NotImplementedError

    def forget(self) -> None:
        """The life is over."""
        raise NotImplementedError

    def wait_until_set(self, event: Any, timeout: float | None) -> Awaited:
        """Wait for `closed` or `stopped`. Returns whether it came in time."""
        raise NotImplementedError

    def forked(self) -> None:
        """This is the copy in a child process: close its descriptors, forget everything."""
        raise NotImplementedError

    # -- after calls into the core ---------------------------------------------------------------------

    def settle(self) -> None:
        """Write, dial and wake as the last calls into the core require."""
        raise NotImplementedError

    def update(self) -> None:
        """The same, and meet a timer that may have become due earlier."""
        raise NotImplementedError

    def write_later(self, channel: Channel) -> None:
        """Write soon what the channel has queued, together with what is queued until then."""
        raise NotImplementedError

    # -- services --------------------------------------------------------------------------------------

    def spawn(self, operation: Operation[None], what: str) -> Service:
        """Run an operation in a thread or task of its own, which `join` waits for."""
        service = self.make_service(operation, what)
        self.services.append(service)
        service.start()
        return service

    def make_service(self, operation: Operation[None], what: str) -> Service:
        """The thread or task for that."""
        raise NotImplementedError

    def join(self, deadline: float) -> Awaited:
        """Wait for all services, as long as there is time."""
        raise NotImplementedError

    def wait_for(self, service: Service, timeout: float) -> Awaited:
        """Wait for one service. Returns whether it has ended."""
        raise NotImplementedError

    def is_ours(self) -> bool:
        """Does the caller run in one of the services?"""
        return any(service.is_current() for service in self.services)

    def must_pass(self, error: BaseException) -> bool:
        """Must a service let this error end it? False for every error of user code."""
        raise NotImplementedError

    # -- code that is not to run here ------------------------------------------------------------------

    def blocking(self, function: Callable[..., Any], *arguments: Any) -> Awaited:
        """Call a function that blocks."""
        raise NotImplementedError

    def call_within(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Awaited:
        """Call user code; a coroutine that it returns is cancelled after that time."""
        raise NotImplementedError

    def pause(self) -> Awaited:
        """Let others run."""
        raise NotImplementedError

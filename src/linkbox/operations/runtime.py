"""`Runtime`: the interface of a front end for the operations that it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from linkbox.core.connection import Listening
from linkbox.core.endpoint import Channel, EndpointCore
from linkbox.core.settings import Counters
from linkbox.errors import StateError
from linkbox.native import mypyc_attr
from linkbox.networks.choose import BrokerAccess, time_source, tls_maker
from linkbox.networks.endpoint_driver import EndpointDriver
from linkbox.networks.network import Listener, Network, Route
from linkbox.operations.options import Options
from linkbox.operations.secrets import SecretsOfUser
from linkbox.operations.steps import Operation
from linkbox.surviving import LoopErrors

RESTART = 0.1
"""Seconds after an unexpected error of a service until it runs again."""
Awaited: TypeAlias = Any
"""With threads the result itself, with asyncio an awaitable for it. Only for a `Call`."""


class Service:
    """A thread or task of the endpoint that runs one operation."""

    def start(self) -> None:
        """Begin."""
        raise NotImplementedError

    def is_current(self) -> bool:
        """Is the caller running in it?"""
        raise NotImplementedError


class Look:
    """One look at an endpoint from another thread, which waits for the result."""

    def __init__(self, function: Callable[[], object]) -> None:
        from concurrent.futures import Future  # Only a monitored process needs it.

        self._function = function
        self._result: Future[object] = Future()

    def take(self) -> None:
        """Call the function, on the thread that may."""
        try:
            self._result.set_result(self._function())
        except BaseException as error:
            self._result.set_exception(error)

    def result(self, patience: float) -> object:
        """What the function has returned; None if that took too long. Raises what it has raised."""
        try:
            return self._result.result(patience)
        except TimeoutError:
            return None


@mypyc_attr(allow_interpreted_subclasses=True)
class Runtime:
    """The threads or tasks of an endpoint, and its driver. It exists as long as the endpoint."""

    now: Callable[[], float]
    """The clock of the endpoint: seconds, as of ``time.monotonic()``."""
    lock: AbstractContextManager[object]
    """Held around each call into the core."""
    is_aio = False
    """Does it run tasks, not threads?"""
    must_pause = False
    """Must a loop that does not wait call `pause` from time to time?"""

    block = "a with block"
    """What starts and stops an endpoint, for error messages."""

    services: list[Service]
    """The services since the last start."""
    starting: Any
    """A lock for threads or tasks: only one call at a time starts the endpoint."""
    closed: Any
    """An event: everything is closed, but services may still run."""
    stopped: Any
    """An event: the stop is complete, and ``start()`` may follow."""

    def check_function(self, function: Callable[..., Any], name: str) -> None:
        """TypeError for a function of the user that this front end cannot call."""

    # -- one life, from start() to stop() --------------------------------------------------------------

    def __init__(self, options: Options) -> None:
        self.now = time_source(options.address)
        self.driver: EndpointDriver | None = None
        """None before the start and after the stop."""
        self.counters: Counters = Counters()
        self.errors: LoopErrors = LoopErrors(self.counters)
        """Where every loop of the endpoint reports the exceptions that it has survived."""
        if isinstance(options.secrets, SecretsOfUser):
            options.secrets.survive = self.errors.survive
        self.services = []
        self.is_closing = False
        """Has a stop begun?"""
        self._options = options
        self._make_tls = tls_maker(
            options.address, options.ssl, options.side == "server", options.secrets is not None
        )
        self._more_routes = [
            Route(each, tls_maker(each, options.ssl, False, options.secrets is not None))
            for each in options.more_addresses
        ]
        self._access = None if options.broker is None else BrokerAccess(options.broker, options.ssl)

    def guide(self, network: Network) -> None:
        """Set where a network connects to, after a start."""
        network.routes += self._more_routes
        network.make_socket = self._options.connect

    def open(self, core: EndpointCore) -> None:
        """Make the driver, after a start."""
        raise NotImplementedError

    def listen(self, listener: Listening) -> None:
        """Accept connections from now on."""
        assert isinstance(listener, Listener)
        if self.driver is not None:
            self.driver.listen(listener)

    def stop_listening(self) -> None:
        """Accept no more connections."""
        if self.driver is not None:
            self.driver.stop_listening()

    def close(self) -> Awaited:
        """Close every connection, and interrupt every wait."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop the driver, after a stop."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Close what an `open` that has failed has made."""
        if self.driver is not None:
            self.driver.close_copies()
        self.closed.set()
        self.stopped.set()
        self.forget()

    def abandon(self, stop: Callable[[], Operation[None]], lost: Callable[[], None]) -> None:
        """Run ``stop`` soon, on another thread or in a task, and ``lost`` if that is impossible.

        Called by finalizers: it takes no lock, and waits for nothing.
        """
        raise NotImplementedError

    def wait_until_set(self, event: Any, timeout: float | None) -> Awaited:
        """Wait for `closed` or `stopped`. Returns whether it was set in time."""
        raise NotImplementedError

    def forked(self) -> None:
        """In a forked child: close the copies of the descriptors, forget everything."""
        raise NotImplementedError

    def caller(self) -> object:
        """The thread or task that calls."""
        raise NotImplementedError

    def inspect(self, function: Callable[[], object], patience: float) -> object:
        """Call a function that inspects the endpoint, from any thread; None if that takes too long."""
        raise NotImplementedError

    # -- after calls into the core ---------------------------------------------------------------------

    def settle(self) -> None:
        """Write, connect and wake waiters, as the last calls into the core require."""
        if self.driver is None:
            raise StateError(f"the endpoint is not started: call start(), or use it in {self.block}")
        self.driver.settle()

    def update(self) -> None:
        """The same, and nothing once the endpoint is closed."""
        if self.driver is not None:
            self.driver.settle()

    def update_soon(self) -> None:
        """The same for a caller that will wait: see `EndpointDriver.settle_soon`."""
        driver = self.driver
        if driver is not None:
            if driver.is_contended:
                driver.settle_soon()
            else:
                driver.settle()

    def write_later(self, channel: Channel) -> None:
        """Write soon what the channel has queued, together with what is added until then."""
        if self.driver is not None:
            self.driver.write_later(channel)

    # -- services --------------------------------------------------------------------------------------

    def spawn(self, make: Callable[[], Operation[None]], what: str) -> Service:
        """Run an operation in a thread or task of its own, which `join` waits for.

        ``make`` makes it. It is called again after an exception that the operation has not survived itself:
        while the endpoint runs, its services do.
        """
        service = self.make_service(make, what)
        self.services.append(service)
        service.start()
        return service

    def make_service(self, make: Callable[[], Operation[None]], what: str) -> Service:
        """Make the thread or task for an operation."""
        raise NotImplementedError

    def survived_by(self, what: str, error: BaseException) -> bool:
        """A service has ended with an exception. Returns whether to run it again, after `RESTART` seconds."""
        self.survive("services", f"unexpected error in the {what}", error)
        return self.is_ours() and not self.is_closing

    def survive(self, kind: str, what: str, error: BaseException, has_traceback: bool = True) -> None:
        """Log and count an exception in a service, so that it can go on: see surviving.py.

        Raises it again if it must end the service.
        """
        if self.must_pass(error):
            raise error
        self.errors.survive(kind, what, error, has_traceback)

    def locked(self) -> AbstractContextManager[object]:
        """The lock, for calls that take it for a moment. Raises if the interpreter exits and it is lost."""
        return self.lock

    def join(self, deadline: float) -> Awaited:
        """Wait for all services to end, until ``deadline``."""
        raise NotImplementedError

    def wait_for(self, service: Service, timeout: float) -> Awaited:
        """Wait for one service. Returns whether it has ended."""
        raise NotImplementedError

    def is_ours(self) -> bool:
        """Does the caller run in one of the services?"""
        return any(service.is_current() for service in self.services)

    def must_pass(self, error: BaseException) -> bool:
        """Must this exception end a service? False for every exception of user code."""
        raise NotImplementedError

    # -- code that is not to run here ------------------------------------------------------------------

    def blocking(self, function: Callable[..., Any], *arguments: Any) -> Awaited:
        """Call a function that blocks."""
        raise NotImplementedError

    def call_within(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Awaited:
        """Call user code; a coroutine that it returns is cancelled after that time."""
        raise NotImplementedError

    def pause(self) -> Awaited:
        """Let other tasks run."""
        raise NotImplementedError

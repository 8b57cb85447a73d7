"""The threaded `Runtime`: runs operations by blocking the calling thread, and services on threads."""

from __future__ import annotations

import threading
from _thread import get_ident, start_new_thread
from collections.abc import Callable
from functools import partial
from sys import is_finalizing
from typing import Any

from linkbox.core.backlog import Backlog
from linkbox.core.endpoint import EndpointCore
from linkbox.core.wait_queue import Predicate
from linkbox.errors import StateError
from linkbox.formats import Bytes, Json, MsgPack, Text, Typed
from linkbox.networks.endpoint_driver import EndpointDriver
from linkbox.operations.arguments import Given, is_asynchronous
from linkbox.operations.lifecycle import Life
from linkbox.operations.options import Options
from linkbox.operations.runtime import RESTART, Runtime, Service
from linkbox.operations.steps import Call, NextItems, Operation, R, Wait
from linkbox.threaded.interrupts import interrupts, join, wait_for
from linkbox.threaded.transport import Transport

LEAVE = 5.0
"""Most seconds that `Threads.join` waits for a thread that has only to end."""
_INLINE = (Bytes, Text, Json, Typed, MsgPack)
"""Formats that the leader may decode with. Other formats are user code and get a thread of their own."""


class ServiceThread(Service):
    """A thread of the endpoint, which runs one operation."""

    def __init__(self, runtime: Threads, make: Callable[[], Operation[None]], name: str) -> None:
        self._runtime = runtime
        self._make = make
        self._name = name
        self.thread: threading.Thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        while self._fails():
            self._runtime.closed.wait(RESTART)

    def _fails(self) -> bool:
        """Run the operation. Returns whether it must be run again, after an unexpected error."""
        runtime = self._runtime
        try:
            with runtime.lock:
                runtime.run_locked(self._make(), True)
        except BaseException as error:
            return runtime.survived_by(f"thread {self._name}", error)
        return False

    def start(self) -> None:
        if is_finalizing():
            self._runtime.before_call()  # raises: the thread would never run, and `start` wait for it
        self.thread.start()

    def is_current(self) -> bool:
        # A new thread may have the number of one that has ended.
        return get_ident() == self.thread.ident and self.thread.is_alive()


class Threads(Runtime):
    """The threads of an endpoint, and its driver."""

    lock: threading.RLock
    driver: EndpointDriver | None

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.lock = threading.RLock()
        self.transport: Transport | None = None
        self.away: set[int] = set()
        """Services that are in a `Call`: in user code, or in code that blocks."""
        self.starting: Any = threading.Lock()
        self.stopped: Any = threading.Event()
        self.closed: Any = threading.Event()
        self.stopped.set()
        self.closed.set()

    def check_function(self, function: Callable[..., Any], name: str) -> None:
        if is_asynchronous(function):
            what = getattr(function, "__qualname__", None) or repr(function)
            raise TypeError(
                f"{name}: {what} is a coroutine function, which only endpoints of linkbox.aio can call"
            )

    def inspect(self, function: Callable[[], object], patience: float) -> object:
        if not self.lock.acquire(timeout=patience):
            return None
        try:
            return function()
        finally:
            self.lock.release()

    # -- running operations ----------------------------------------------------------------------------

    def run(self, operation: Operation[R]) -> R:
        """Run an operation on the calling thread, which blocks where the operation waits."""
        if interrupts.pending or is_finalizing():
            self.before_call()
        if self.lock._is_owned():  # type: ignore[attr-defined]
            raise StateError(
                "a finalizer has interrupted this endpoint at work: only stop() can be called there"
            )
        with self.lock:
            return self.run_locked(operation)

    def locked(self) -> threading.RLock:
        if is_finalizing() and not self.lock.acquire(blocking=False):
            # A thread of this endpoint held it when the interpreter began to exit, and does not run any more.
            raise StateError("the interpreter is exiting, and this endpoint was in the middle of a change")
        if is_finalizing():
            self.lock.release()
        return self.lock

    def before_call(self) -> None:
        """Call the handlers of pending signals. Raise while the interpreter exits: the lock may be lost."""
        if is_finalizing():
            raise StateError("the interpreter is exiting: its endpoints have no threads any more")
        interrupts.run_pending()

    def stop(self, life: Life, timeout: Given) -> bool:
        """Stop the endpoint, wherever the caller is."""
        if is_finalizing():
            # The threads of the endpoint are gone, and may hold its lock. The system closes the connections.
            return not life.undelivered()
        transport = self.transport
        if not self.lock._is_owned() and (transport is None or not transport.engine.is_working_here()):  # type: ignore[attr-defined]
            return self.run(life.stop(timeout))
        # Something has interrupted this endpoint at work, and calls: a finalizer, or, before the first engine
        # starts, a signal handler. This thread cannot wait here.
        if life.core is None:
            return self.run_locked(life.stop(timeout))
        stopper = partial(self.run, life.stop(timeout))
        name = f"linkbox stop {self._options.name}"
        try:
            threading.Thread(target=stopper, name=name, daemon=True).start()
        except RuntimeError:
            pass  # The interpreter is about to exit, and starts no thread any more.
        return False

    def abandon(self, stop: Callable[[], Operation[None]], lost: Callable[[], None]) -> None:
        try:
            # Not `Thread.start`: its locks may be held by what the finalizer has interrupted.
            start_new_thread(self._start_stop, (stop,))
        except RuntimeError:
            pass  # The interpreter exits, or the system gives no more threads: it stays as it is.

    def _start_stop(self, stop: Callable[[], Operation[None]]) -> None:
        """Run the stop on a thread that `threading` knows."""
        name = f"linkbox stop {self._options.name}"
        threading.Thread(target=lambda: self.run(stop()), name=name, daemon=True).start()

    def run_locked(self, operation: Operation[R], is_service: bool = False) -> R:
        """The same for a caller that holds the lock once. Steps release it."""
        try:
            step = next(operation)
            while True:
                try:
                    if isinstance(step, Wait):
                        transport, predicate = self.transport, step.predicate
                        result: Any = (
                            predicate.claim()
                            if transport is None
                            else transport.engine.wait(
                                step.queue, predicate, step.deadline, is_service, step.may_lead
                            )
                        )
                    elif is_service:  # `join` does not wait long for user code.
                        thread = get_ident()
                        self.away.add(thread)
                        try:
                            result = self._unlocked(step)
                        finally:
                            self.away.discard(thread)
                    else:
                        result = self._unlocked(step)
                except BaseException as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(result)
        except StopIteration as end:
            value: R = end.value
            return value

    def _unlocked(self, step: object) -> Any:
        """Do a step without the lock."""
        self.lock.release()
        try:
            if isinstance(step, Call):
                return step.function(*step.arguments)
            assert isinstance(step, NextItems)
            return step.take()
        finally:
            self.lock.acquire()

    # -- one life --------------------------------------------------------------------------------------

    def open(self, core: EndpointCore) -> None:
        options = self._options
        transport = Transport(
            core,
            self.lock,
            options.decoding,
            options.name,
            options.address,
            self._make_tls,
            self._access,
            self.errors,
        )
        self.guide(transport.network)
        transport.decode_later = not isinstance(options.format, _INLINE)
        self.stopped.clear()
        self.closed.clear()
        self.driver = self.transport = transport
        if transport.decode_later:
            self.spawn(partial(self._decode_loop, transport), "decode")
        transport.engine.start()

    def _decode_loop(self, transport: Transport) -> Operation[None]:
        """Decode with a format that is user code, on a thread that does no I/O."""
        wait = Wait(transport.hub.effects.room, HasUndecoded(transport.backlog))
        while (yield wait):
            yield Call(transport.decode)

    def close(self) -> None:
        with self.lock:
            if self.transport is not None:
                self.transport.close()

    def forget(self) -> None:
        self.driver = self.transport = None

    def wait_until_set(self, event: threading.Event, timeout: float | None) -> bool:
        return wait_for(event, timeout)

    def forked(self) -> None:
        transport, self.transport = self.transport, None
        self.driver = None
        self.lock = threading.RLock()
        self.starting = threading.Lock()
        self.stopped, self.closed = threading.Event(), threading.Event()
        self.stopped.set()
        self.closed.set()
        if transport is not None:
            transport.close_copies()

    def caller(self) -> object:
        return get_ident()

    # -- services --------------------------------------------------------------------------------------

    def make_service(self, make: Callable[[], Operation[None]], what: str) -> ServiceThread:
        return ServiceThread(self, make, f"linkbox {what} {self._options.name}")

    def join(self, deadline: float) -> None:
        """Wait for the threads until ``deadline``; user code in them may take longer.

        After it, wait for those in our own code, which are about to end.
        """
        latest = max(deadline, self.now() + LEAVE)
        for service in self.services:
            if not isinstance(service, ServiceThread) or service.is_current():
                continue
            join(service.thread, max(0.0, deadline - self.now()))
            while service.thread.is_alive() and service.thread.ident not in self.away:
                if self.now() >= latest:
                    break
                join(service.thread, 0.01)
        if self.transport is not None:
            self.transport.engine.join(max(1.0, deadline - self.now()))

    def wait_for(self, service: Service, timeout: float) -> bool:
        assert isinstance(service, ServiceThread)
        join(service.thread, timeout)
        return not service.thread.is_alive()

    def must_pass(self, error: BaseException) -> bool:
        return False  # nor SystemExit: the thread belongs to linkbox and continues

    # -- code that is not to run under the lock --------------------------------------------------------

    def blocking(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def call_within(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def pause(self) -> None:
        """Nothing to do: other threads run by themselves."""


class HasUndecoded(Predicate):
    """There are messages to decode."""

    __slots__ = ("backlog",)

    def __init__(self, backlog: Backlog) -> None:
        self.backlog: Backlog = backlog

    def holds(self) -> bool:
        return self.backlog.is_ready()

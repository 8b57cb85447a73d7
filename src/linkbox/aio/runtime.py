"""The asyncio `Runtime`: runs operations by suspending the calling task, and services as tasks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from threading import RLock
from typing import Any

from linkbox.aio.calls import is_set_within, on_thread, within
from linkbox.aio.driver import Driver
from linkbox.core.endpoint import EndpointCore
from linkbox.networks.dialer_aio import is_cancelled
from linkbox.networks.endpoint_driver import EndpointDriver
from linkbox.operations.options import Options
from linkbox.operations.runtime import RESTART, Look, Runtime, Service
from linkbox.operations.steps import Call, NextItems, Operation, R, Wait
from linkbox.signals import is_from_signal

CANCEL_WAIT = 1.0
"""Most seconds that a stop waits for tasks that it has cancelled."""


class ServiceTask(Service):
    """A task of the endpoint, which runs one operation."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task

    def start(self) -> None:
        """Nothing to do: the task was started when it was made."""

    def is_current(self) -> bool:
        try:
            return asyncio.current_task() is self.task
        except RuntimeError:  # no loop is running
            return False


class Tasks(Runtime):
    """The tasks of an endpoint, and its driver."""

    is_aio = True
    must_pause = True
    block = "an async with block"
    lock: AbstractContextManager[object]
    driver: EndpointDriver | None
    closed: Any
    stopped: Any

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.lock = RLock()  # one loop, one thread: nobody waits for it
        self.aio_driver: Driver | None = None
        self.starting: Any = asyncio.Lock()
        self.closed = self.stopped = asyncio.Event()
        self._blocking_thread: ThreadPoolExecutor | None = None
        self._stop_task: asyncio.Task[None] | None = None
        """Stops an endpoint that was forgotten. A loop holds its tasks only weakly."""
        self.on_lost: Callable[[], None]
        """Drops the life whose event loop was closed."""

    def inspect(self, function: Callable[[], object], patience: float) -> object:
        look, loop = Look(function), None if self.aio_driver is None else self.aio_driver.loop
        if loop is None or not loop.is_running() or asyncio._get_running_loop() is loop:
            look.take()
        else:
            try:
                loop.call_soon_threadsafe(look.take)
            except RuntimeError:  # It was closed meanwhile.
                look.take()
        return look.result(patience)

    # -- running operations ----------------------------------------------------------------------------

    async def run(self, operation: Operation[R]) -> R:
        """Run an operation in the calling task, which is suspended where the operation waits."""
        if self.aio_driver is not None and self.aio_driver.loop.is_closed():
            self.on_lost()
        try:
            step = next(operation)
            while True:
                try:
                    if isinstance(step, Wait):
                        aio = self.aio_driver
                        result: Any = (
                            step.predicate.claim()
                            if aio is None
                            else await aio.wait(step.queue, step.predicate, step.deadline)
                        )
                    elif isinstance(step, Call):
                        result = step.function(*step.arguments)
                        if result.__class__ is not bytes and inspect.isawaitable(result):
                            result = await result
                    elif isinstance(step, NextItems):
                        result = await _items_of(step)
                except BaseException as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    # -- one life --------------------------------------------------------------------------------------

    def open(self, core: EndpointCore) -> None:
        options = self._options
        driver = Driver(core, options.decoding, options.address, self._make_tls, self._access, self.errors)
        self.guide(driver.network)
        self.closed, self.stopped = asyncio.Event(), asyncio.Event()
        self.driver = self.aio_driver = driver

    def abandon(self, stop: Callable[[], Operation[None]], lost: Callable[[], None]) -> None:
        driver = self.aio_driver
        if driver is None:
            return
        try:
            driver.loop.call_soon_threadsafe(self._start_stop, driver.loop, stop, lost)
        except RuntimeError:  # the loop was closed
            lost()

    def _start_stop(
        self,
        loop: asyncio.AbstractEventLoop,
        stop: Callable[[], Operation[None]],
        lost: Callable[[], None],
    ) -> None:
        self._stop_task = loop.create_task(self.run(stop()), name=f"linkbox stop {self._options.name}")
        self._stop_task.add_done_callback(partial(_stop_done, lost))

    async def close(self) -> None:
        if self.aio_driver is not None:
            await self.aio_driver.close()

    def forget(self) -> None:
        self.driver = self.aio_driver = None
        if self._blocking_thread is not None:
            self._blocking_thread.shutdown(wait=False)
            self._blocking_thread = None

    async def wait_until_set(self, event: asyncio.Event, timeout: float | None) -> bool:
        return await is_set_within(timeout, event)

    def forked(self) -> None:
        driver, self.aio_driver, self.driver = self.aio_driver, None, None
        self.lock = RLock()
        self.starting = asyncio.Lock()
        self.closed = self.stopped = asyncio.Event()
        self._blocking_thread = None
        if driver is not None:
            driver.close_copies()

    def caller(self) -> object:
        return asyncio.current_task()

    # -- services --------------------------------------------------------------------------------------

    def make_service(self, make: Callable[[], Operation[None]], what: str) -> ServiceTask:
        loop = asyncio.get_running_loop()
        return ServiceTask(loop.create_task(self._serve(make, what), name=f"linkbox {what}"))

    async def _serve(self, make: Callable[[], Operation[None]], what: str) -> None:
        """Run an operation; again after an unexpected error."""
        while True:
            try:
                await self.run(make())
                return
            except BaseException as error:
                if not self.survived_by(f"task {what}", error):
                    return
            await is_set_within(RESTART, self.closed)

    async def join(self, deadline: float) -> None:
        """Wait for the tasks until ``deadline``, then cancel those that still run."""
        others = {
            service.task
            for service in self.services
            if isinstance(service, ServiceTask) and not service.is_current()
        }
        if others:
            _, late = await asyncio.wait(others, timeout=max(0.1, deadline - self.now()))
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CANCEL_WAIT)

    async def wait_for(self, service: Service, timeout: float) -> bool:
        assert isinstance(service, ServiceTask)
        _, late = await asyncio.wait({service.task}, timeout=timeout)
        return not late

    def must_pass(self, error: BaseException) -> bool:
        # A coroutine that is closed with its event loop gets GeneratorExit outside of its task.
        is_closed = isinstance(error, GeneratorExit) and not self.is_ours()
        return is_closed or is_cancelled(error) or is_from_signal(error)

    # -- code that is not to run in the loop -----------------------------------------------------------

    async def blocking(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function on the endpoint's thread for this. If cancelled, wait for it to return first."""
        if self._blocking_thread is None:
            self._blocking_thread = ThreadPoolExecutor(1, "linkbox blocking")
        return await on_thread(self._blocking_thread, function, *arguments)

    async def call_within(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        result = function(*arguments)
        return await within(seconds, result) if inspect.isawaitable(result) else result

    async def pause(self) -> None:
        await asyncio.sleep(0)


def _stop_done(lost: Callable[[], None], task: asyncio.Task[None]) -> None:
    """The stop of a forgotten endpoint is over. ``asyncio.run`` may have cancelled it unstarted."""
    if task.cancelled() or task.exception() is not None:
        lost()


async def _items_of(step: NextItems) -> list[Any]:
    """Take items from an iterator: many at a time, or one at a time from an asynchronous one."""
    items = step.items
    try:
        return [await anext(items)] if isinstance(items, AsyncIterator) else step.take()
    except StopAsyncIteration:
        return []

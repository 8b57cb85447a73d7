"""What the six aio endpoints share: life cycle, callbacks, waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType
from typing import Any, TypeVar

from linkbox.aio.callbacks import Dispatcher
from linkbox.aio.driver import Driver
from linkbox.aio.receipts import Receipt
from linkbox.aio.writer import Writer
from linkbox.core.hub import Hub
from linkbox.core.journal import Spool
from linkbox.core.mailbox import Box
from linkbox.core.session import NEVER, Session
from linkbox.errors import DeadlineExceeded, EndOfData, StateError
from linkbox.events import Stage
from linkbox.front.base import Base
from linkbox.front.life import started
from linkbox.front.storing import DISK_WAIT, accepted

E = TypeVar("E", bound="Endpoint")


class Endpoint(Base):
    """Base of the aio endpoints."""

    _receipts = Receipt

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lock = nullcontext()  # One loop, one thread: nothing comes in between.
        self._driver: Driver | None = None
        self._dispatcher: Dispatcher | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = self._stopped = asyncio.Event()
        self._was_clean = True
        self._starting = asyncio.Lock()
        self._writer: Writer | None = None

    # -- life cycle -----------------------------------------------------------------------------------

    @property
    def driver(self) -> Driver:
        """What carries the bytes. Not for you."""
        if self._driver is None:
            raise StateError(f"{self} is not started: call start(), or use it in an async with block")
        return self._driver

    def _update(self) -> None:
        self.driver.settle()

    async def _open_with_store(self, hub: Hub) -> Driver | None:
        """Begin a life, where there is a store with what is in it. None: another task was quicker."""
        opening = self._opening(hub)
        if opening is None:
            return self._open(hub)
        async with self._starting:
            if self._hub is not None:
                return None
            writer = Writer(self._now)
            store, left = await writer.open(opening)
            try:
                self._take_up(left, hub, writer.wake)
                driver = self._open(hub)
            except BaseException:
                store.close()
                raise
            assert self._journal is not None
            writer.start(store, self._journal, driver.settle)
            self._writer = writer
            return driver

    async def _spool(self, session: Session, payloads: list[bytes], with_receipts: bool = True) -> list[Any]:
        """Write messages to the store; returns their receipts when they are on disk."""
        return await self._on_disk(self._running().spool(session, payloads, with_receipts))

    async def _on_disk(self, entry: Spool) -> list[Any]:
        """Wait for the disk; returns the receipts."""
        await self._await(lambda: entry.is_settled, NEVER, entry.box)
        return accepted(entry)

    def _open(self, hub: Hub) -> Driver:
        """Begin a life: hub, driver, tasks."""
        if self._is_fork:
            raise self._not_running()
        hub.owner = self
        hub.listening = self._callbacks.kinds()
        driver = Driver(hub, self._decode(), self._address, self._tls)
        self._mailbox.over = None
        self._is_stopping = False
        self._closed, self._stopped = asyncio.Event(), asyncio.Event()
        self._hub, self._driver = hub, driver
        started.add(self)
        self._dispatcher, self._tasks = None, []
        if self._callbacks.kinds():
            self._ring_waiting(hub)  # what is left from an earlier life
            self._on_listening()
        driver.settle()
        return driver

    async def _wait_for_stop(self) -> None:
        """Somebody stops it just now: let that come to its end."""
        if self._is_fork:
            raise self._not_running()
        if self._is_stopping:
            await self._stopped.wait()

    async def stop(self, timeout: float = 10.0) -> bool:
        """Send what is queued, end in order, close. Returns whether all that was sent was acknowledged.

        Also from inside a callback, any number of times. Always returns, after ``timeout`` seconds at the
        latest, and wakes everyone who waits on this endpoint. What is in the mailbox stays readable, and
        ``start()`` may follow.
        """
        deadline = self._now() + timeout
        hub, driver = self._hub, self._driver
        if hub is None or driver is None:
            return True
        if self._is_stopping:
            # Who stops first waits for our own tasks; a callback among them must not wait for it.
            ours = self._in_callback() or asyncio.current_task() in self._tasks
            event = self._closed if ours else self._stopped
            try:
                await asyncio.wait_for(event.wait(), timeout)
            except TimeoutError:
                return False
            return self._was_clean
        self._is_stopping = True
        self._was_clean = False
        try:
            driver.stop_listening()
            hub.shutdown(self._now())
            driver.settle()
            done = await driver.wait(hub.box, lambda: not hub.sessions and not hub.links, deadline)
            self._was_clean = done and not hub.undelivered
        finally:  # also when it is cancelled: nobody may be left waiting
            await self._close(hub, driver, deadline)
        return self._was_clean

    async def _close(self, hub: Hub, driver: Driver, deadline: float) -> None:
        self._declare_over(hub)
        driver.settle()
        try:
            if self._writer is not None:  # Before whoever waits for the disk is sent away.
                await self._writer.close(max(DISK_WAIT, deadline - self._now()))
            if self._dispatcher is not None:
                self._dispatcher.close()
            await driver.close()
            self._closed.set()
            await self._join(deadline)
        finally:
            self._closed.set()
            self._hub = self._driver = None
            started.discard(self)
            self._is_stopping = False
            self._on_stopped()
            self._stopped.set()

    async def _join(self, deadline: float) -> None:
        """Let our tasks end, as long as there is time; then end them."""
        tasks = [*self._tasks, *([self._dispatcher.task] if self._dispatcher is not None else [])]
        others = [task for task in tasks if task is not asyncio.current_task()]
        if others:
            _, late = await asyncio.wait(others, timeout=max(0.1, deadline - self._now()))
            for task in late:
                task.cancel()

    def _on_stopped(self) -> None:
        """Give back what is left."""

    async def start(self: E) -> E:
        """Begin; returns self."""
        raise NotImplementedError

    async def __aenter__(self: E) -> E:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- callbacks ------------------------------------------------------------------------------------

    def _on_listening(self) -> None:
        if self._driver is not None:
            if self._dispatcher is None:
                self._dispatcher = Dispatcher(self, self._driver, self._callbacks)
            self._driver.settle()

    def _in_callback(self) -> bool:
        return self._dispatcher is not None and self._dispatcher.is_current()

    # -- waiting ----------------------------------------------------------------------------------------

    async def wait_connected(self, count: int = 1, timeout: float | None = None) -> None:
        """Wait until that many peers are connected. `DeadlineExceeded` after ``timeout`` seconds."""
        deadline = NEVER if timeout is None else self._now() + timeout
        hub = self._running()
        if await self.driver.wait(
            hub.box, lambda: len(hub.peers()) >= count or self._wait_is_vain(hub), deadline
        ):
            self._raise_if_vain(hub, count)
            return
        if self._is_stopping or self._hub is not hub:
            raise self._not_running()
        there = len(hub.peers())
        raise DeadlineExceeded(f"{there} of {count} peers are connected to {self} after {timeout:g} s")

    async def wait(self, receipt: Receipt, stage: Stage, deadline: float) -> None:
        """Wait for a receipt. Not for you: use ``receipt.wait()``."""
        driver = self._driver
        while driver is not None:
            session = receipt.session  # a take-over by another session moves the receipt there
            is_settled = self._settles(receipt, session, stage)
            if not await driver.wait(session.box, is_settled, deadline) or receipt.session is session:
                return

    def _flush_acks(self) -> None:
        if self._driver is not None and self._hub is not None and (self._hub.dirty or self._hub.owing):
            self._driver.settle()

    async def _await(self, wish: Callable[[], Any], deadline: float, box: Box | None = None) -> bool:
        driver = self._driver
        if driver is None:
            raise self._not_running()
        holds = await driver.wait(box or self._mailbox.box, wish, deadline)
        if not holds and driver is not self._driver and self._driver is not None:
            raise EndOfData(f"{self} was stopped")  # and started again, meanwhile
        return holds

    def _grow(self, count: int) -> None:
        if self._hub is not None:
            self._hub.grow(count)
            self._update()

    def _default_timeout(self) -> float | None:
        return 0 if self._in_callback() else None

    # -- fork -------------------------------------------------------------------------------------------

    def _forked(self) -> None:
        driver, self._driver = self._driver, None
        self._is_fork, self._hub = True, None
        self._mailbox.over = None
        if driver is not None:
            driver.close_copies()

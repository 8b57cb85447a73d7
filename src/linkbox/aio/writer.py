"""Waits for the disk on a thread of its own, so that the loop does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from linkbox.core.journal import Journal
from linkbox.core.restoring import Left
from linkbox.core.session import NEVER
from linkbox.errors import StoreError

if TYPE_CHECKING:
    from linkbox.store.sqlite import Store

log = logging.getLogger("linkbox")
R = TypeVar("R")


class Writer:
    """Takes what the journal wants on disk, has it written, and tells the journal."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._thread = ThreadPoolExecutor(1, "linkbox store")
        self._wakeup = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    async def run(self, work: Callable[..., R], *args: Any) -> R:
        """Do this on the thread: it may take its time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def open(self, opening: Callable[[], tuple[Store, Left]]) -> tuple[Store, Left]:
        """Open the store on the thread. Cancelled, this waits for the thread, and leaves nothing open."""
        done = asyncio.ensure_future(self.run(opening))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            done.add_done_callback(_give_back)
            await asyncio.wait({done})
            raise

    def wake(self) -> None:
        """There is something to write, sooner than it knew."""
        self._wakeup.set()

    def start(self, store: Store, journal: Journal, settle: Callable[[], None]) -> None:
        """Begin; ``settle`` is called when the journal has changed the hub."""
        self._task = asyncio.get_running_loop().create_task(self._write_all(store, journal, settle))

    async def _write_all(self, store: Store, journal: Journal, settle: Callable[[], None]) -> None:
        try:
            while await self._write_next(store, journal, settle):
                pass
            await self.run(store.close)
        except BaseException:  # the loop is being torn down
            store.close()
            raise
        finally:
            self._thread.shutdown(wait=False)

    async def _write_next(self, store: Store, journal: Journal, settle: Callable[[], None]) -> bool:
        """Wait for a batch, write it. False when there will be no more."""
        while (now := self._now()) < journal.due and not self._is_closing:
            self._wakeup.clear()
            try:
                async with asyncio.timeout(None if journal.due == NEVER else journal.due - now):
                    await self._wakeup.wait()
            except TimeoutError:
                pass
        if self._is_closing and journal.is_idle():
            return False
        batch = journal.take()
        try:
            await self.run(store.apply, batch)
        except StoreError as error:
            await self.run(store.recover)
            journal.failed(batch, error, self._now())
            settle()
            return not (self._is_closing and journal.due > self._now())
        journal.committed(batch, self._now())
        settle()
        return True

    async def close(self, timeout: float) -> None:
        """Write what is left, close the store."""
        self._is_closing = True
        self._wakeup.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=timeout)
            if late:
                log.warning("linkbox: the disk does not answer; the store is closed when it does")


def _give_back(opened: asyncio.Future[tuple[Store, Left]]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result()[0].close()

"""The thread that waits for the disk, so that nobody else has to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from linkbox.core.journal import Journal
from linkbox.core.session import NEVER
from linkbox.errors import StoreError

if TYPE_CHECKING:
    from linkbox.store.sqlite import Store

log = logging.getLogger("linkbox")


class Writer:
    """Takes what the journal wants on disk, writes it, and tells the journal."""

    def __init__(self, lock: threading.RLock, name: str, now: Callable[[], float]) -> None:
        self._now = now
        self._wakeup = threading.Condition(lock)
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=f"linkbox store {name}", daemon=True)

    def wake(self) -> None:
        """There is something to write, sooner than it knew. Under the lock."""
        self._wakeup.notify()

    def start(self, store: Store, journal: Journal, settle: Callable[[], None]) -> None:
        """Begin; ``settle`` is called under the lock when the journal has changed the hub."""
        self._store = store
        self._journal = journal
        self._settle = settle
        self._thread.start()

    def _run(self) -> None:
        try:
            while self._write_next():
                pass
        finally:
            self._store.close()

    def _write_next(self) -> bool:
        """Wait for a batch, write it. False when there will be no more."""
        journal = self._journal
        with self._wakeup:
            while (now := self._now()) < journal.due and not self._is_closing:
                self._wakeup.wait(None if journal.due == NEVER else journal.due - now)
            if self._is_closing and journal.is_idle():
                return False
            batch = journal.take()
        try:
            self._store.apply(batch)
        except StoreError as error:
            self._store.recover()
            with self._wakeup:
                journal.failed(batch, error, self._now())
                self._settle()
                return not (self._is_closing and journal.due > self._now())
        with self._wakeup:
            journal.committed(batch, self._now())
            self._settle()
        return True

    def close(self, timeout: float) -> None:
        """Write what is left, close the store. Not under the lock."""
        with self._wakeup:
            self._is_closing = True
            self._wakeup.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.warning("linkbox: the disk does not answer; the store is closed when it does")

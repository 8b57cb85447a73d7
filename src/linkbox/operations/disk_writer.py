"""The writer of the store: a thread or task of its own, so that no other one waits for the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from linkbox import logs
from linkbox.core.decoding import Decoding
from linkbox.core.durable.journal import Journal
from linkbox.core.durable.recovery import Left, restore
from linkbox.core.endpoint import ClientCore, EndpointCore, ServerCore
from linkbox.core.wait_queue import Predicate, WaitQueue
from linkbox.errors import StoreError
from linkbox.operations.runtime import Runtime, Service
from linkbox.operations.steps import NEVER, Call, Operation, Wait
from linkbox.operations.storing import Opening
from linkbox.text import text_of

if TYPE_CHECKING:  # load SQLite only for a store
    from linkbox.store.sqlite import Store


class DiskWriter(Predicate):
    """Writes the batches of the journal, and reports the results to it. As a predicate: is a batch due?"""

    def __init__(self, core: EndpointCore, runtime: Runtime) -> None:
        self._core = core
        self._runtime = runtime
        self._now = runtime.now
        self._queue = WaitQueue()
        self._is_closing = False
        self._until = NEVER
        self._journal: Journal | None = None
        self._store: Store | None = None
        self.service: Service | None = None

    def wake(self) -> None:
        """Wake the writer: a batch is due earlier than before."""
        self._core.effects.to_wake.append(self._queue)

    def take_up(self, opening: Opening, left: Left, decoding: Decoding | None) -> Journal:
        """Start with the content of the opened store."""
        core = self._core
        assert isinstance(core, ClientCore | ServerCore)
        core.mailbox.clear()
        self._store = opening.store
        self._journal = restore(core, left, decoding, self.wake, self._now())
        return self._journal

    def start(self) -> None:
        """Start writing."""
        self.service = self._runtime.spawn(self._run, "store")

    def holds(self) -> bool:
        assert self._journal is not None
        return self._journal.due < self._until or self._is_closing

    def _run(self) -> Operation[None]:
        store, journal = self._store, self._journal
        assert store is not None and journal is not None
        try:
            while (yield from self._write_next(store, journal)):
                pass
        except BaseException as error:
            if self._runtime.must_pass(error):  # the event loop is torn down
                store.close()
            raise
        yield Call(self._runtime.blocking, store.close)

    def _write_next(self, store: Store, journal: Journal) -> Operation[bool]:
        """Wait for a batch and write it. False when there will be no more."""
        while self._now() < journal.due and not self._is_closing:
            self._until = journal.due
            holds = yield Wait(self._queue, self, journal.due, False)
            if not holds and self._now() < journal.due:
                self._is_closing = True  # the endpoint is closed: no time is left
        if self._is_closing and journal.is_idle():
            return False
        batch = journal.take()
        _, raised = yield Call(self._runtime.blocking, _tried, store.apply, batch)
        if raised is not None:
            error = self._as_store_error(raised, "write to the store")
            may_help, raised = yield Call(self._runtime.blocking, _tried, store.recover)
            if raised is not None:
                self._as_store_error(raised, "recover the store")
            journal.failed(batch, error, self._now())
            self._runtime.update()
            return may_help or not (self._is_closing and journal.due > self._now())
        journal.committed(batch, self._now())
        self._runtime.update()
        # Received messages that find no room are not acknowledged: their sender keeps them.
        return not (self._is_closing and journal.error is not None and journal.due > self._now())

    def _as_store_error(self, error: BaseException, what: str) -> StoreError:
        """The error for those who wait for the disk. One that the store does not expect is survived."""
        if isinstance(error, StoreError):
            return error
        self._runtime.survive("the disk writer", f"unexpected error: cannot {what}", error)
        return StoreError(f"cannot {what}: {type(error).__name__}: {text_of(error)}")

    def close(self, timeout: float) -> Operation[None]:
        """Write what is left, then close the store."""
        self._is_closing = True
        self.wake()
        self._runtime.settle()
        if self.service is not None and not (yield Call(self._runtime.wait_for, self.service, timeout)):
            logs.write(logs.WARNING, "the disk does not respond; the store will be closed when it does")


def _tried(function: Callable[..., Any], *arguments: Any) -> tuple[Any, BaseException | None]:
    """Call it; return its result, and what it raised. Raised in the operation, it could look like its end."""
    try:
        return function(*arguments), None
    except BaseException as error:
        return None, error

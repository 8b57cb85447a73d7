"""A wire whose ends may have stores: the disk writes when it is told, and a process may die at any step."""

from __future__ import annotations

import sqlite3
import weakref
from pathlib import Path
from typing import Any

from linkbox.core.decoding import Decoding
from linkbox.core.durable.journal import Batch
from linkbox.core.durable.recovery import restore
from linkbox.core.endpoint_core import EndpointCore
from linkbox.errors import StoreError
from linkbox.store.slices import Slices
from linkbox.store.sqlite import Store
from tests.core.wire import Wire, decode


class MemoryStore(Store):
    """The real store, on a disk that outlives the processes of the test."""

    def __init__(self, **label: str) -> None:
        self.path = Path("memory")
        # Of any thread: garbage is collected on each of them.
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._slices = Slices()
        self._make(label)
        self._about(knows_since="0.0")  # the clock of the wire begins later

    def apply(self, batch: Batch) -> None:
        self._reserve = NoReserve()
        super().apply(batch)

    def rows(self, query: str) -> list[Any]:
        """What is on the disk."""
        return self._connection.execute(query).fetchall()

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        tables = ("session", "spool", "inbox", "doubt")
        return {table: self.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}


class NoReserve:
    def keep(self, size: int) -> None:
        """There is always room."""

    def try_to_keep(self) -> None:
        """The same."""


def close(stores: list[MemoryStore]) -> None:
    for store in stores:
        store._connection.close()


class StoredWire(Wire):
    """``stores``: the sides ("client", "server") that have one."""

    def __init__(self, *args: Any, stores: set[str], **options: Any) -> None:
        self.stores = {side: MemoryStore() for side in sorted(stores)}
        self._close = weakref.finalize(self, close, list(self.stores.values()))
        self.writes = True
        """False: the disk is slow; see `write`."""
        super().__init__(*args, **options)
        self.take_up("server")
        self.take_up("client")

    def close(self) -> None:
        """Give the stores back; done anyway once nobody has this wire any more."""
        self._close()

    def hub(self, side: str) -> EndpointCore:
        return self.client if side == "client" else self.server

    def take_up(self, side: str) -> None:
        """What a front end does when it starts with a store."""
        hub = self.hub(side)
        if side in self.stores:
            left = self.stores[side].load(hub.context.incarnation, hub.context.settings.wall)
            restore(hub, left, Decoding(decode, None, 1 << 40), lambda: None, self.now)  # type: ignore[arg-type]

    def settle(self) -> None:
        super().settle()
        for _ in range(1000):
            if not self.writes or not any(self.write(side) for side in ("client", "server")):
                return
            super().settle()
        raise AssertionError("a disk that never comes to rest")

    def write(self, side: str, is_full: bool = False) -> bool:
        """The disk writes a batch, or has no room for it. Was there anything to write?"""
        journal = self.hub(side).journal
        if journal is None or journal.is_idle():
            return False
        batch = journal.take()
        if is_full:
            journal.failed(batch, StoreError("full"), self.now)
        else:
            self.stores[side].apply(batch)
            journal.committed(batch, self.now)
        super().settle()
        return True

    def crash(self, side: str, is_written: bool = False) -> None:
        """The process is killed, and another one started. ``is_written``: right after a commit."""
        self.now += 0.001
        old = self.hub(side)
        if is_written and old.journal is not None:
            self.stores[side].apply(old.journal.take())
        self.undecoded = [each for each in self.undecoded if each[0] is not old]
        for end in [each for each in self.ends if each.hub is not old and not each.gone]:
            end.incoming.clear()
        self.forget(old)
        for end in self.ends:
            end.other.gone = end.reset = True
        if side == "client":
            self.client = self.make_client()
        else:
            self.server = self.make_server()
        self.take_up(side)
        self.settle()

"""``store=``: what it may be given to, opening it, and what an accepted message is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linkbox.core.backoff import Backoff
from linkbox.core.durable.entries import Spool
from linkbox.core.durable.journal import Journal
from linkbox.core.durable.recovery import Left
from linkbox.core.patterns import Pattern
from linkbox.errors import StateError

if TYPE_CHECKING:  # SQLite is loaded only where there is a store
    from linkbox.store.sqlite import Store

DISK_WAIT = 5.0
"""Seconds that even a stop out of time gives to the disk."""
BULK, BULK_BYTES = 10_000, 4 * 1024 * 1024
"""Messages, and bytes, that ``send_many`` hands to the store at a time: they share a commit."""
STORE_LINGER = 1.0
"""Seconds a pusher with a store keeps an idle connection: a new one costs commits."""


def store_path(
    store: str | os.PathLike[str] | None, pattern: Pattern, is_plain: bool, overflow: str
) -> Path | None:
    """Where the store is; ValueError where there can be none."""
    if store is None:
        return None
    if not isinstance(store, str | os.PathLike) or not os.fspath(store):
        raise TypeError(f"store={store!r}: the path of a file is needed")
    if pattern.asks:
        raise ValueError(
            "store= is for P2P and P2M: an ask is never executed twice, and its asker waits for the answer; "
            "one that was half done when the power went could only be done again, or be lost"
        )
    if is_plain:
        raise ValueError("store= needs framing=Linked(): a plain framing has no acknowledgements")
    if overflow != "block":
        raise ValueError(f'store= keeps every message: overflow="block" is needed, not {overflow!r}')
    return Path(os.path.abspath(store))


def check_reconnect(reconnect: Backoff | None) -> None:
    """What is in a store goes out however long that takes."""
    if reconnect is None or reconnect.attempts is not None:
        raise ValueError("store= needs reconnect=Backoff() without a limit of attempts")


class Opening:
    """Opens a store and reads it, on whatever thread may block."""

    def __init__(
        self,
        path: Path,
        label: dict[str, str],
        notes: dict[str, str],
        before: Journal | None,
        incarnation: str,
    ) -> None:
        self._path = path
        self._label = label
        self._notes = notes
        self._before = before
        self._incarnation = incarnation
        self.store: Store | None = None

    def run(self) -> Left:
        """Open it, and return what is in it. `StoreError` says why not.

        The notes are written into it; and before it is read, what the last life of this endpoint still wanted
        on disk.
        """
        from linkbox.store.sqlite import Store

        self.store = store = Store(self._path, self._label)
        try:
            store.note(self._notes)
            if self._before is not None and not self._before.is_idle():
                store.apply(self._before.take())
            return store.load(self._incarnation)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the store again."""
        store, self.store = self.store, None
        if store is not None:
            store.close()


def accepted(entry: Spool) -> list[Any]:
    """The receipts of messages that are on disk now; raises why they are not."""
    if entry.error is not None:
        raise entry.error
    if not entry.is_settled:
        raise StateError("stopped while the message was being written: it may be in the store, or not")
    return entry.messages or []


class Bulk:
    """Gathers messages for one commit."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self._size = 0

    def add(self, payload: bytes) -> bool:
        """One more. Is that enough for now?"""
        self.payloads.append(payload)
        self._size += len(payload)
        return len(self.payloads) >= BULK or self._size >= BULK_BYTES

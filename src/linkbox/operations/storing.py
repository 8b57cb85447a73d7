"""``store=``: checks the option, opens the store, and returns the receipts of stored messages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from linkbox.core.backoff import Backoff
from linkbox.core.durable.entries import Spool
from linkbox.core.durable.journal import Journal
from linkbox.core.patterns import Pattern
from linkbox.errors import StateError

if TYPE_CHECKING:  # load SQLite only for a store
    from pathlib import Path

    from linkbox.core.durable.recovery import Left
    from linkbox.store.sqlite import Store

DISK_WAIT = 5.0
"""Seconds to wait for the disk in a stop, even after its timeout."""
BULK, BULK_BYTES = 10_000, 4 * 1024 * 1024
"""Messages and bytes that ``send_many`` gives to the store at a time: they share a commit."""
STORE_LINGER = 1.0
"""Seconds that a client with a store keeps an idle connection: a new one costs commits."""


def store_path(
    store: str | os.PathLike[str] | None, side: str, pattern: Pattern, is_plain: bool, overflow: str
) -> Path | None:
    """Return the path of the store; ValueError if this endpoint cannot have one."""
    if store is None:
        return None
    if not isinstance(store, str | os.PathLike) or not os.fspath(store):
        raise TypeError(f"store={store!r}: the path of a file is needed")
    if pattern.asks:
        raise ValueError(
            "store= is for P2P and P2M: a request is never executed twice, and its caller waits; "
            "after a crash, one that was partly executed could only be repeated or lost"
        )
    if is_plain and side == "client":
        raise ValueError(
            "store= of a client needs framing=Linked(): a plain framing has no acknowledgements, so nobody "
            "could say what must be sent again"
        )
    if overflow != "block":
        raise ValueError(f'store= keeps every message: overflow="block" is needed, not {overflow!r}')
    from pathlib import Path

    return Path(os.path.abspath(store))


def check_reconnect(reconnect: Backoff | None, has_store: bool) -> None:
    """A store keeps messages until they are sent, so the attempts to reconnect must not end."""
    if has_store and (reconnect is None or reconnect.attempts is not None):
        raise ValueError("store= needs reconnect=Backoff() without a limit of attempts")


class Opening:
    """Opens a store and reads it, on a thread that may block."""

    def __init__(
        self,
        path: Path,
        label: dict[str, str],
        notes: dict[str, str],
        before: Journal | None,
        incarnation: str,
        wall: float,
    ) -> None:
        self._path = path
        self._label = label
        self._notes = notes
        self._before = before
        self._incarnation = incarnation
        self._wall = wall
        self.store: Store | None = None

    def run(self) -> Left:
        """Open the store and return its content. Raises `StoreError`.

        Before it is read, the notes are written, and what the journal had not written at the last stop.
        """
        from linkbox.store.sqlite import Store

        self.store = store = Store(self._path, self._label)
        try:
            store.note(self._notes)
            if self._before is not None and not self._before.is_idle():
                store.apply(self._before.take())
            return store.load(self._incarnation, self._wall)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the store again."""
        store, self.store = self.store, None
        if store is not None:
            store.close()


def accepted(entry: Spool) -> list[Any]:
    """Return the receipts of messages that are on disk; raise the error if they could not be written."""
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
        """Add a message. Returns whether the bulk is full."""
        self.payloads.append(payload)
        self._size += len(payload)
        return len(self.payloads) >= BULK or self._size >= BULK_BYTES

"""``send --store`` and ``spool flush``: write messages to disk first, then send them."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from time import monotonic, sleep
from typing import Any, BinaryIO

import typer

from linkbox import (
    ClientP2M,
    DeadlineExceeded,
    Event,
    EventKind,
    Framing,
    Refused,
    SessionLost,
)
from linkbox.cli.status import LINK_FAILED, WrongUse, say
from linkbox.core.backoff import TRY_AGAIN
from linkbox.operations.storing import BULK
from linkbox.store.reader import Reader

PAUSE = 0.2
"""Seconds between two checks whether the server is connected."""


def check_store(store: Path | None, framing: Framing) -> None:
    """Raise `WrongUse` for a store over a framing without acknowledgements."""
    if store is not None and not framing.linked:
        raise WrongUse("--store needs --framing linked: a plain framing has no acknowledgements")


def count_in(path: Path, part: str) -> int:
    """Count the messages in one part of a store; 0 if the store does not exist."""
    if not path.exists() or not path.stat().st_size:
        return 0
    with Reader(path) as reader:
        return reader.count(part)


def plural(count: int, what: str = "message") -> str:
    """``1 message``, ``2 messages``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


class Commits:
    """A file whose messages go to the store of a client, in batches with one commit each.

    It commits the messages of one read before the next read; with ``most``, once they have that many bytes.
    """

    def __init__(self, client: ClientP2M[Any], source: BinaryIO, most: int) -> None:
        self.count: int = 0
        self._client = client
        self._source = source
        self._most = most
        self._read = 0
        self._waiting: list[Any] = []

    def read(self, size: int = -1) -> bytes:
        """Read like a file."""
        return self._counted(self._source.read, size)

    def read1(self, size: int = -1) -> bytes:
        """Read like a buffered file."""
        return self._counted(getattr(self._source, "read1", self._source.read), size)

    def _counted(self, read: Any, size: int) -> bytes:
        if self._waiting and self._read >= self._most:
            self.commit()
        data: bytes = read(size)
        self._read += len(data)
        return data

    def add(self, message: Any) -> None:
        """Add a message to the batch."""
        self._waiting.append(message)
        if len(self._waiting) >= BULK:
            self.commit()

    def commit(self) -> None:
        """Write the batch to disk."""
        waiting, self._waiting, self._read = self._waiting, [], 0
        self.count += self._client.send_many(waiting)


class Delivery:
    """Tracks the delivery of the messages in a client's store, from before start() to after stop()."""

    def __init__(self, client: Any, path: Path, timeout: float) -> None:
        self._client = client
        self._path = path
        self._timeout = timeout
        self._doubt = count_in(path, "doubt")
        self._refusal: Exception | None = None
        self._rejection: Exception | None = None
        self._rejected = 0
        self._was_there = self._has_waited = False
        client.add_callback(self._note, EventKind.ERROR, EventKind.CONNECTED, EventKind.RESUMED)

    def _note(self, event: Event) -> None:
        if event.kind is not EventKind.ERROR:
            self._was_there, self._refusal = True, None
        elif isinstance(event.error, Refused):
            self._refusal = event.error
        elif event.receipt is not None and not isinstance(event.error, SessionLost):
            self._rejection = self._rejection or event.error
            self._rejected += 1

    def wait(self) -> None:
        """Wait until the server has everything, is away longer than the timeout, or rejects the client."""
        there = monotonic()
        while not self._flush(min(PAUSE, self._timeout)):
            if self._client.peers():
                there = monotonic()
            elif monotonic() - there >= self._timeout or self._is_final():
                self._has_waited = True
                return

    def _flush(self, timeout: float) -> bool:
        if isinstance(self._client, ClientP2M):
            try:
                self._client.flush(timeout)
            except DeadlineExceeded:
                return False
            return True
        peers = self._client.statistics().peers  # P2P has no flush(): acknowledgements arrive by themselves
        if any(not each.unacknowledged for each in peers.values()):
            return True
        sleep(timeout)
        return False

    def _is_final(self) -> bool:
        return isinstance(self._refusal, Refused) and self._refusal.code not in TRY_AGAIN

    def _why(self) -> str:
        if self._refusal is not None:
            return str(self._refusal)
        address = self._client.address
        if self._was_there:
            return f"{address} has not acknowledged them"
        if self._has_waited:
            return f"no server answered at {address} within {self._timeout:g} s"
        return f"{address} has not answered yet"

    def report(self) -> bool:
        """Report undelivered messages, and what to do. Call after stop(). True if all were delivered."""
        path, address = self._path, self._client.address
        left, doubt = count_in(path, "spool"), count_in(path, "doubt") - self._doubt
        shown = quote(str(path))
        if left:
            later = f"`linkbox spool flush {shown}` sends them later"
            say(f"{plural(left)} kept in {path}: {self._why()}; {later}")
        if doubt > 0:
            say(
                f"{address} has lost the session; {plural(doubt)} may or may not have arrived: "
                f"`linkbox spool export --doubt {shown}` shows them"
            )
        if self._rejected:
            say(f"{plural(self._rejected)} rejected by {address}: {self._rejection}")
        return not (left or doubt > 0 or self._rejected)


def end_with(is_well: bool) -> None:
    """Exit with status 1 if messages were not delivered."""
    if not is_well:
        raise typer.Exit(LINK_FAILED)

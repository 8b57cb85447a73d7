"""Reads a store without locking it: while an endpoint uses it, and as much as possible of a damaged one.

How to think about it. The file is opened read-only, without the store's lock; SQLite shows the last commit.
Each page of rows is read in a separate transaction, so that a slow reader does not make the file grow.
Where SQLite reports damage, the reader searches for the next readable row, first in growing steps, then by
bisection: reading a row id in a damaged page fails, and reading one after it works.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from linkbox.core.durable.rows import Row, units_of
from linkbox.errors import StoreError
from linkbox.store.checks import checksum
from linkbox.store.sqlite import APPLICATION, VERSION, translate_errors
from linkbox.store.tables import MASK, NUMBERS, decode_row

PARTS = {"spool": "in the spool", "inbox": "in the inbox", "doubt": "in doubt"}
"""The tables with messages, and how messages to the user refer to them."""
PAGE_COUNT = 256
PAGE_BYTES = 4 * 1024 * 1024
_LAST = (1 << 63) - 1

CHECKED = {"spool": "id, total, 0.0", "inbox": "id, turn, at", "doubt": "0, 0, at"}
"""The columns that the checksum of a row covers besides the payload (see `checksum`)."""
_Found = tuple[int, bool, bytes]
"""A row: its id, whether its checksum is right, its payload."""


class Kept(NamedTuple):
    """A message in a store; or several damaged ones that cannot be read."""

    what: str
    payload: bytes
    damage: str | None
    """What is wrong with it, or None. If it is damaged, the payload is not valid."""


class Amount(msgspec.Struct, frozen=True):
    """The amount of messages in one part of a store."""

    messages: int = 0
    bytes: int = 0
    since: float | None = None
    """Seconds since the epoch: no message is older. For the spool: when its oldest session began."""


class Summary(msgspec.Struct, frozen=True):
    """The contents of a store in numbers."""

    sessions: int
    spool: Amount
    inbox: Amount
    doubt: Amount


class Reader:
    """A store, open for reading. `StoreError` if the file is not a store, OSError if it does not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        try:
            self._connection = self._connect()
            try:
                self._check()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"the store {path} cannot be read: {error}; `.recover` of the sqlite3 tool may save parts"
            ) from error
        self.about: dict[str, str] = {}
        """Side, pattern, format and so on; empty if they cannot be read."""
        try:
            self.about = dict(self._connection.execute("SELECT name, value FROM about"))
        except sqlite3.DatabaseError:
            pass  # The messages may still be readable.

    def _connect(self) -> sqlite3.Connection:
        url = f"file:{quote(os.path.abspath(self.path))}?mode=ro"
        connection = sqlite3.connect(url, uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA application_id")
        except sqlite3.OperationalError:
            connection.close()
            if self.path.with_name(self.path.name + "-wal").exists():
                raise
            # The folder is not writable, so no process uses the store: the file is complete.
            connection = sqlite3.connect(f"{url}&immutable=1", uri=True, isolation_level=None)
        return connection

    def _check(self) -> None:
        execute = self._connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        if execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise StoreError(f"{self.path} is not a store: it is another program's database, or empty")
        if version != VERSION:
            raise StoreError(
                f"the store {self.path} has version {version}; this linkbox reads version {VERSION}"
            )

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    # -- the amounts ----------------------------------------------------------------------------------

    def summary(self) -> Summary:
        """Count what is in the store. `StoreError` if that cannot be read."""
        with translate_errors(self.path, "read"):
            self._connection.execute("BEGIN")
            try:
                rows = self._sessions()
                return Summary(
                    sum(not row.over for row in rows),
                    self._spool(rows),
                    self._amount("inbox"),
                    self._amount("doubt"),
                )
            finally:
                self._connection.execute("ROLLBACK")

    def count(self, part: str) -> int:
        """Count the messages in one part."""
        with translate_errors(self.path, "read"):
            return int(self._connection.execute(f"SELECT count(*) FROM {part}").fetchone()[0])

    def _sessions(self, are_needed: bool = True) -> list[Row]:
        """Read the sessions. A damaged one is a `StoreError`, or is skipped if not ``are_needed``."""
        rows = []
        for key, text, crc in self._connection.execute("SELECT key, row, crc FROM session"):
            try:
                if checksum(text.encode(), key) != crc:
                    raise ValueError("wrong checksum")
                rows.append(decode_row(text))
            except (msgspec.MsgspecError, ValueError, AttributeError, struct.error) as error:
                if are_needed:
                    raise StoreError(f"the store {self.path} is damaged: session {key}: {error}") from error
        return rows

    def _amount(self, part: str) -> Amount:
        query = f"SELECT count(*), coalesce(sum(length(payload)), 0), min(at) FROM {part}"
        return Amount(*self._connection.execute(query).fetchone())

    def _spool(self, rows: list[Row]) -> Amount:
        count = nbytes = 0
        times = []
        for row in rows:
            first = row.key << NUMBERS
            found = self._connection.execute(
                "SELECT count(*), coalesce(sum(length(payload)), 0) FROM spool WHERE id BETWEEN ? AND ?",
                (first, first + MASK),
            ).fetchone()
            count += found[0]
            nbytes += found[1]
            if found[0]:
                times.append(self._began(row))
        return Amount(count, nbytes, min(times, default=None))

    def _began(self, row: Row) -> float:
        """The start of a session. A server cannot spool anything before its peer has connected."""
        is_client = self.about.get("side") == "client"
        began = row.began if row.began > 0 else row.connected_at
        return min(began, row.connected_at) if is_client else row.connected_at

    # -- the messages -----------------------------------------------------------------------------------

    def messages(self, part: str) -> Iterator[Kept]:
        """Yield the messages of one of `PARTS`, in order. Damaged ones are reported and skipped."""
        begun = self._begun() if part == "inbox" else {}
        before: _Found | None = None
        for found in self._rows(part):
            if isinstance(found, Kept):
                before = None
                yield found
                continue
            id, is_intact, payload = found
            if not is_intact:
                yield Kept(_name(part, id), b"", "is damaged (wrong checksum)")
            else:
                if part == "spool" and (gap := self._gap(before, found)) is not None:
                    yield gap
                yield Kept(_name(part, id), payload[begun.get(id, 0) :], None)
            before = found
        if part == "spool":
            yield from self._missing_ends()

    def _begun(self) -> dict[int, int]:
        """The number of bytes already taken of each partly taken message in the inbox."""
        try:
            rows = self._sessions(are_needed=False)
        except sqlite3.DatabaseError:
            return {}
        return {(row.key << NUMBERS) + row.given + 1: row.start for row in rows if row.start}

    def _gap(self, before: _Found | None, found: _Found) -> Kept | None:
        """Report messages that are missing between two rows."""
        key, end = found[0] >> NUMBERS, (found[0] & MASK) - units_of(len(found[2]))
        if before is None or before[0] >> NUMBERS != key or end <= before[0] & MASK:
            return None
        try:
            sessions = [row for row in self._sessions(are_needed=False) if row.key == key]
        except sqlite3.DatabaseError:
            sessions = []
        if not sessions or any(row.over or row.acked >= end for row in sessions):
            return None  # They were acknowledged in the meantime.
        return Kept(f"the messages before {_name('spool', found[0])}", b"", "are missing")

    def _missing_ends(self) -> list[Kept]:
        """Report sessions whose last messages are missing, as far as that can be detected."""
        self._connection.execute("BEGIN")
        try:
            rows = self._sessions(are_needed=False)
            return [gone for row in rows if (gone := self._missing_end(row)) is not None]
        except sqlite3.DatabaseError:
            return []
        finally:
            self._connection.execute("ROLLBACK")

    def _missing_end(self, row: Row) -> Kept | None:
        first = row.key << NUMBERS
        last = self._connection.execute(
            "SELECT max(id) FROM spool WHERE id BETWEEN ? AND ?", (first, first + MASK)
        ).fetchone()[0]
        there = row.acked if last is None else last & MASK
        if row.over or there >= row.next:
            return None
        return Kept(f"the messages after {_name('spool', first + there)}", b"", "are missing")

    def _rows(self, part: str) -> Iterator[_Found | Kept]:
        after = -1
        while True:
            rows, is_damaged = self._page(part, after + 1)
            last: list[_Found] = []
            yield from rows
            if rows:
                after = rows[-1][0]
            if is_damaged:
                # The module sqlite3 reads one row ahead: the last row before the damage must be read alone.
                last, is_damaged = self._page(part, after + 1, 1)
                yield from last
                if last:
                    after = last[0][0]
            if is_damaged:
                beyond = self._beyond(part, after)
                yield _unreadable(part, after, beyond)
                if beyond is None:
                    return
                after = beyond - 1
            elif not rows and not last:
                return

    def _page(self, part: str, first: int, most: int = PAGE_COUNT) -> tuple[list[_Found], bool]:
        """Read rows from the id ``first`` on. Also returns True if SQLite reported damage."""
        rows: list[_Found] = []
        room = PAGE_BYTES
        try:
            found = self._connection.execute(
                f"SELECT id, crc, payload, {CHECKED[part]} FROM {part} WHERE id >= ? ORDER BY id LIMIT ?",
                (first, most),
            )
            for id, crc, payload, place, mark, at in found:
                if id < first:
                    return rows, True  # a damaged page may contain any id: never read in circles
                first = id + 1
                if not isinstance(payload, bytes):
                    payload = b""  # the row is damaged
                rows.append((id, _is_intact(payload, crc, place, mark, at), payload))
                room -= len(payload)
                if room <= 0:
                    break
            found.close()
        except sqlite3.DatabaseError:
            return rows, True
        return rows, False

    def _beyond(self, part: str, after: int) -> int | None:
        """The id of the first readable row after the damage, which begins after row ``after``; or None."""
        low, high, step = after, min(after + 1, _LAST), 1
        while (tried := self._page(part, high, 1))[1]:
            if high == _LAST:
                return None
            low, step = high, step * 2
            high = min(after + step, _LAST)
        while high - low > 1:
            middle = (low + high) // 2
            there = self._page(part, middle, 1)
            if there[1]:
                low = middle
            else:
                high, tried = middle, there
        rows = tried[0]
        return rows[0][0] if rows else None


def _is_intact(payload: bytes, crc: Any, place: Any, mark: Any, at: Any) -> bool:
    try:
        return bool(checksum(payload, place, mark, at) == crc)
    except (struct.error, TypeError):
        return False  # the row is damaged


def _name(part: str, id: int) -> str:
    if part == "doubt":
        return f"message {id} {PARTS[part]}"
    return f"message {id & MASK} of session {id >> NUMBERS} {PARTS[part]}"


def _unreadable(part: str, after: int, beyond: int | None) -> Kept:
    begin = "from the beginning" if after < 0 else f"after {_name(part, after)}"
    end = "to the end" if beyond is None else f"up to {_name(part, beyond)}"
    return Kept(f"the messages {PARTS[part]}, {begin} {end},", b"", "cannot be read")

"""Reading a store without owning it: also while an endpoint uses it, and what can be read of a damaged one.

How to think about it. The file is opened read-only, without the store's lock; SQLite shows the last commit.
Each page of rows is a transaction of its own, so that a slow reader does not make the file grow. Where SQLite
cannot read on, the next row that it can read is searched, first in growing steps, then by halving the last
one: row ids that lie in a damaged page fail, and those behind it do not.
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

from linkbox.core.durable.record import Row, units_of
from linkbox.errors import StoreError
from linkbox.store.checks import seal
from linkbox.store.sqlite import APPLICATION, MASK, NUMBERS, VERSION, decode_row, told

PARTS = {"spool": "in the spool", "inbox": "in the inbox", "doubt": "in doubt"}
"""The tables with messages, and how to speak of what is in them."""
PAGE_COUNT = 256
PAGE_BYTES = 4 * 1024 * 1024
_LAST = (1 << 63) - 1

SEALED = {"spool": "id, total, 0.0", "inbox": "id, turn, at", "doubt": "0, 0, at"}
"""What the checksum of a row covers beside the payload (see `seal`)."""
_Found = tuple[int, bool, bytes]
"""Its id, whether it is as it was written, its payload."""


class Kept(NamedTuple):
    """A message that a store keeps; or several, of which nothing but their damage is known."""

    what: str
    payload: bytes
    damage: str | None
    """What is wrong with it; then the payload is not what was written."""


class Amount(msgspec.Struct, frozen=True):
    """How much is in one part of a store."""

    messages: int = 0
    bytes: int = 0
    since: float | None = None
    """Seconds since the epoch: nothing in it is older. Of the spool: when its oldest session began."""


class Summary(msgspec.Struct, frozen=True):
    """What is in a store."""

    sessions: int
    spool: Amount
    inbox: Amount
    doubt: Amount


class Reader:
    """A store, open for reading. `StoreError` if it is none; OSError if nothing is there."""

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
                f"the store {path} cannot be read: {error}; `.recover` of the tool sqlite3 may find something"
            ) from error
        self.about: dict[str, str] = {}
        """Side, pattern, format and so on; empty where that cannot be read."""
        try:
            self.about = dict(self._connection.execute("SELECT name, value FROM about"))
        except sqlite3.DatabaseError:
            pass  # The messages may be well.

    def _connect(self) -> sqlite3.Connection:
        url = f"file:{quote(os.path.abspath(self.path))}?mode=ro"
        connection = sqlite3.connect(url, uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA application_id")
        except sqlite3.OperationalError:
            connection.close()
            if self.path.with_name(self.path.name + "-wal").exists():
                raise
            # A folder that cannot be written, so that nobody uses it: the file is all there is.
            connection = sqlite3.connect(f"{url}&immutable=1", uri=True, isolation_level=None)
        return connection

    def _check(self) -> None:
        execute = self._connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        if execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise StoreError(f"{self.path} is no store: it is a database of something else, or an empty one")
        if version != VERSION:
            raise StoreError(f"the store {self.path} has version {version}; this linkbox reads {VERSION}")

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    # -- what is there ----------------------------------------------------------------------------------

    def summary(self) -> Summary:
        """How much is in it. `StoreError` if that cannot be read."""
        with told(self.path, "read"):
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
        """How many messages are in one part."""
        with told(self.path, "read"):
            return int(self._connection.execute(f"SELECT count(*) FROM {part}").fetchone()[0])

    def _sessions(self, are_needed: bool = True) -> list[Row]:
        """The sessions; a damaged one is a `StoreError`, or left out."""
        rows = []
        for key, text, crc in self._connection.execute("SELECT key, row, crc FROM session"):
            try:
                if seal(text.encode(), key) != crc:
                    raise ValueError("it is not what was written")
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
        """A server cannot have spooled anything before its peer was there."""
        is_client = self.about.get("side") == "client"
        return min(row.began or row.connected_at, row.connected_at) if is_client else row.connected_at

    # -- the messages -----------------------------------------------------------------------------------

    def messages(self, part: str) -> Iterator[Kept]:
        """The messages of one of `PARTS`, in order. What is damaged is named, and what follows it is read."""
        begun = self._begun() if part == "inbox" else {}
        before: _Found | None = None
        for found in self._rows(part):
            if isinstance(found, Kept):
                before = None
                yield found
                continue
            id, is_whole, payload = found
            if not is_whole:
                yield Kept(_name(part, id), b"", "is not what was written")
            else:
                if part == "spool" and (gap := self._gap(before, found)) is not None:
                    yield gap
                yield Kept(_name(part, id), payload[begun.get(id, 0) :], None)
            before = found
        if part == "spool":
            yield from self._missing_ends()

    def _begun(self) -> dict[int, int]:
        """How many bytes were taken already of a message in the inbox."""
        try:
            rows = self._sessions(are_needed=False)
        except sqlite3.DatabaseError:
            return {}
        return {(row.key << NUMBERS) + row.given + 1: row.start for row in rows if row.start}

    def _gap(self, before: _Found | None, found: _Found) -> Kept | None:
        """Are messages missing in between?"""
        key, end = found[0] >> NUMBERS, (found[0] & MASK) - units_of(len(found[2]))
        if before is None or before[0] >> NUMBERS != key or end <= before[0] & MASK:
            return None
        try:
            sessions = [row for row in self._sessions(are_needed=False) if row.key == key]
        except sqlite3.DatabaseError:
            sessions = []
        if not sessions or any(row.over or row.acked >= end for row in sessions):
            return None  # It was acknowledged meanwhile.
        return Kept(f"what stood before {_name('spool', found[0])}", b"", "is gone")

    def _missing_ends(self) -> list[Kept]:
        """Sessions whose last messages are gone, as far as that can be seen."""
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
        return Kept(f"what stood after {_name('spool', first + there)}", b"", "is gone")

    def _rows(self, part: str) -> Iterator[_Found | Kept]:
        after = -1
        while True:
            rows, is_damaged = self._page(part, after + 1)
            last: list[_Found] = []
            yield from rows
            if rows:
                after = rows[-1][0]
            if is_damaged:
                # The module sqlite3 is one row ahead: the last one before the damage has to be read alone.
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
        """Rows from that id on, and whether SQLite could not read on."""
        rows: list[_Found] = []
        room = PAGE_BYTES
        try:
            found = self._connection.execute(
                f"SELECT id, crc, payload, {SEALED[part]} FROM {part} WHERE id >= ? ORDER BY id LIMIT ?",
                (first, most),
            )
            for id, crc, payload, place, mark, at in found:
                if id < first:
                    return rows, True  # a damaged page may say anything: never read in circles
                first = id + 1
                if not isinstance(payload, bytes):
                    payload = b""  # what SQLite read is no row of ours
                rows.append((id, _is_sealed(payload, crc, place, mark, at), payload))
                room -= len(payload)
                if room <= 0:
                    break
            found.close()
        except sqlite3.DatabaseError:
            return rows, True
        return rows, False

    def _beyond(self, part: str, after: int) -> int | None:
        """The id of the first row behind the damage, which begins after that one; None: there is none."""
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


def _is_sealed(payload: bytes, crc: Any, place: Any, mark: Any, at: Any) -> bool:
    try:
        return bool(seal(payload, place, mark, at) == crc)
    except (struct.error, TypeError):
        return False  # what SQLite read is no row of ours


def _name(part: str, id: int) -> str:
    if part == "doubt":
        return f"message {id} {PARTS[part]}"
    return f"message {id & MASK} of session {id >> NUMBERS} {PARTS[part]}"


def _unreadable(part: str, after: int, beyond: int | None) -> Kept:
    begin = "from the beginning" if after < 0 else f"after {_name(part, after)}"
    end = "to the end" if beyond is None else f"up to {_name(part, beyond)}"
    return Kept(f"what stood {PARTS[part]}, {begin} {end},", b"", "cannot be read")

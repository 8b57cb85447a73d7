"""A store: one SQLite file, written by one thread at a time, one transaction for each batch.

How to think about it. What counts is on the disk when `apply` returns: the file is in WAL mode with
``synchronous=FULL``. A message's row id is ``session key << 40 | number``: so what was acknowledged or taken
goes with one range. Each payload carries its CRC-32; SQLite checks its own pages (``quick_check`` at every
opening). Whatever is found damaged is named in a `StoreError`, and nothing is skipped.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

import msgspec

from linkbox.core.journal import (
    FETCH_BYTES,
    FETCH_COUNT,
    Batch,
    Entry,
    Fetch,
    Inflow,
    Online,
    Restart,
    Spool,
)
from linkbox.core.record import Row, Stored, units_of
from linkbox.core.restoring import Left, Unread
from linkbox.errors import StoreError
from linkbox.store.files import Lock, Reserve, create

VERSION = 1
"""Of the tables. A store of another version is refused."""
APPLICATION = 0x6C6B6278  # "lkbx"
_NUMBERS = 40
_MASK = (1 << _NUMBERS) - 1

_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE session (key INTEGER PRIMARY KEY, row TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE spool (
    id INTEGER PRIMARY KEY, total INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY, turn INTEGER NOT NULL, at REAL NOT NULL, crc INTEGER NOT NULL,
    payload BLOB NOT NULL);
CREATE TABLE doubt (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL);
"""

_encode_row = msgspec.json.Encoder().encode
_decode_row = msgspec.json.Decoder(Row).decode


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    """SQLite's errors as ours: which store, what it was doing, what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        is_damaged = "malformed" in text or "not a database" in text
        hint = f"; `linkbox spool export {path}` saves what can be read" if is_damaged else ""
        raise StoreError(f"the store {path} cannot be {what}: {text}{hint}") from error
    except OSError as error:
        raise StoreError(f"the store {path} cannot be {what}: {error.strerror or error}") from error


def _first(key: int) -> int:
    return key << _NUMBERS


class Store:
    """An open store. ``label`` says what it is for: a store of something else is refused."""

    def __init__(self, path: Path, label: dict[str, str]) -> None:
        self.path = path
        create(path)
        self._lock = Lock(path.with_name(path.name + "-lock"))
        self._reserve = Reserve(path.with_name(path.name + "-reserve"))
        try:
            with _told(path, "opened"):
                self._connection = self._connect()
                try:
                    self._check(label)
                except BaseException:
                    self._connection.close()
                    raise
        except BaseException:
            self._lock.release()
            raise
        self._reserve.keep()
        self._turn = 0

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA cell_size_check=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, label: dict[str, str]) -> None:
        execute = self._connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._make(label)
            return
        if execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise StoreError(f"{self.path} is a database of something else: give another path for the store")
        if version != VERSION:
            raise StoreError(f"the store {self.path} has version {version}; this linkbox reads {VERSION}")
        verdict = execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreError(
                f"the store {self.path} is damaged: {verdict}; "
                f"`linkbox spool export {self.path}` saves what can be read"
            )
        there = dict(execute("SELECT name, value FROM about"))
        for name, value in label.items():
            if there.get(name) != value:
                raise StoreError(
                    f"the store {self.path} belongs to an endpoint with {name} {there.get(name)!r}, "
                    f"this one has {value!r}: each needs a store of its own"
                )

    def _make(self, label: dict[str, str]) -> None:
        about = {
            **label,
            "life": "0",
            "incarnation": "",
            "knows_since": repr(time.time()),
        }
        self._connection.executescript(
            f"BEGIN; {_TABLES} PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION}; COMMIT;"
        )
        self._connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())

    # -- opening --------------------------------------------------------------------------------------

    def load(self, incarnation: str) -> Left:
        """What an earlier life has left; a new life begins with this. ``incarnation`` names the first."""
        with _told(self.path, "read"), self._transaction():
            execute = self._connection.execute
            about = dict(execute("SELECT name, value FROM about"))
            life = int(about["life"]) + 1
            self._about(life=str(life), incarnation=about["incarnation"] or incarnation)
            self._turn = execute("SELECT coalesce(max(turn), 0) FROM inbox").fetchone()[0]
            return Left(
                life,
                about["incarnation"] or incarnation,
                float(about["knows_since"]),
                [self._row(*each) for each in execute("SELECT key, row, crc FROM session ORDER BY key")],
                list(self._unread()),
            )

    def _about(self, **values: str) -> None:
        self._connection.executemany(
            "UPDATE about SET value=? WHERE name=?", [(value, name) for name, value in values.items()]
        )

    def _row(self, key: int, text: str, crc: int) -> tuple[Row, int, int]:
        self._verify(text.encode(), crc, f"session {key}")
        row = _decode_row(text)
        count, nbytes, last = self._connection.execute(
            "SELECT count(*), coalesce(sum(length(payload)), 0), max(id) FROM spool WHERE id BETWEEN ? AND ?",
            (_first(key), _first(key) + _MASK),
        ).fetchone()
        if count and last != _first(key) + row.next:
            raise StoreError(
                f"the store {self.path} is damaged: the end of the spool of session {key} is gone"
            )
        return row, count, nbytes

    def _unread(self) -> Iterator[Unread]:
        starts = {row[0]: row[1] for row in self._connection.execute("SELECT key, row FROM session")}
        begun = {}
        for key, text in starts.items():
            row = _decode_row(text)
            if row.start:
                begun[_first(key) + row.given + 1] = row.start
        found = self._connection.execute("SELECT id, at, crc, payload FROM inbox ORDER BY turn, id")
        for id, at, crc, payload in found:
            self._verify(payload, crc, f"message {id & _MASK} of session {id >> _NUMBERS} in the inbox")
            yield Unread(id >> _NUMBERS, id & _MASK, at, begun.get(id, 0), payload)

    def _verify(self, payload: bytes, crc: int, what: str) -> None:
        if crc32(payload) != crc:
            raise StoreError(
                f"the store {self.path} is damaged: {what} is not what was written; "
                f"`linkbox spool export {self.path}` saves what can be read"
            )

    # -- writing --------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def apply(self, batch: Batch) -> None:
        """Write a batch. It is on the disk when this returns; raises `StoreError`, and then nothing is."""
        self._turn += 1
        with _told(self.path, "written"), self._transaction():
            for entry in batch.entries:
                self._WRITERS.get(type(entry), _nothing)(self, entry)
            self._save([row for _, row in batch.rows])
            for entry in batch.entries:
                self._READERS.get(type(entry), _nothing)(self, entry)
            if batch.knows_since:
                self._about(knows_since=repr(batch.knows_since))
        self._reserve.keep()

    def _spool(self, entry: Spool) -> None:
        first = _first(entry.record.key)
        self._connection.executemany(
            "INSERT INTO spool VALUES (?, ?, ?, ?)",
            [(first + number, total, crc32(payload), payload) for number, total, payload in entry.rows],
        )

    def _inflow(self, entry: Inflow) -> None:
        first, turn, at = _first(entry.record.key), self._turn, entry.at
        self._connection.executemany(
            "INSERT INTO inbox VALUES (?, ?, ?, ?, ?)",
            [(first + number, turn, at, crc32(payload), payload) for number, payload in entry.rows()],
        )

    def _save(self, rows: list[Row]) -> None:
        texts = [(row.key, _encode_row(row).decode()) for row in rows]
        execute, executemany = self._connection.execute, self._connection.executemany
        executemany(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?)",
            [(key, text, crc32(text.encode())) for key, text in texts],
        )
        for row in rows:
            first = _first(row.key)
            execute(
                "DELETE FROM spool WHERE id BETWEEN ? AND ?",
                (first, first + (_MASK if row.over else row.acked)),
            )
            self._delete_taken(row)
            if row.over:
                execute(
                    "DELETE FROM session WHERE key=? AND NOT EXISTS "
                    "(SELECT 1 FROM inbox WHERE id BETWEEN ? AND ?)",
                    (row.key, first, first + _MASK),
                )

    def _delete_taken(self, row: Row) -> None:
        first = _first(row.key)
        kept = [first + number for number in row.kept]
        keep = f" AND id NOT IN ({','.join('?' * len(kept))})" if kept else ""
        self._connection.execute(
            f"DELETE FROM inbox WHERE id BETWEEN ? AND ?{keep}", (first, first + row.given, *kept)
        )
        self._connection.executemany(
            "DELETE FROM inbox WHERE id=?", [(first + number,) for number in row.freed]
        )

    def _restart(self, entry: Restart) -> None:
        key = entry.record.key
        first, last = _first(key), _first(key) + _MASK
        doubtful = (first, first + entry.until)
        execute = self._connection.execute
        execute(
            "INSERT INTO doubt (at, crc, payload) SELECT ?, crc, payload FROM spool "
            "WHERE id BETWEEN ? AND ? ORDER BY id",
            (time.time(), *doubtful),
        )
        entry.doubtful = [
            (id & _MASK, total, payload)
            for id, total, payload in execute(
                "SELECT id, total, payload FROM spool WHERE id BETWEEN ? AND ? ORDER BY id", doubtful
            )
        ]
        execute("DELETE FROM spool WHERE id BETWEEN ? AND ?", doubtful)
        text = execute("SELECT row FROM session WHERE key=?", (key,)).fetchone()[0]
        row = _decode_row(text)
        rest = execute(
            "SELECT id, total, length(payload) FROM spool WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1",
            (first, last),
        ).fetchone()
        entry.base, entry.base_total = row.next, row.total
        if rest is not None:
            entry.base, entry.base_total = rest[0] - first - units_of(rest[2]), rest[1] - rest[2]
        row.base, row.base_total, row.acked, row.sent_most = (
            entry.base,
            entry.base_total,
            entry.base,
            entry.base,
        )
        self._save([row])

    def _fetch(self, entry: Fetch) -> None:
        entry.rows = self._read(_first(entry.record.key) + entry.after + 1)

    def _begin(self, entry: Online) -> None:
        if entry.is_needed:
            entry.rows = self._read(_first(entry.record.key), entry.until)

    def _read(self, first: int, until: int = 0) -> list[Stored]:
        """Messages of one session's spool from that id on: those up to ``until``, and some more."""
        rows: list[Stored] = []
        left = FETCH_BYTES
        found = self._connection.execute(
            "SELECT id, total, crc, payload FROM spool WHERE id BETWEEN ? AND ? ORDER BY id",
            (first, first | _MASK),
        )
        for id, total, crc, payload in found:
            number = id & _MASK
            self._verify(payload, crc, f"message {number} of session {id >> _NUMBERS} in the spool")
            if rows and rows[-1][0] != number - units_of(len(payload)):
                raise StoreError(f"the store {self.path} is damaged: messages before {number} are gone")
            rows.append((number, total, payload))
            left -= len(payload)
            if number >= until and (left <= 0 or len(rows) >= FETCH_COUNT):
                break
        found.close()
        return rows

    _WRITERS: ClassVar[dict[type[Entry], Callable[[Store, Any], None]]] = {Spool: _spool, Inflow: _inflow}
    _READERS: ClassVar[dict[type[Entry], Callable[[Store, Any], None]]] = {
        Restart: _restart,
        Fetch: _fetch,
        Online: _begin,
    }

    # -- trouble, and the end ---------------------------------------------------------------------------

    def recover(self) -> None:
        """After `apply` has failed: give up the reserve, and begin again with what is on the disk."""
        self._reserve.give_up()
        try:
            self._connection.close()
            self._connection = self._connect()
        except sqlite3.Error:
            pass  # The next `apply` says why.

    def close(self) -> None:
        """Close it. What was applied is on the disk."""
        try:
            self._connection.close()
        except sqlite3.Error:
            pass  # What is in the WAL is read from there next time.
        self._lock.release()


def _nothing(store: Store, entry: Entry) -> None:
    """Neither to be written nor to be read."""

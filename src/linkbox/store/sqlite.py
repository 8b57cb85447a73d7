"""A store: one SQLite file, written by one thread at a time, one transaction for each batch.

How to think about it. What counts is on the disk when `apply` returns: the file is in WAL mode with
``synchronous=FULL``. A message's row id is ``session key << 40 | number``: so what was acknowledged or taken
goes with one range. Each row carries a CRC-32 (`seal`); SQLite checks its own pages (``quick_check``). All of
that is looked at at every opening: whatever is found damaged is named in a `StoreError`, and nothing is
skipped.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from linkbox.core.durable.journal import (
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
from linkbox.core.durable.record import Row, Stored, units_of
from linkbox.core.durable.recovery import Left, Unread
from linkbox.errors import StoreError
from linkbox.store.checks import log_damage, seal, wal_of
from linkbox.store.files import RESERVE, Lock, Reserve, check_access, create

VERSION = 1
"""Of the tables. A store of another version is refused."""
APPLICATION = 0x6C6B6278  # "lkbx"
_OVERHEAD = 100
"""Bytes that a message takes on the disk besides its payload, roughly."""
NUMBERS = 40
"""Bits of a row id that are the message's number; those above are its session's key."""
MASK = (1 << NUMBERS) - 1

_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL);
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
decode_row = msgspec.json.Decoder(Row).decode


@contextmanager
def told(path: Path, what: str) -> Iterator[None]:
    """SQLite's errors as ours: which store, what it was doing, what to do."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        hint = ""
        if "not a database" in text:
            hint = ": it is something else, or badly damaged"
        elif "malformed" in text:
            hint = f"; {_export(path)}"
        raise StoreError(f"the store {path} cannot be {what}: {text}{hint}") from error
    except (msgspec.MsgspecError, struct.error, TypeError, ValueError, KeyError) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise StoreError(f"the store {path} cannot be {what}: {error.strerror or error}") from error


def _export(path: Path) -> str:
    return f"`linkbox spool export {path}` saves what can be read"


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(f"the store {path} is damaged: {why}; {_export(path)}")


def _first(key: int) -> int:
    return key << NUMBERS


def _text_of(row: Row) -> str:
    """As it is written. What is kept is what is there; it may be much."""
    return _encode_row(msgspec.structs.replace(row, kept=(), freed=())).decode()


def _statements() -> list[str]:
    """How the tables are made."""
    return [each.strip() for each in _TABLES.split(";") if each.strip()]


def _schema(connection: sqlite3.Connection) -> list[str]:
    """The same of a database that is there."""
    select = "SELECT sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*' ORDER BY rowid"
    return [row[0] for row in connection.execute(select).fetchall()]


class Store:
    """An open store. ``label`` says what it is for: a store of something else is refused."""

    def __init__(self, path: Path, label: dict[str, str]) -> None:
        self.path = path = Path(os.path.realpath(path))  # a link to it has the same lock
        if path.is_dir():
            raise StoreError(
                f"the store {path} cannot be opened: it is a folder, the path of a file is needed"
            )
        self._lock = Lock(path.with_name(path.name + "-lock"))
        self._reserve = Reserve(path.with_name(path.name + "-reserve"))
        try:
            create(path)
            check_access(path)
            with told(path, "opened"):
                self._open(label)
        except BaseException:
            self._lock.release()
            raise
        self._reserve.try_to_keep()
        self._turn = 0
        self._knows_since = 0.0

    def _open(self, label: dict[str, str]) -> None:
        verdict = log_damage(self.path)
        if verdict is not None:
            raise _damaged(self.path, verdict)
        self._connection = self._connect()
        try:
            self._check(label)
        except BaseException:
            self._connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            self._claim(connection)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA cell_size_check=ON")
            connection.execute("PRAGMA wal_autocheckpoint=256")
            connection.execute(f"PRAGMA journal_size_limit={RESERVE}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _claim(self, connection: sqlite3.Connection) -> None:
        """Before anything is written to it: is it ours?"""
        execute = connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        application = execute("PRAGMA application_id").fetchone()[0]
        is_empty = not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_empty and not version and self._reserve.was_kept():
            raise _damaged(self.path, f"it is empty. To begin anew, remove it and {self.path}-reserve")
        if application != APPLICATION and not (is_empty and not version and not application):
            raise StoreError(f"{self.path} is a database of something else: give another path for the store")
        if version != VERSION and not is_empty:
            raise StoreError(f"the store {self.path} has version {version}; this linkbox reads {VERSION}")

    def _check(self, label: dict[str, str]) -> None:
        execute = self._connection.execute
        if not execute("PRAGMA user_version").fetchone()[0]:
            self._make(label)
            return
        verdict = execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _damaged(self.path, verdict)
        if _schema(self._connection) != _statements():
            raise _damaged(self.path, "its tables are not those of a store")
        there = self._read_about()
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
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for statement in _statements():
            execute(statement)
        self._about(**about)
        execute(f"PRAGMA application_id={APPLICATION}")
        execute(f"PRAGMA user_version={VERSION}")
        execute("COMMIT")

    # -- opening --------------------------------------------------------------------------------------

    def load(self, incarnation: str) -> Left:
        """What an earlier life has left; a new life begins with this. ``incarnation`` names the first."""
        with told(self.path, "read"), self._transaction():
            execute = self._connection.execute
            about = self._read_about()
            life = int(about["life"]) + 1
            self._about(life=str(life), incarnation=about["incarnation"] or incarnation)
            self._turn = execute("SELECT coalesce(max(turn), 0) FROM inbox").fetchone()[0]
            self._knows_since = float(about["knows_since"])
            found = execute("SELECT key, row, crc FROM session ORDER BY key").fetchall()
            rows = [self._row(*each) for each in found]
            unread = list(self._unread([row for row, _, _ in rows]))
            return Left(life, about["incarnation"] or incarnation, self._knows_since, rows, unread)

    def note(self, notes: dict[str, str]) -> None:
        """Keep these beside the label, for whoever reads the store: where its client connects to."""
        with told(self.path, "written"), self._transaction():
            self._about(**notes)

    def _about(self, **values: str) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO about VALUES (?, ?, ?)",
            [(name, value, seal(f"{name}={value}".encode(), 0)) for name, value in values.items()],
        )

    def _read_about(self) -> dict[str, str]:
        about = {}
        for name, value, crc in self._connection.execute("SELECT name, value, crc FROM about").fetchall():
            if seal(f"{name}={value}".encode(), 0) != crc:
                raise _damaged(self.path, f"what it says about its {name} is not what was written")
            about[name] = value
        return about

    def _row(self, key: int, text: str, crc: int) -> tuple[Row, int, int]:
        self._verify(text.encode(), crc, f"session {key}", key)
        row = decode_row(text)
        count, nbytes, last = 0, 0, None
        first = _first(key)
        for number, _, payload in self._spooled(first, first + MASK):
            if last is None and number - units_of(len(payload)) > row.acked:
                break  # the first are gone
            count, nbytes, last = count + 1, nbytes + len(payload), number
        if not row.over and last != row.next and not (last is None and row.acked >= row.next):
            raise _damaged(self.path, f"messages of the spool of session {key} are gone")
        return row, count, nbytes

    def _unread(self, rows: list[Row]) -> Iterator[Unread]:
        begun = {_first(row.key) + row.given + 1: row.start for row in rows if row.start}
        found = self._connection.execute("SELECT id, turn, at, crc, payload FROM inbox ORDER BY turn, id")
        with closing(found):  # what is open keeps the file open
            for id, turn, at, crc, payload in found:
                what = f"message {id & MASK} of session {id >> NUMBERS} in the inbox"
                self._verify(payload, crc, what, id, turn, at)
                yield Unread(id >> NUMBERS, id & MASK, at, begun.get(id, 0), payload)

    def _verify(self, payload: bytes, crc: int, what: str, id: int, mark: int = 0, at: float = 0.0) -> None:
        if not isinstance(payload, bytes) or seal(payload, id, mark, at) != crc:
            raise _damaged(self.path, f"{what} is not what was written")

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
        with told(self.path, "written"):
            self._see_to_room(batch)
            with self._transaction():
                for entry in batch.entries:
                    self._WRITERS.get(type(entry), _nothing)(self, entry)
                self._save([row for _, row in batch.rows])
                for entry in batch.entries:
                    self._READERS.get(type(entry), _nothing)(self, entry)
                if batch.knows_since != self._knows_since:
                    self._about(knows_since=repr(batch.knows_since))
        self._knows_since = batch.knows_since
        self._reserve.try_to_keep()

    def _see_to_room(self, batch: Batch) -> None:
        """Accept nothing that could not be written back from the log any more."""
        more = 0
        for entry in batch.entries:
            if isinstance(entry, Spool):
                more += sum(len(row[2]) + _OVERHEAD for row in entry.rows)
            elif isinstance(entry, Inflow):
                more += entry.nbytes + len(entry.arrival.payloads) * _OVERHEAD
        if more:
            log = wal_of(self.path)
            self._reserve.keep(RESERVE + more + (log.stat().st_size if log.exists() else 0))

    def _spool(self, entry: Spool) -> None:
        first = _first(entry.record.key)
        self._connection.executemany(
            "INSERT OR REPLACE INTO spool VALUES (?, ?, ?, ?)",
            [
                (first + number, total, seal(payload, first + number, total), payload)
                for number, total, payload in entry.rows
            ],
        )

    def _inflow(self, entry: Inflow) -> None:
        first, turn, at = _first(entry.record.key), self._turn, entry.at
        self._connection.executemany(
            "INSERT OR REPLACE INTO inbox VALUES (?, ?, ?, ?, ?)",
            [
                (first + number, turn, at, seal(payload, first + number, turn, at), payload)
                for number, payload in entry.rows()
            ],
        )

    def _save(self, rows: list[Row]) -> None:
        texts = [(row.key, _text_of(row)) for row in rows]
        execute, executemany = self._connection.execute, self._connection.executemany
        executemany(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?)",
            [(key, text, seal(text.encode(), key)) for key, text in texts],
        )
        for row in rows:
            first = _first(row.key)
            execute(
                "DELETE FROM spool WHERE id BETWEEN ? AND ?",
                (first, first + (MASK if row.over else row.acked)),
            )
            # A commit that was reported as failed may have come to the disk after all: that was refused.
            execute("DELETE FROM spool WHERE id BETWEEN ? AND ?", (first + row.next + 1, first + MASK))
            self._delete_taken(row)
            if row.over:
                execute(
                    "DELETE FROM session WHERE key=? AND NOT EXISTS "
                    "(SELECT 1 FROM inbox WHERE id BETWEEN ? AND ?)",
                    (row.key, first, first + MASK),
                )

    def _delete_taken(self, row: Row) -> None:
        first = _first(row.key)
        kept = sorted(number for number in row.kept if number <= row.given)
        starts, ends = (0, *(number + 1 for number in kept)), (*(number - 1 for number in kept), row.given)
        self._connection.executemany(
            "DELETE FROM inbox WHERE id BETWEEN ? AND ?",
            [(first + start, first + end) for start, end in zip(starts, ends, strict=True) if start <= end],
        )
        self._connection.executemany(
            "DELETE FROM inbox WHERE id=?", [(first + number,) for number in row.freed]
        )

    def _restart(self, entry: Restart) -> None:
        key = entry.record.key
        first, last = _first(key), _first(key) + MASK
        doubtful = (first, first + entry.until)
        execute, at = self._connection.execute, time.time()
        entry.doubtful = list(self._spooled(*doubtful))
        self._connection.executemany(
            "INSERT INTO doubt (at, crc, payload) VALUES (?, ?, ?)",
            [(at, seal(payload, 0, 0, at), payload) for _, _, payload in entry.doubtful],
        )
        execute("DELETE FROM spool WHERE id BETWEEN ? AND ?", doubtful)
        text = execute("SELECT row FROM session WHERE key=?", (key,)).fetchone()[0]
        row = decode_row(text)
        rest = execute(
            "SELECT id, total, length(payload) FROM spool WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1",
            (first, last),
        ).fetchone()
        entry.base, entry.base_total = row.next, row.total
        if rest is not None:
            entry.base, entry.base_total = rest[0] - first - units_of(rest[2]), rest[1] - rest[2]
        row.base, row.base_total = entry.base, entry.base_total
        row.acked = row.sent_most = entry.base
        self._save([row])

    def _fetch(self, entry: Fetch) -> None:
        entry.rows = self._some_of(entry, entry.after, 0)

    def _begin(self, entry: Online) -> None:
        if entry.is_needed:
            entry.rows = self._some_of(entry, entry.after, entry.until)

    def _some_of(self, entry: Entry, after: int, until: int) -> list[Stored]:
        """What is spooled behind that number: all up to ``until``, else not much more than `FETCH_BYTES`."""
        rows: list[Stored] = []
        first, nbytes = _first(entry.record.key), 0
        with closing(self._spooled(first + after + 1, first + MASK)) as found:
            for row in found:
                if not rows and row[0] - units_of(len(row[2])) > after:
                    raise _damaged(self.path, f"messages before {row[0]} are gone")
                rows.append(row)
                nbytes += len(row[2])
                if row[0] >= until and (nbytes >= FETCH_BYTES or len(rows) >= FETCH_COUNT):
                    break
        return rows

    def _spooled(self, first: int, last: int) -> Generator[Stored, None, None]:
        """Messages of the spool, in order."""
        before = None
        found = self._connection.execute(
            "SELECT id, total, crc, payload FROM spool WHERE id BETWEEN ? AND ? ORDER BY id", (first, last)
        )
        with closing(found):
            for id, total, crc, payload in found:
                number = id & MASK
                what = f"message {number} of session {id >> NUMBERS} in the spool"
                self._verify(payload, crc, what, id, total)
                if before is not None and before != number - units_of(len(payload)):
                    raise _damaged(self.path, f"messages before {number} are gone")
                before = number
                yield number, total, payload

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
        except (sqlite3.Error, StoreError):
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

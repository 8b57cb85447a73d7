"""A store: one SQLite file, written by one thread at a time, one transaction for each batch.

How to think about it. A batch is on disk when `apply` returns: the file is in WAL mode with
``synchronous=FULL``. The row id of a message is ``session key << 40 | number``, so that all acknowledged or
taken messages of a session can be deleted as one range. Each row carries a CRC-32 (`checksum`), and SQLite
checks its own pages (``quick_check``). All checks run whenever a store is opened: damage is reported as a
`StoreError`, and nothing is skipped silently.
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

from linkbox.core.durable.entries import Entry, Fetch, GiveUp, Inflow, Online, Restart, Spool
from linkbox.core.durable.journal import FETCH_BYTES, FETCH_COUNT, Batch
from linkbox.core.durable.recovery import Left, Unread
from linkbox.core.durable.rows import Row, Stored, units_of
from linkbox.errors import StoreError
from linkbox.store.checks import checksum, log_damage, wal_of
from linkbox.store.files import RESERVE, Lock, Reserve, check_access, create

VERSION = 1
"""The version of the tables. A store with another version is not opened."""
APPLICATION = 0x6C6B6278  # "lkbx"
_OVERHEAD = 100
"""Bytes that a message occupies on disk besides its payload, roughly."""
NUMBERS = 40
"""The low bits of a row id are the number of the message, the others the key of its session."""
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
def translate_errors(path: Path, what: str) -> Iterator[None]:
    """Turn errors of SQLite into a `StoreError`: which store, what failed, what to do."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        hint = ""
        if "not a database" in text:
            hint = ": it is another kind of file, or badly damaged"
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
    """Encode a row. Its ``kept`` and ``freed`` numbers follow from the inbox, and may be many."""
    return _encode_row(msgspec.structs.replace(row, kept=(), freed=())).decode()


def _statements() -> list[str]:
    """The SQL statements that create the tables."""
    return [each.strip() for each in _TABLES.split(";") if each.strip()]


def _schema(connection: sqlite3.Connection) -> list[str]:
    """The SQL statements that created the tables of a database."""
    select = "SELECT sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*' ORDER BY rowid"
    return [row[0] for row in connection.execute(select).fetchall()]


class Store:
    """An open store. ``label`` describes its endpoint: a store of another endpoint is not opened."""

    def __init__(self, path: Path, label: dict[str, str]) -> None:
        self.path = path = Path(os.path.realpath(path))  # symbolic links share the lock
        if path.is_dir():
            raise StoreError(f"the store {path} cannot be opened: it is a folder; give the path of a file")
        self._lock = Lock(path.with_name(path.name + "-lock"))
        self._reserve = Reserve(path.with_name(path.name + "-reserve"))
        try:
            create(path)
            check_access(path)
            with translate_errors(path, "opened"):
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
        """Raise if the file is not a store of this version. Called before anything is written to it."""
        execute = connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        application = execute("PRAGMA application_id").fetchone()[0]
        is_empty = not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_empty and not version and self._reserve.was_kept():
            raise _damaged(
                self.path, f"it is empty. To start with an empty store, remove it and {self.path}-reserve"
            )
        if application != APPLICATION and not (is_empty and not version and not application):
            raise StoreError(f"{self.path} is a database of another program: give another path for the store")
        if version != VERSION and not is_empty:
            raise StoreError(
                f"the store {self.path} has version {version}; this linkbox reads version {VERSION}"
            )

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
                    f"this one has {value!r}: use a separate store for each endpoint"
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
        """Read what the earlier lives of the endpoint left, and begin a new life.

        ``incarnation`` is the name of the first life, if this is the first.
        """
        with translate_errors(self.path, "read"), self._transaction():
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
        """Write more fields beside the label, for readers of the store, such as the address of the server."""
        with translate_errors(self.path, "written"), self._transaction():
            self._about(**notes)

    def _about(self, **values: str) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO about VALUES (?, ?, ?)",
            [(name, value, checksum(f"{name}={value}".encode(), 0)) for name, value in values.items()],
        )

    def _read_about(self) -> dict[str, str]:
        about = {}
        for name, value, crc in self._connection.execute("SELECT name, value, crc FROM about").fetchall():
            if checksum(f"{name}={value}".encode(), 0) != crc:
                raise _damaged(self.path, f"the field {name!r} has a wrong checksum")
            about[name] = value
        return about

    def _row(self, key: int, text: str, crc: int) -> tuple[Row, int, int]:
        self._verify(text.encode(), crc, f"session {key}", key)
        row = decode_row(text)
        count, nbytes, last = 0, 0, None
        first = _first(key)
        for number, _, payload in self._spooled(first, first + MASK):
            if last is None and number - units_of(len(payload)) > row.acked:
                break  # earlier messages are missing
            count, nbytes, last = count + 1, nbytes + len(payload), number
        if not row.over and last != row.next and not (last is None and row.acked >= row.next):
            raise _damaged(self.path, f"messages of session {key} in the spool are missing")
        return row, count, nbytes

    def _unread(self, rows: list[Row]) -> Iterator[Unread]:
        begun = {_first(row.key) + row.given + 1: row.start for row in rows if row.start}
        found = self._connection.execute("SELECT id, turn, at, crc, payload FROM inbox ORDER BY turn, id")
        with closing(found):  # an open cursor keeps the file open
            for id, turn, at, crc, payload in found:
                what = f"message {id & MASK} of session {id >> NUMBERS} in the inbox"
                self._verify(payload, crc, what, id, turn, at)
                yield Unread(id >> NUMBERS, id & MASK, at, begun.get(id, 0), payload)

    def _verify(self, payload: bytes, crc: int, what: str, id: int, mark: int = 0, at: float = 0.0) -> None:
        if not isinstance(payload, bytes) or checksum(payload, id, mark, at) != crc:
            raise _damaged(self.path, f"{what} has a wrong checksum")

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
        """Write a batch. On return it is on disk. On `StoreError` nothing of it was written."""
        self._turn += 1
        with translate_errors(self.path, "written"):
            self._reserve_for(batch)
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

    def _reserve_for(self, batch: Batch) -> None:
        """Reserve space for the messages of a batch, so that the log can be written back later."""
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
                (first + number, total, checksum(payload, first + number, total), payload)
                for number, total, payload in entry.rows
            ],
        )

    def _inflow(self, entry: Inflow) -> None:
        first, turn, at = _first(entry.record.key), self._turn, entry.at
        self._connection.executemany(
            "INSERT OR REPLACE INTO inbox VALUES (?, ?, ?, ?, ?)",
            [
                (first + number, turn, at, checksum(payload, first + number, turn, at), payload)
                for number, payload in entry.rows()
            ],
        )

    def _save(self, rows: list[Row]) -> None:
        texts = [(row.key, _text_of(row)) for row in rows]
        execute, executemany = self._connection.execute, self._connection.executemany
        executemany(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?)",
            [(key, text, checksum(text.encode(), key)) for key, text in texts],
        )
        for row in rows:
            first = _first(row.key)
            execute(
                "DELETE FROM spool WHERE id BETWEEN ? AND ?",
                (first, first + (MASK if row.over else row.acked)),
            )
            # A commit that was reported as failed may be on disk nevertheless: its messages were not
            # accepted.
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

    def _to_doubt(self, first: int, last: int) -> list[Stored]:
        """Move messages from the spool to those in doubt, and return them."""
        doubtful, at = list(self._spooled(first, last)), time.time()
        self._connection.executemany(
            "INSERT INTO doubt (at, crc, payload) VALUES (?, ?, ?)",
            [(at, checksum(payload, 0, 0, at), payload) for _, _, payload in doubtful],
        )
        self._connection.execute("DELETE FROM spool WHERE id BETWEEN ? AND ?", (first, last))
        return doubtful

    def _give_up(self, entry: GiveUp) -> None:
        first = _first(entry.record.key)
        entry.doubtful = self._to_doubt(first, first + MASK)

    def _restart(self, entry: Restart) -> None:
        key = entry.record.key
        first, last = _first(key), _first(key) + MASK
        entry.doubtful = self._to_doubt(first, first + entry.until)
        execute = self._connection.execute
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
        """Spooled messages after that number: all up to ``until``, and otherwise about `FETCH_BYTES`."""
        rows: list[Stored] = []
        first, nbytes = _first(entry.record.key), 0
        with closing(self._spooled(first + after + 1, first + MASK)) as found:
            for row in found:
                if not rows and row[0] - units_of(len(row[2])) > after:
                    raise _damaged(self.path, f"messages before {row[0]} are missing")
                rows.append(row)
                nbytes += len(row[2])
                if row[0] >= until and (nbytes >= FETCH_BYTES or len(rows) >= FETCH_COUNT):
                    break
        return rows

    def _spooled(self, first: int, last: int) -> Generator[Stored, None, None]:
        """Yield messages of the spool, in order."""
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
                    raise _damaged(self.path, f"messages before {number} are missing")
                before = number
                yield number, total, payload

    _WRITERS: ClassVar[dict[type[Entry], Callable[[Store, Any], None]]] = {
        Spool: _spool,
        Inflow: _inflow,
        GiveUp: _give_up,
    }
    _READERS: ClassVar[dict[type[Entry], Callable[[Store, Any], None]]] = {
        Restart: _restart,
        Fetch: _fetch,
        Online: _begin,
    }

    # -- recovery and closing ---------------------------------------------------------------------------

    def recover(self) -> None:
        """After `apply` has failed: delete the reserve, and reopen the store as it is on disk."""
        self._reserve.give_up()
        try:
            self._connection.close()
            self._connection = self._connect()
        except (sqlite3.Error, StoreError):
            pass  # The next `apply` reports the reason.

    def close(self) -> None:
        """Close the store. Everything that was applied is on disk."""
        try:
            self._connection.close()
        except sqlite3.Error:
            pass  # The next opening reads the WAL.
        self._lock.release()


def _nothing(store: Store, entry: Entry) -> None:
    """Do nothing: the entry is neither written nor read."""

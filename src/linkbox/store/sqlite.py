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
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from shutil import disk_usage
from typing import Any, ClassVar

import msgspec

from linkbox.core.durable.entries import Entry, Fetch, GiveUp, Inflow, Online, Restart, Spool
from linkbox.core.durable.journal import FETCH_BYTES, FETCH_COUNT, Batch
from linkbox.core.durable.recovery import Left, Unread
from linkbox.core.durable.rows import LONG_AGO, Row, Stored, units_of
from linkbox.errors import StoreError
from linkbox.store import clock
from linkbox.store.checks import FRAME, PAGE, checksum, log_damage, wal_of
from linkbox.store.files import LEAST, RESERVE, Lock, Reserve, check_access, create, guard
from linkbox.store.slices import Slices
from linkbox.store.tables import (
    MASK,
    NUMBERS,
    decode_row,
    first_of,
    read_row,
    save,
    schema,
    statements,
    transaction,
    write_rows,
)

VERSION = 1
"""The version of the tables. A store with another version is not opened."""
APPLICATION = 0x6C6B6278  # "lkbx"
_OVERHEAD = 100
"""Bytes that a message occupies on disk besides its payload, roughly."""
PLENTY = 16 * RESERVE
"""Free bytes of a disk that is not full any more."""


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


class Store:
    """An open store. ``label`` describes its endpoint: a store of another endpoint is not opened."""

    def __init__(self, path: Path, label: dict[str, str]) -> None:
        if path.is_symlink() and not path.exists():
            raise StoreError(f"the store {path} cannot be opened: it is a link to a file that does not exist")
        self.path: Path = Path(os.path.realpath(path))  # symbolic links share the lock
        path = self.path
        if path.is_dir():
            raise StoreError(f"the store {path} cannot be opened: it is a folder; give the path of a file")
        guard(path)
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
        self._slices = Slices()
        self._is_full = False
        self._turn = 0

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
            # Deleted pages are not overwritten: some builds do that, and need as much log for it.
            connection.execute("PRAGMA secure_delete=OFF")
            connection.execute("PRAGMA wal_autocheckpoint=256")
            connection.execute(f"PRAGMA journal_size_limit={RESERVE}")
            self._reserve.has_log = False
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
        if schema(self._connection) != statements():
            raise _damaged(self.path, "its tables are not those of a store")
        there = self._read_about()
        self._knows_since = float(there["knows_since"])
        for name, value in label.items():
            if there.get(name) != value:
                raise StoreError(
                    f"the store {self.path} belongs to an endpoint with {name} {there.get(name)!r}, "
                    f"this one has {value!r}: use a separate store for each endpoint"
                )

    def _make(self, label: dict[str, str]) -> None:
        self._knows_since = time.time()
        about = {
            **label,
            "life": "0",
            "incarnation": "",
            "knows_since": repr(self._knows_since),
            "has_forgotten": "",
        }
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for statement in statements():
            execute(statement)
        self._about(**about)
        execute(f"PRAGMA application_id={APPLICATION}")
        execute(f"PRAGMA user_version={VERSION}")
        execute("COMMIT")

    # -- opening --------------------------------------------------------------------------------------

    def load(self, incarnation: str, wall: float) -> Left:
        """Read what the earlier lives of the endpoint left, and begin a new life.

        ``incarnation`` is the name of the first life, if this is the first. ``wall`` is the wall clock less
        the monotonic clock, in this life.
        """
        with translate_errors(self.path, "read"), transaction(self._connection):
            execute = self._connection.execute
            about = self._read_about()
            life, incarnation = int(about["life"]) + 1, about["incarnation"] or incarnation
            self._turn = execute("SELECT coalesce(max(turn), 0) FROM inbox").fetchone()[0]
            found = execute("SELECT key, row, crc FROM session ORDER BY key").fetchall()
            rows = [self._row(*each) for each in found]
            self._move_times(about, [row for row, _, _ in rows], wall)
            self._about(life=str(life), incarnation=incarnation)
            unread = list(self._unread([row for row, _, _ in rows]))
            return Left(life, incarnation, self._knows_since, rows, unread)

    def _move_times(self, about: dict[str, str], rows: list[Row], wall: float) -> None:
        """Move the times of earlier lives to the clock of this one.

        If it is unknown how long ago they were: all sessions began too long ago, and the last one was
        forgotten just now. Then messages may be in doubt, but none is sent again that has arrived.
        """
        shift, knows_since = clock.moved(about.get("clock", ""), wall), float(about["knows_since"])
        if shift is not None:
            knows_since += shift
        elif about.get("has_forgotten", "yes"):
            knows_since = time.time()
        begun = [row for row in rows if row.began > 0]
        for row in begun:
            row.began = LONG_AGO if shift is None else row.began + shift
        write_rows(self._connection, begun if shift != 0 else [])
        self._knows_since = knows_since
        self._about(knows_since=repr(knows_since), clock=clock.describe(wall))

    def note(self, notes: dict[str, str]) -> None:
        """Write more fields beside the label, for readers of the store, such as the address of the server."""
        with translate_errors(self.path, "written"), transaction(self._connection):
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
        first = first_of(key)
        for number, _, payload in self._spooled(first, first + MASK):
            if last is None and number - units_of(len(payload)) > row.acked:
                break  # earlier messages are missing
            count, nbytes, last = count + 1, nbytes + len(payload), number
        if not row.over and last != row.next and not (last is None and row.acked >= row.next):
            raise _damaged(self.path, f"messages of session {key} in the spool are missing")
        return row, count, nbytes

    def _unread(self, rows: list[Row]) -> Iterator[Unread]:
        begun = {first_of(row.key) + row.given + 1: row.start for row in rows if row.start}
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

    def apply(self, batch: Batch) -> None:
        """Write a batch. On return it is on disk. On `StoreError` nothing of it was written."""
        self._turn += 1
        self._is_full = False
        with translate_errors(self.path, "written"):
            try:
                self._make_room(batch)
                with transaction(self._connection):
                    self._write(batch)
            except (sqlite3.Error, OSError) as error:
                # Errors of the module sqlite3 itself have no code.
                code = getattr(error, "sqlite_errorcode", None)
                self._is_full = isinstance(error, OSError) or code == sqlite3.SQLITE_FULL
                raise
        if self._has_forgotten(batch):
            self._knows_since = batch.knows_since
        if self._slices.most:  # The disk was full: others could take the space that the log needs later.
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            if disk_usage(self.path.parent).free >= PLENTY:
                self._slices.most = 0
        self._reserve.try_to_keep()

    def _write(self, batch: Batch) -> None:
        for entry in batch.entries:
            self._WRITERS.get(type(entry), _nothing)(self, entry)
        save(self._connection, [row for _, row in batch.rows])
        for entry in batch.entries:
            self._READERS.get(type(entry), _nothing)(self, entry)
        if self._has_forgotten(batch):
            self._about(knows_since=repr(batch.knows_since), has_forgotten="yes")

    def _has_forgotten(self, batch: Batch) -> bool:
        """Was a session forgotten since the last batch? (The times are rounded.)"""
        return abs(batch.knows_since - self._knows_since) > 1e-3

    def _make_room(self, batch: Batch) -> None:
        """Reserve space for the messages of a batch, so that the log can be written back later.

        If the disk was full, first delete in slices what the batch frees.
        """
        self._slices.is_deleting = True
        if self._slices.most:
            for entry in batch.entries:
                if isinstance(entry, Restart | GiveUp):
                    self._set_aside_in_slices(entry)
            self._slices.delete(self._connection, [row for _, row in batch.rows])
        more = 0
        for entry in batch.entries:
            if isinstance(entry, Spool):
                more += sum(len(row[2]) + _OVERHEAD for row in entry.rows)
            elif isinstance(entry, Inflow):
                more += entry.nbytes + len(entry.arrival.payloads) * _OVERHEAD
        if more:
            self._slices.is_deleting = False
            log = wal_of(self.path)
            size = log.stat().st_size if log.exists() else 0
            try:
                self._reserve.keep(LEAST + more + size)
            except OSError:
                self._reserve.keep(_growth(self._connection, more, size), PAGE)

    def _spool(self, entry: Spool) -> None:
        first = first_of(entry.record.key)
        self._connection.executemany(
            "INSERT OR REPLACE INTO spool VALUES (?, ?, ?, ?)",
            [
                (first + number, total, checksum(payload, first + number, total), payload)
                for number, total, payload in entry.rows
            ],
        )

    def _inflow(self, entry: Inflow) -> None:
        first, turn, at = first_of(entry.record.key), self._turn, entry.at
        self._connection.executemany(
            "INSERT OR REPLACE INTO inbox VALUES (?, ?, ?, ?, ?)",
            [
                (first + number, turn, at, checksum(payload, first + number, turn, at), payload)
                for number, payload in entry.rows()
            ],
        )

    def _restart(self, entry: Restart) -> None:
        key = entry.record.key
        first, last = first_of(key), first_of(key) + MASK
        self._set_aside(entry, None)
        row = read_row(self._connection, key)
        assert row is not None
        rest = self._connection.execute(
            "SELECT id, total, length(payload) FROM spool WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1",
            (first, last),
        ).fetchone()
        entry.base, entry.base_total = row.next, row.total
        if rest is not None:
            entry.base, entry.base_total = rest[0] - first - units_of(rest[2]), rest[1] - rest[2]
        row.base, row.base_total = entry.base, entry.base_total
        row.acked = row.sent_most = entry.base
        save(self._connection, [row])

    def _give_up(self, entry: GiveUp) -> None:
        self._set_aside(entry, None)

    def _set_aside(self, entry: Restart | GiveUp, most: int | None) -> int | None:
        """Move messages in doubt out of the spool, all or ``most``. Return the number of the last one."""
        first, at = first_of(entry.record.key), time.time()
        after = 0
        if isinstance(entry, GiveUp):  # Acknowledged ones are deleted only after this.
            after = entry.record.spool.acked
        until = entry.until if isinstance(entry, Restart) else MASK
        with closing(self._spooled(first + after + 1, first + until)) as found:
            moved = list(islice(found, most))
        if not moved:
            return None
        self._connection.executemany(
            "INSERT INTO doubt (at, crc, payload) VALUES (?, ?, ?)",
            [(at, checksum(payload, 0, 0, at), payload) for _, _, payload in moved],
        )
        last = moved[-1][0]
        self._connection.execute("DELETE FROM spool WHERE id BETWEEN ? AND ?", (first, first + last))
        # Those of an earlier attempt are moved already, if they are not here again.
        entry.doubtful = [each for each in entry.doubtful if each[0] < moved[0][0]] + moved
        return last

    def _set_aside_in_slices(self, entry: Restart | GiveUp) -> None:
        row = read_row(self._connection, entry.record.key)
        last: int | None = 0
        while row is not None and last is not None:
            with transaction(self._connection):
                last = self._set_aside(entry, self._slices.most)
                if last is not None:
                    row.acked = last
                    write_rows(self._connection, [row])

    def _fetch(self, entry: Fetch) -> None:
        entry.rows = self._some_of(entry, entry.after, 0)

    def _begin(self, entry: Online) -> None:
        if entry.is_needed:
            entry.rows = self._some_of(entry, entry.after, entry.until)

    def _some_of(self, entry: Entry, after: int, until: int) -> list[Stored]:
        """Spooled messages after that number: all up to ``until``, and otherwise about `FETCH_BYTES`."""
        rows: list[Stored] = []
        first, nbytes = first_of(entry.record.key), 0
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

    def recover(self) -> bool:
        """After `apply` has failed: delete the reserve, and use the store as it is on disk.

        If the disk is full, keep the files open: their space would go to the next writer. Returns whether
        another attempt may succeed although nothing else has changed.
        """
        self._reserve.give_up()
        may_help = self._slices.shrink() and self._is_full
        try:
            if self._is_full:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            else:
                self._connection.close()
                self._connection = self._connect()
        except (sqlite3.Error, StoreError):
            pass  # The next `apply` reports the reason.
        return may_help

    def close(self) -> None:
        """Close the store. Everything that was applied is on disk."""
        try:
            self._connection.close()
        except sqlite3.Error:
            pass  # The next opening reads the WAL.
        self._lock.release()


def _nothing(store: Store, entry: Entry) -> None:
    """Do nothing: the entry is neither written nor read."""


def _growth(connection: sqlite3.Connection, more: int, log: int) -> int:
    """Bytes by which the files grow for ``more`` bytes of messages, and for deleting some of them later.

    The database has free pages, and a log that is written back (all of ``log`` bytes) is used anew.
    """
    execute = connection.execute
    _, frames, written_back = execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    free: int = execute("PRAGMA freelist_count").fetchone()[0] * PAGE
    pending: int = (frames - written_back) * FRAME
    room: int = log - frames * FRAME if pending else log
    return pending + max(0, more - free) + max(0, LEAST + more - room)

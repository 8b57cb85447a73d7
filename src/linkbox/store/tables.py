"""The tables of a store, and how the rows of sessions are written to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from linkbox.core.durable.rows import Row
from linkbox.store.checks import checksum

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
decode_row: Callable[[bytes | str], Row] = msgspec.json.Decoder(Row).decode


def statements() -> list[str]:
    """The SQL statements that create the tables."""
    return [each.strip() for each in _TABLES.split(";") if each.strip()]


def schema(connection: sqlite3.Connection) -> list[str]:
    """The SQL statements that created the tables of a database."""
    select = "SELECT sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*' ORDER BY rowid"
    return [row[0] for row in connection.execute(select).fetchall()]


def first_of(key: int) -> int:
    """The row id before those of all messages of a session."""
    return key << NUMBERS


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """What is done inside is on disk together, or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def read_row(connection: sqlite3.Connection, key: int) -> Row | None:
    """The row of a session as it is on disk."""
    found = connection.execute("SELECT row FROM session WHERE key=?", (key,)).fetchone()
    return None if found is None else decode_row(found[0])


def write_rows(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write the rows of sessions."""
    texts = [(row.key, _text_of(row)) for row in rows]
    connection.executemany(
        "INSERT OR REPLACE INTO session VALUES (?, ?, ?)",
        [(key, text, checksum(text.encode(), key)) for key, text in texts],
    )


def save(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Write the rows of sessions, and delete the messages that they do not need any more."""
    write_rows(connection, rows)
    execute = connection.execute
    for row in rows:
        first = first_of(row.key)
        execute(
            "DELETE FROM spool WHERE id BETWEEN ? AND ?",
            (first, first + (MASK if row.over else row.acked)),
        )
        # A commit that was reported as failed may be on disk nevertheless: its messages were not
        # accepted.
        execute("DELETE FROM spool WHERE id BETWEEN ? AND ?", (first + row.next + 1, first + MASK))
        delete_taken(connection, row)
        if row.over:
            execute(
                "DELETE FROM session WHERE key=? AND NOT EXISTS "
                "(SELECT 1 FROM inbox WHERE id BETWEEN ? AND ?)",
                (row.key, first, first + MASK),
            )


def _text_of(row: Row) -> str:
    """Encode a row. Its ``kept`` and ``freed`` numbers follow from the inbox, and may be many."""
    return _encode_row(msgspec.structs.replace(row, kept=(), freed=())).decode()


def delete_taken(connection: sqlite3.Connection, row: Row) -> None:
    """Delete the messages that the application has taken, except those that it has not acknowledged."""
    first = first_of(row.key)
    kept = sorted(number for number in row.kept if number <= row.given)
    starts, ends = (0, *(number + 1 for number in kept)), (*(number - 1 for number in kept), row.given)
    connection.executemany(
        "DELETE FROM inbox WHERE id BETWEEN ? AND ?",
        [(first + start, first + end) for start, end in zip(starts, ends, strict=True) if start <= end],
    )
    connection.executemany("DELETE FROM inbox WHERE id=?", [(first + number,) for number in row.freed])

"""Deletes messages in small transactions, for a disk that is full.

A transaction is complete in SQLite's log before it frees any page. So deleting needs room, too: in the log,
for each page of a table that changes. What one batch deletes may need more than the reserve has. Therefore,
after a write has failed, messages are deleted before the batch is written, a few in each transaction. The
marks on disk move along in steps, and are true after each of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from linkbox.core.durable.rows import Row
from linkbox.store.tables import MASK, delete_taken, first_of, read_row, transaction, write_rows

MOST = 512
"""Messages in a transaction at first. Deleting them takes about 256 KiB of log, whatever their size."""


class Slices:
    """The number of messages that one transaction may delete or move."""

    def __init__(self) -> None:
        self.most: int = 0
        """0: the disk has room, and there is no limit."""
        self.is_deleting = False
        """Does the store only delete now, and write no new messages?"""

    def shrink(self) -> bool:
        """A write has failed: delete in slices, in smaller ones if it was a deletion that found no room.

        Returns whether the slices are smaller than before.
        """
        before = self.most
        if not before:
            self.most = MOST
        elif self.is_deleting:
            self.most = max(1, before // 2)
        return self.most != before

    def delete(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
        """Delete what is not needed once ``rows`` are written, except for the last slice of each."""
        for row in rows:
            old = read_row(connection, row.key)
            if old is not None:
                self._delete_taken(connection, row, old)
                self._delete_spooled(connection, row, old)

    def _delete_spooled(self, connection: sqlite3.Connection, row: Row, old: Row) -> None:
        first = first_of(row.key)
        if row.over and not old.over:  # nothing of an open session may be missing without being acknowledged
            old.over = True
            with transaction(connection):
                write_rows(connection, [old])
        for number in self._ends(connection, "spool", first, old.acked, MASK if row.over else row.acked):
            old.acked = max(old.acked, min(number, row.acked))
            with transaction(connection):
                write_rows(connection, [old])
                connection.execute("DELETE FROM spool WHERE id BETWEEN ? AND ?", (first, first + number))

    def _delete_taken(self, connection: sqlite3.Connection, row: Row, old: Row) -> None:
        old.kept = row.kept
        for number in self._ends(connection, "inbox", first_of(row.key), old.given, row.given):
            old.given, old.start = number, 0
            with transaction(connection):
                write_rows(connection, [old])
                delete_taken(connection, old)
        for start in range(0, len(row.freed), self.most):
            old.freed = row.freed[start : start + self.most]
            with transaction(connection):
                delete_taken(connection, old)

    def _ends(
        self, connection: sqlite3.Connection, table: str, first: int, after: int, last: int
    ) -> Iterator[int]:
        """Cut the messages behind ``after`` into slices. Yield the last number of each but the last slice."""
        while True:
            found = connection.execute(
                f"SELECT id FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 2 OFFSET ?",
                (first + after + 1, first + last, self.most - 1),
            ).fetchall()
            if len(found) < 2:
                return
            after = found[0][0] - first
            yield after

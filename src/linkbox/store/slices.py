"""Deletes messages in small transactions, for a disk that is full.

A transaction is complete in SQLite's log before it frees any page, so deleting needs room, too: a page of the
log for each page of the tables that changes. What a batch deletes may be far more than the reserve has room
for. So after a batch has failed, its messages are deleted first, a few in each transaction: the marks on disk
move in steps, and are true after each step.
"""

from __future__ import annotations

import sqlite3

from linkbox.core.durable.rows import Row
from linkbox.store.tables import MASK, first_of, read_row, save, transaction

MOST = 512
"""Messages in the first slice. Deleting them takes about a quarter of the reserve, whatever their size."""


class Slices:
    """How many messages one transaction may delete or move; 0: the disk has room, there is no limit."""

    def __init__(self) -> None:
        self.most = 0

    def shrink(self) -> None:
        """A write has failed: use smaller slices from now on."""
        self.most = max(1, self.most // 2) if self.most else MOST

    def delete(self, connection: sqlite3.Connection, row: Row) -> None:
        """Delete what is not needed any more once ``row`` is written, except for the last slice of it."""
        old = read_row(connection, row.key)
        if old is None or not self.most:
            return
        if row.over and not old.over:
            old.over = True
            self._write(connection, old, row)
        first = first_of(row.key)
        while (number := self._end_of_slice(connection, "spool", first, old.acked, row.acked)) is not None:
            old.acked = number
            self._write(connection, old, row)
        while (number := self._end_of_slice(connection, "inbox", first, old.given, row.given)) is not None:
            old.given, old.start = number, 0
            self._write(connection, old, row)

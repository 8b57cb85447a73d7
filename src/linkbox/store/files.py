"""What lies beside a store's file: the lock that keeps a second process out, the reserve for a full disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from linkbox.errors import StoreError

RESERVE = 1024 * 1024
"""Bytes kept back: SQLite needs room even to delete."""


def create(path: Path) -> None:
    """An empty file that nobody else may read, unless it is there. The folder knows of it afterwards."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise StoreError(f"the store {path} cannot be opened: {error.strerror or error}") from error


class Lock:
    """Held while the store is open. It goes with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        # SQLite's own locks: they work on every system, and the kernel gives them back.
        create(path)
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
        try:
            self._connection.execute("PRAGMA journal_mode=MEMORY")
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._connection.close()
            raise StoreError(
                f"the store {path.with_name(path.name.removesuffix('-lock'))} is in use by another endpoint "
                f"or process ({error}): each needs a store of its own"
            ) from error

    def release(self) -> None:
        """Let the next one in."""
        self._connection.close()


class Reserve:
    """A file that is there to be given up when the disk is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_there = False

    def keep(self) -> None:
        """Have it, if there is room for it."""
        if self._is_there:
            return
        try:
            with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
                missing = RESERVE - file.seek(0, os.SEEK_END)
                if missing > 0:
                    file.write(bytes(missing))  # not a hole: it is to take room
                    file.flush()
                    os.fsync(file.fileno())
            self._is_there = True
        except OSError:
            self.give_up()

    def give_up(self) -> None:
        """Make room."""
        self._is_there = False
        with contextlib.suppress(OSError):
            self._path.unlink()

"""What lies beside a store's file: the lock that keeps a second process out, the reserve for a full disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from io import FileIO
from pathlib import Path

from linkbox.errors import StoreError

RESERVE = 1024 * 1024
"""Bytes kept back: SQLite needs room even to delete."""

STEP = RESERVE // 4
"""It grows by that much."""


def create(path: Path) -> None:
    """An empty file that nobody else may read, unless it is there. The folder knows of it afterwards.

    One that is there is not opened: with any descriptor of a file that is closed, POSIX gives up all locks
    that the process has on it, SQLite's included.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except FileExistsError:
        pass
    except OSError as error:
        raise not_opened(path, error) from error


def check_access(path: Path) -> None:
    """Only for who has the lock: may the file be read and written?"""
    try:
        with open(path, "r+b") as file:
            if os.name == "posix" and not file.seek(0, os.SEEK_END):
                os.fchmod(file.fileno(), 0o600)  # somebody else has made it
    except OSError as error:
        raise not_opened(path, error) from error


def not_opened(path: Path, error: OSError) -> StoreError:
    """Why there is no store."""
    return StoreError(f"the store {path} cannot be opened: {error.strerror or error}")


class Lock:
    """Held while the store is open. It goes with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        # SQLite's own locks: they work on every system, and the kernel gives them back.
        create(path)
        store = path.with_name(path.name.removesuffix("-lock"))
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreError(f"the store {store} cannot be opened: {path}: {error}") from error
        try:
            self._connection.execute("PRAGMA journal_mode=MEMORY")
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._connection.close()
            if "locked" not in str(error):
                raise StoreError(f"the store {store} cannot be opened: {path}: {error}") from error
            raise StoreError(
                f"the store {store} is in use by another endpoint "
                f"or process ({error}): each needs a store of its own"
            ) from error

    def release(self) -> None:
        """Let the next one in."""
        self._connection.close()


class Reserve:
    """A file that is there to be given up when the disk is full.

    What is committed stands in SQLite's log first, and needs as much room again in the file itself: so the
    reserve must be as large as the log, or a full disk could never be emptied.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0

    def keep(self, size: int = RESERVE) -> None:
        """Have that much, or more. OSError when there is no room for it."""
        if size <= self._size:
            return
        size = -(-size // STEP) * STEP
        with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
            there = file.seek(0, os.SEEK_END)
            try:
                _allocate(file, there, size)
            except OSError:
                file.truncate(self._size)
                raise
        self._size = size

    def try_to_keep(self) -> None:
        """Have the least, if there is room for it."""
        if not self._size:
            try:
                self.keep()
            except OSError:
                self.give_up()

    def was_kept(self) -> bool:
        """Did a store stand here before?"""
        return self._path.exists()

    def give_up(self) -> None:
        """Make room."""
        self._size = 0
        with contextlib.suppress(OSError):
            self._path.unlink()


def _allocate(file: FileIO, there: int, size: int) -> None:
    """Let the file take that much room, no holes."""
    if there > size:
        file.truncate(size)
    elif hasattr(os, "posix_fallocate") and there < size:
        os.posix_fallocate(file.fileno(), there, size - there)
    else:
        for at in range(there, size, RESERVE):
            file.write(bytes(min(RESERVE, size - at)))

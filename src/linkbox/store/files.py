"""The files beside a store: the lock against a second process, and the reserve for a full disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from io import FileIO
from pathlib import Path

from linkbox.errors import StoreError

RESERVE = 1024 * 1024
"""Bytes of disk space kept free: SQLite needs space even to delete."""

STEP = RESERVE // 4
"""The reserve grows in steps of this size."""
LOG = RESERVE // 2
"""Bytes of disk space for SQLite's log, from the beginning."""
LEAST = RESERVE // 4
"""The part of the reserve that received messages and messages to send leave alone: enough to delete some."""

SUFFIXES = ("-lock", "-reserve", "-wal", "-shm")
"""Of the names of the files beside a store."""
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def guard(store: Path) -> None:
    """Raise if a file beside the store is a symbolic link, or no file; make those that exist private.

    In a folder where others may write, a link could make this process truncate a file of its user. The files
    are not opened: see `create`.
    """
    try:
        os.stat(store.parent)
    except FileNotFoundError as error:
        text = f"{error.strerror}; make the folder {store.parent} first"
        raise StoreError(f"the store {store} cannot be opened: {text}") from error
    except OSError:
        pass  # It is reported for the file.
    for suffix in SUFFIXES:
        path = store.with_name(store.name + suffix)
        try:
            mode = os.lstat(path).st_mode
            if not stat.S_ISREG(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
                raise StoreError(f"the store {store} cannot be opened: {path} is {kind}; remove it")
            if os.name == "posix" and mode & 0o077:
                with contextlib.suppress(PermissionError):  # It belongs to another user.
                    os.chmod(path, stat.S_IMODE(mode) & 0o700)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise not_opened(store, error) from error


def create(path: Path) -> None:
    """Create an empty file that only its owner can read, unless it exists, and sync the folder.

    An existing file is not opened: POSIX releases all locks of a process on a file, including SQLite's,
    when the process closes any descriptor of that file.
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
    """Raise unless the file can be read and written; make it private. The caller must hold the lock."""
    try:
        with open(os.open(path, os.O_RDWR | _NO_FOLLOW), "r+b") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if os.name == "posix" and mode & 0o077:
                with contextlib.suppress(PermissionError):  # It belongs to another user.
                    os.fchmod(file.fileno(), mode & 0o700)
    except OSError as error:
        raise not_opened(path, error) from error


def not_opened(path: Path, error: OSError) -> StoreError:
    """The error for a store that cannot be opened."""
    return StoreError(f"the store {path} cannot be opened: {error.strerror or error}")


class Lock:
    """Held while the store is open. The system releases it when the process ends, also by a crash."""

    def __init__(self, path: Path) -> None:
        # SQLite's own locks work on every system, and the kernel releases them.
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
                f"or process ({error}): use a separate store for each"
            ) from error

    def release(self) -> None:
        """Release the lock."""
        self._connection.close()


class Reserve:
    """Disk space that is kept for a full disk: a file that is deleted then, and space for SQLite's log.

    A commit is in SQLite's log first, and later needs the same space again in the database file. The
    reserve must therefore be as large as the log; otherwise a store on a full disk could not even be
    emptied. The space of the log is not given up: nobody else can take it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(path.name.removesuffix("-reserve") + "-wal")
        self._size = 0
        self.has_log: bool = False
        """Is the space of the log reserved? Set this to False whenever SQLite opens a new log."""

    def keep(self, size: int = RESERVE, step: int = STEP) -> None:
        """Reserve at least ``size`` bytes, in steps of ``step``. OSError if the disk is too full."""
        if size <= self._size:
            return
        size = -(-size // step) * step
        flags = os.O_RDWR | os.O_CREAT | _NO_FOLLOW
        with open(os.open(self._path, flags, 0o600), "r+b", buffering=0) as file:
            there = file.seek(0, os.SEEK_END)
            try:
                _allocate(file, there, size)
            except OSError:
                file.truncate(self._size)
                raise
        self._size = size

    def keep_log(self) -> None:
        """Reserve space for the log. OSError if the disk has none."""
        if hasattr(os, "posix_fallocate"):  # Elsewhere the log grows as it is written.
            with open(os.open(self._log, os.O_RDWR | _NO_FOLLOW), "r+b", buffering=0) as file:
                there = file.seek(0, os.SEEK_END)
                if there < LOG:
                    os.posix_fallocate(file.fileno(), there, LOG - there)
        self.has_log = True

    def try_to_keep(self) -> None:
        """Reserve the minimum if the disk has space for it."""
        try:
            if not self.has_log:
                self.keep_log()
            if not self._size:
                self.keep()
        except OSError:
            self.give_up()

    def was_kept(self) -> bool:
        """Did a store exist at this path before?"""
        return self._path.exists()

    def give_up(self) -> None:
        """Delete the reserve, to free disk space."""
        self._size = 0
        with contextlib.suppress(OSError):
            self._path.unlink()


def _allocate(file: FileIO, there: int, size: int) -> None:
    """Make the file occupy ``size`` bytes on disk, without holes."""
    if there > size:
        file.truncate(size)
    elif hasattr(os, "posix_fallocate") and there < size:
        os.posix_fallocate(file.fileno(), there, size - there)
    else:
        for at in range(there, size, RESERVE):
            file.write(bytes(min(RESERVE, size - at)))

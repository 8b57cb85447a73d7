"""Checks that detect damage in a store where SQLite itself does not look."""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

_head = struct.Struct("<qqd").pack
_WAL_HEADER, _FRAME_HEADER = 32, 24
PAGE = 4096
FRAME = _FRAME_HEADER + PAGE
"""Bytes of the write-ahead log for each page."""


def checksum(payload: bytes, id: int, mark: int = 0, at: float = 0.0) -> int:
    """The CRC-32 of a row: of its payload, and of the fields that identify its place."""
    return crc32(payload, crc32(_head(id, mark, at)))


def wal_of(path: Path) -> Path:
    """The write-ahead log of SQLite: transactions that are committed and not in the file yet."""
    return path.with_name(path.name + "-wal")


def log_damage(path: Path) -> str | None:
    """Describe the damage in the write-ahead log that a crashed process left behind; None if it is intact.

    Call this before SQLite opens the log. SQLite treats the first frame with a wrong checksum as the end,
    because a power failure leaves a half-written last transaction. But each transaction is on disk before
    the next one begins. If two or more complete transactions follow the supposed end, the log is damaged
    there, and SQLite would lose them. (Damage in the very last transaction cannot be distinguished from a
    power failure.)
    """
    try:
        data = wal_of(path).read_bytes()
    except FileNotFoundError:
        return None
    if len(data) <= _WAL_HEADER or not any(data):  # Space for it may be reserved (see files.py).
        return None
    magic, _, size, _, salt, salt2, *sums = struct.unpack_from(">8I", data)
    order, step = "<>"[magic & 1], _FRAME_HEADER + size
    total = _checksum(data[:24], order, (0, 0))
    if magic not in (0x377F0682, 0x377F0683) or total != tuple(sums):
        return "the header of its write-ahead log has a wrong checksum"
    is_valid, lost = True, 0
    for at in range(_WAL_HEADER, len(data) - step + 1, step):
        _, pages, one, two, *sums = struct.unpack_from(">6I", data, at)
        if is_valid:
            total = _checksum(data[at : at + 8], order, total)
            total = _checksum(data[at + _FRAME_HEADER : at + step], order, total)
            is_valid = (one, two) == (salt, salt2) and total == tuple(sums)
        if not is_valid:
            lost += pages != 0 and (one, two) == (salt, salt2)
    return f"{lost} transactions of its write-ahead log cannot be read" if lost > 1 else None


def _checksum(data: bytes, order: str, before: tuple[int, int]) -> tuple[int, int]:
    """The checksum that SQLite uses in its log."""
    first, second = before
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, two in zip(words, words, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second

"""Messages on stdin, in files and on stdout.

A message of Bytes is a line, unless an option says otherwise. Json and MsgPack are JSON, one message per line
(NDJSON).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from linkbox import DecodeError, Framing, Json, Lines, Raw
from linkbox.cli.options import FormatName
from linkbox.cli.status import WrongUse, say

PIECE = 65536
"""Bytes to read at a time."""


class Readable(Protocol):
    """A source of messages."""

    def read(self, size: int = -1, /) -> bytes:
        """Read like a binary file."""
        ...


class Output:
    """Writes messages to stdout."""

    def __init__(self, format: FormatName, framing: Framing, no_newline: bool = False) -> None:
        self._file = sys.stdout.buffer
        self._is_bytes = format is FormatName.bytes
        bare = self._is_bytes and (no_newline or isinstance(framing, Raw))
        self._end = b"" if bare else b"\n"

    def write(self, message: Any) -> None:
        """Write one message. `flush` makes it visible."""
        text = message if self._is_bytes else msgspec.json.encode(message)
        self._file.write(text + self._end)

    def flush(self) -> None:
        """Write the buffer to stdout."""
        self._file.flush()


def parse(text: bytes, format: FormatName, where: str) -> Any:
    """Parse the text of one message. `WrongUse` if it does not fit the format."""
    if format is FormatName.bytes:
        return text
    try:
        return Json().decode(text)
    except DecodeError as error:
        raise WrongUse(f"{where} is not JSON, as --format {format.value} needs: {error}") from error


def newline_of(framing: Framing) -> bytes:
    r"""The bytes to strip from the end of a line: Lines strips ``\r\n``, others only ``\n``."""
    return b"\r\n" if isinstance(framing, Lines) else b"\n"


def strip_newline(line: bytes, newline: bytes) -> bytes:
    """Return the line without its newline."""
    return line.removesuffix(newline) if line.endswith(newline) else line.removesuffix(b"\n")


def lines_of(
    file: Readable, format: FormatName, framing: Framing, where: str, is_patient: bool = False
) -> Iterator[Any]:
    """Yield the messages in the lines of a file, each as soon as it is read. Only Bytes has blank messages.

    A line that does not fit the format is a `WrongUse`; with ``is_patient`` it is reported and skipped.
    """
    newline = newline_of(framing)
    for number, line in enumerate(unbuffered_lines(file), 1):
        if format is not FormatName.bytes and not line.strip():
            continue
        try:
            message = parse(strip_newline(line, newline), format, f"line {number} of {where}")
        except WrongUse as error:
            if not is_patient:
                raise
            say(str(error))
        else:
            yield message


def pieces_of(file: Readable, size: int) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces of ``size``; the last one may be shorter."""
    while piece := file.read(size):
        yield piece


def unbuffered_lines(file: Readable) -> Iterator[bytes]:
    """Yield the lines of a file, a pipe or a terminal, each as soon as it is complete."""
    held = bytearray()
    read = getattr(file, "read1", file.read)
    while data := read(PIECE):
        *whole, rest = data.split(b"\n")
        for line in whole:
            yield bytes(held) + line + b"\n"
            held.clear()
        held += rest
    if held:
        yield bytes(held)


def raw_stdin() -> BinaryIO:
    """Open stdin without a buffer.

    A thread may still read from it when the program ends. A buffer has a lock, and the interpreter cannot
    exit while a thread holds it.
    """
    return open(0, "rb", buffering=0, closefd=False)


def open_input(name: str) -> BinaryIO:
    """Open the file of that name; ``-`` is stdin."""
    return sys.stdin.buffer if name == "-" else Path(name).open("rb")


def name_of(name: str) -> str:
    """The name of the input in messages to the user."""
    return "stdin" if name == "-" else name

"""How messages look on stdin, in files and on stdout.

Bytes are lines, unless told otherwise. Json and MsgPack are JSON, one message a line (NDJSON).
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
"""Bytes that are read at a time."""


class Readable(Protocol):
    """Where messages are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """As of a binary file."""
        ...


class Output:
    """Messages on stdout."""

    def __init__(self, format: FormatName, framing: Framing, no_newline: bool = False) -> None:
        self._file = sys.stdout.buffer
        self._is_bytes = format is FormatName.bytes
        bare = self._is_bytes and (no_newline or isinstance(framing, Raw))
        self._end = b"" if bare else b"\n"

    def write(self, message: Any) -> None:
        """One message. It is seen for sure after `flush`."""
        text = message if self._is_bytes else msgspec.json.encode(message)
        self._file.write(text + self._end)

    def flush(self) -> None:
        """Let it be seen."""
        self._file.flush()


def parse(text: bytes, format: FormatName, where: str) -> Any:
    """The message that a piece of text means. `WrongUse` if it means none."""
    if format is FormatName.bytes:
        return text
    try:
        return Json().decode(text)
    except DecodeError as error:
        raise WrongUse(f"{where} is not JSON, as --format {format.value} needs: {error}") from error


def newline_of(framing: Framing) -> bytes:
    r"""What does not belong to a line: with Lines also a ``\r``, or else a line stays as it is."""
    return b"\r\n" if isinstance(framing, Lines) else b"\n"


def strip_newline(line: bytes, newline: bytes) -> bytes:
    """The line without its end."""
    return line.removesuffix(newline) if line.endswith(newline) else line.removesuffix(b"\n")


def lines_of(
    file: Readable, format: FormatName, framing: Framing, where: str, is_patient: bool = False
) -> Iterator[Any]:
    """The messages in the lines of a file, as they come. Without bytes, blank lines mean nothing.

    A line that is no message is the end (`WrongUse`); ``is_patient``: it is pointed out, and left out.
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
    """The bytes of a file in pieces of ``size``, the last one perhaps shorter."""
    while piece := file.read(size):
        yield piece


def unbuffered_lines(file: Readable) -> Iterator[bytes]:
    """Lines of a file, a pipe or a terminal, each as soon as it is there."""
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
    """stdin without a buffer.

    A thread may be left waiting in it when the program ends: a buffer has a lock, and the interpreter
    does not end while a thread holds it.
    """
    return open(0, "rb", buffering=0, closefd=False)


def open_input(name: str) -> BinaryIO:
    """The file of that name; ``-`` is stdin."""
    return sys.stdin.buffer if name == "-" else Path(name).open("rb")


def name_of(name: str) -> str:
    """What to call it in a message."""
    return "stdin" if name == "-" else name

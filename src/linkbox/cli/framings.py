"""Framings by name: the value of ``--framing``, such as ``length-prefixed:4,little``.

One syntax for all: ``NAME``, or ``NAME:VALUE,VALUE,…``. A value may also have its name, ``offset=4``. Texts
have the escapes of Python: ``\\n``, ``\\r``, ``\\t``, ``\\0``, ``\\x02``, and ``\\,`` for a comma.
"""

from __future__ import annotations

import difflib
import functools
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from linkbox import (
    Cobs,
    DecimalPrefixed,
    Delimited,
    Enclosed,
    FixedSize,
    Framing,
    JsonStream,
    LengthPrefixed,
    Lines,
    Linked,
    Netstring,
    Raw,
    Slip,
    VarintPrefixed,
)

Reader = Callable[[str], Any]
"""Converts the text of one value. ValueError if it is wrong."""
Checksum = Callable[[bytes], bytes]


def framing_named(text: str) -> Framing:
    """Make a framing from its name and values. ValueError says what is wrong, and what is possible."""
    name, _, rest = text.partition(":")
    kind = KINDS.get(_SHORT.get(name, name))
    if kind is None:
        near = difflib.get_close_matches(name, [*KINDS, *_SHORT], 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"unknown framing {name!r}{guess}; possible are {', '.join(KINDS)}")
    if kind.make is LengthPrefixed:
        rest = re.sub(r"^([0-9]*):", r"\1,", rest)  # `length-prefixed:2:little`, as it was once written
    try:
        return kind.make(**_values(kind, rest))
    except ValueError as error:
        raise ValueError(f"{error}; write {kind.usage}") from error


def framing_names(incomplete: str) -> list[str]:
    """The names that begin so, for the completion of a shell."""
    return [name for name in KINDS if name.startswith(incomplete)]


class Kind(NamedTuple):
    """A framing of the command line."""

    make: Callable[..., Framing]
    usage: str
    """How it is written; the spaces are only for the end of a line."""
    names: dict[str, Reader] = {}  # noqa: RUF012  (never changed)
    """The values, in the order in which they may be written without their names. A name with dashes is the
    parameter with underscores."""
    needed: int = 0
    """How many of them must be given."""
    repeats: str = ""
    """The one that may be given several times."""


def _values(kind: Kind, rest: str) -> dict[str, Any]:
    """The parameters of a framing from what is written behind its name."""
    found: dict[str, Any] = {}
    unnamed = iter([name for name, read in kind.names.items() if read is not _flag])
    for piece in _pieces(rest) if rest else ():
        name, equals, value = piece.partition("=")
        if kind.names.get(piece) is _flag:
            name, value = piece, "yes"
        elif not equals or name not in kind.names:
            name, value = next(unnamed, ""), piece
        if not name:
            raise ValueError(
                f"{piece!r} is too much" if kind.names else f"it takes no argument, but has {rest!r}"
            )
        if name in found and name != kind.repeats:
            raise ValueError(f"{name} is given twice")
        if piece or name in list(kind.names)[: kind.needed]:  # `length-prefixed:,little` has the default size
            found[name] = _read(name, kind.names[name], value, found.get(name))
    missing = [name for name in list(kind.names)[: kind.needed] if name not in found]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return {name.replace("-", "_"): value for name, value in found.items()}


def _read(name: str, read: Reader, text: str, before: Any) -> Any:
    try:
        value = read(text)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from error
    return value if before is None else before + value


def _pieces(rest: str) -> list[str]:
    r"""Split at commas, but not at ``\,``. A single comma is a text."""
    pieces = [rest] if rest == "," else re.findall(r"((?:\\.|[^\\,])*),", f"{rest},", re.DOTALL)
    if ",".join(pieces) != rest:
        raise ValueError(f"it ends with a backslash: {rest!r}; write \\\\ for one")
    return pieces


def _text(text: str) -> bytes:
    plain = re.sub(r"\\(.)", lambda match: "," if match[1] == "," else match[0], text)
    raw = plain.encode("utf-8", "surrogateescape")
    try:
        value = raw.decode("unicode_escape").encode("latin-1")
    except UnicodeError:
        raise ValueError(f"has an escape that is not known: {text!r}") from None
    if not value:
        raise ValueError("needs at least one byte, such as ; or \\r\\n")
    return value


def _texts(text: str) -> tuple[bytes, ...]:
    return (_text(text),)


def _newline(text: str) -> bytes:
    value = _text(text)
    if value not in (b"\n", b"\r\n"):
        raise ValueError(f"must be \\n or \\r\\n, not {text!r}: delimited:TEXT splits at anything else")
    return value


def _byte(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"must be a number such as 0x20, not {text!r}") from None


def _size(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"must be a number of bytes, not {text!r}")
    return int(text)


def _difference(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"must be a number of bytes, not {text!r}")
    return int(text)


def _order(text: str) -> str:
    if text not in ("big", "little"):
        raise ValueError(f"must be big or little, not {text!r}")
    return text


def _flag(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"must be yes or no, not {text!r}")
    return text == "yes"


def _checksum(text: str) -> Checksum:
    if text not in CHECKSUMS:
        raise ValueError(f"{text!r} is unknown; possible are {', '.join(CHECKSUMS)}")
    return CHECKSUMS[text]


# -- checksums ------------------------------------------------------------------------------------------


def _xor(data: bytes) -> bytes:
    return bytes((functools.reduce(operator.xor, data, 0),))


def _sum(data: bytes) -> bytes:
    return bytes((sum(data) & 0xFF,))


def _crc16(data: bytes, polynomial: int, end: int) -> bytes:
    """A CRC of 16 bits that begins with all ones and takes the lowest bit first, little-endian."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
    return (crc ^ end).to_bytes(2, "little")


def _crc16_modbus(data: bytes) -> bytes:
    return _crc16(data, 0xA001, 0)


def _crc16_x25(data: bytes) -> bytes:
    """The one of HDLC and PPP."""
    return _crc16(data, 0x8408, 0xFFFF)


CHECKSUMS: dict[str, Checksum] = {
    "xor": _xor,
    "sum": _sum,
    "crc16-modbus": _crc16_modbus,
    "crc16-x25": _crc16_x25,
}
"""The checksums of the command line: an LRC is ``xor``."""

KINDS: dict[str, Kind] = {
    "linked": Kind(Linked, "linked"),
    "raw": Kind(Raw, "raw"),
    "lines": Kind(Lines, "lines[:NEWLINE]", {"newline": _newline}),
    "delimited": Kind(
        Delimited, "delimited:END [,receive=END …]", {"delimiter": _text, "receive": _texts}, 1, "receive"
    ),
    "length-prefixed": Kind(
        LengthPrefixed,
        "length-prefixed[:SIZE [,big|little] [,offset=N] [,adjust=N] [,header=TEXT] [,keep-header]]",
        {
            "size": _size,
            "byteorder": _order,
            "offset": _size,
            "adjust": _difference,
            "header": _text,
            "keep-header": _flag,
        },
    ),
    "fixed-size": Kind(FixedSize, "fixed-size:N", {"size": _size}, 1),
    "varint-prefixed": Kind(VarintPrefixed, "varint-prefixed"),
    "decimal-prefixed": Kind(DecimalPrefixed, "decimal-prefixed:TEXT", {"separator": _text}, 1),
    "netstring": Kind(Netstring, "netstring"),
    "json-stream": Kind(JsonStream, "json-stream"),
    "enclosed": Kind(
        Enclosed,
        "enclosed:START,END [,escape=BYTE] [,escape-xor=N] [,checksum=NAME] [,checksum-after]",
        {
            "start": _text,
            "end": _text,
            "escape": _text,
            "escape-xor": _byte,
            "checksum": _checksum,
            "checksum-after": _flag,
        },
        2,
    ),
    "slip": Kind(Slip, "slip[:checksum=NAME]", {"checksum": _checksum}),
    "cobs": Kind(Cobs, "cobs[:checksum=NAME]", {"checksum": _checksum}),
}
"""The framings of the command line: all that linkbox has."""

_SHORT = {
    "length": "length-prefixed",
    "fixed": "fixed-size",
    "varint": "varint-prefixed",
    "decimal": "decimal-prefixed",
    "json": "json-stream",
}

FRAMINGS = " | ".join(kind.usage for kind in KINDS.values())
"""All of them, for the help."""

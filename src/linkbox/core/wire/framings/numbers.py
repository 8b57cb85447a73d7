"""Framings with a length whose own size varies: a varint, or a decimal number."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from linkbox.core.wire.decoder import Pile
from linkbox.core.wire.framing import PlainDecoder, PlainFraming, excerpt
from linkbox.errors import ProtocolViolation

_LONGEST_VARINT: Final = 10
_MOST_DIGITS: Final = 20


@dataclass(frozen=True)
class VarintPrefixed(PlainFraming):
    """Each message follows its length as a varint, as in delimited streams of protocol buffers."""

    name: ClassVar[str] = "varint-prefixed"

    def check(self, payload: bytes) -> None:
        """Every message can be carried."""

    def encode(self, payload: bytes) -> bytes:
        prefix = bytearray()
        rest = len(payload)
        while rest > 0x7F:
            prefix.append(rest & 0x7F | 0x80)
            rest >>= 7
        prefix.append(rest)
        return bytes(prefix) + payload

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        return b"".join(map(self.encode, payloads))

    def decoder(self, limit: int) -> PlainDecoder:
        return _VarintDecoder(limit)


@dataclass(frozen=True)
class DecimalPrefixed(PlainFraming):
    """Each message follows its length as a decimal number and ``separator``.

    ``DecimalPrefixed(b" ")`` is the octet counting of syslog (RFC 6587).
    """

    separator: bytes
    name: ClassVar[str] = "decimal-prefixed"

    def __post_init__(self) -> None:
        separator = self.separator
        if type(separator) is not bytes or not separator or separator[:1].isdigit():
            raise ValueError(
                "DecimalPrefixed(…) needs the bytes behind the number, as in DecimalPrefixed(b' '), "
                f"not {separator!r}"
            )

    def check(self, payload: bytes) -> None:
        """Every message can be carried."""

    def encode(self, payload: bytes) -> bytes:
        return b"%d%b%b" % (len(payload), self.separator, payload)

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        return b"".join(map(self.encode, payloads))

    def decoder(self, limit: int) -> PlainDecoder:
        return _DecimalDecoder(limit, self.separator, b"")


@dataclass(frozen=True)
class Netstring(PlainFraming):
    """Each message is a netstring: ``5:hello,``."""

    name: ClassVar[str] = "netstring"

    def check(self, payload: bytes) -> None:
        """Every message can be carried."""

    def encode(self, payload: bytes) -> bytes:
        return b"%d:%b," % (len(payload), payload)

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        return b"".join(map(self.encode, payloads))

    def decoder(self, limit: int) -> PlainDecoder:
        return _DecimalDecoder(limit, b":", b",")


class _NumberDecoder(PlainDecoder):
    """Reads a number, then that many bytes, then ``end``."""

    def __init__(self, max_message: int, end: bytes) -> None:
        super().__init__(max_message)
        self._end = end
        self._pile = Pile()
        self._wanted = 0  # bytes needed for the next step

    @property
    def pending(self) -> int:
        return self._pile.size

    @abstractmethod
    def _number(self, data: bytes, position: int) -> tuple[int, int] | None:
        """The number at this position, and where it ends. None: it is not complete. May set ``error``."""

    def feed(self, data: bytes) -> list[bytes]:
        if self.error:
            return []
        pile = self._pile
        there = pile.join(data, self._wanted)
        if there is None:
            return []
        data = there
        messages: list[bytes] = []
        position = 0
        while position < len(data):
            found = self._number(data, position)
            if self.error:
                return messages
            if found is None:
                self._wanted = len(data) - position + 1
                break
            length, start = found
            if length > self.max_message:
                self._too_large(str(length))
                return messages
            end = start + length + len(self._end)
            if end > len(data):
                self._wanted = end - position
                break
            if data[start + length : end] != self._end:
                self.error = ProtocolViolation(
                    f"a message of {length} bytes ends with {data[start + length : end]!r} instead of "
                    f"{self._end!r}: {excerpt(data[start:end])}"
                )
                return messages
            messages.append(data[start : start + length])
            position = end
        if position < len(data):
            pile.add_rest(data, position)
        return messages

    def eof(self) -> list[bytes]:
        if self._pile.size:
            there = self._pile.take()
            self.error = ProtocolViolation(f"the stream ended inside a message: {excerpt(there)}")
        return []


class _VarintDecoder(_NumberDecoder):
    def __init__(self, max_message: int) -> None:
        super().__init__(max_message, b"")

    def _number(self, data: bytes, position: int) -> tuple[int, int] | None:
        number = shift = 0
        for at in range(position, min(len(data), position + _LONGEST_VARINT)):
            byte = data[at]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number, at + 1
            shift += 7
        if shift == 7 * _LONGEST_VARINT:
            prefix = data[position : position + _LONGEST_VARINT]
            self.error = ProtocolViolation(f"a varint of more than 10 bytes: {prefix!r}")
        return None


class _DecimalDecoder(_NumberDecoder):
    def __init__(self, max_message: int, separator: bytes, end: bytes) -> None:
        super().__init__(max_message, end)
        self._separator = separator
        self._prefix = re.compile(rb"([0-9]{1,%d})%b" % (_MOST_DIGITS, re.escape(separator)))
        self._begin = re.compile(rb"[0-9]*")

    def _number(self, data: bytes, position: int) -> tuple[int, int] | None:
        match = self._prefix.match(data, position)
        if match is not None:
            return int(match[1]), match.end()
        there = data[position : position + _MOST_DIGITS + len(self._separator)]
        begin = self._begin.match(there)
        digits = 0 if begin is None else begin.end()
        rest = there[digits:]
        if not self._separator.startswith(rest) or digits > _MOST_DIGITS or (rest and not digits):
            self.error = ProtocolViolation(
                f"expected a decimal length and {self._separator!r}: {excerpt(there)}"
            )
        return None

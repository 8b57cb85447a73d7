"""LengthPrefixed and FixedSize: the size of each message is known from its first bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from typing import ClassVar, Final, Literal

from linkbox.core.wire.decoder import Pile
from linkbox.core.wire.framing import PlainDecoder, PlainFraming, excerpt
from linkbox.errors import FormatError, ProtocolViolation, TooLarge

_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_LONGEST_HEADER: Final = 65536
Order = Literal["big", "little"]


@dataclass(frozen=True)
class LengthPrefixed(PlainFraming):
    """A length comes before each message: ``size`` bytes (1 to 8), ``"big"`` or ``"little"`` endian.

    The length may be inside a header: ``offset`` bytes come before it, and its value plus ``adjust`` is the
    number of bytes behind it. TPKT counts its own four bytes, so it has ``adjust=-4``. With
    ``keep_header=True`` a message is the header and the body, and the length in a message that is sent is
    filled in. Otherwise a message is the body; ``header`` has the first ``offset`` bytes of those that are
    sent, and is not compared with what arrives.
    """

    size: int = 4
    byteorder: Order = "big"
    offset: int = 0
    adjust: int = 0
    keep_header: bool = False
    header: bytes | None = None
    name: ClassVar[str] = "length-prefixed"

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= 8:
            raise ValueError(f"LengthPrefixed(size=…) must be 1 to 8 bytes, not {self.size!r}")
        if self.byteorder not in ("big", "little"):
            raise ValueError(f"LengthPrefixed(byteorder=…) must be 'big' or 'little', not {self.byteorder!r}")
        if type(self.offset) is not int or not 0 <= self.offset <= _LONGEST_HEADER:
            raise ValueError(f"LengthPrefixed(offset=…) must be a number of bytes, not {self.offset!r}")
        if type(self.adjust) is not int or abs(self.adjust) > _LONGEST_HEADER:
            raise ValueError(f"LengthPrefixed(adjust=…) must be a number of bytes, not {self.adjust!r}")
        if type(self.keep_header) is not bool:
            raise ValueError(f"LengthPrefixed(keep_header=…) must be True or False, not {self.keep_header!r}")
        header = self.header
        if header is not None and (
            type(header) is not bytes or len(header) != self.offset or self.keep_header
        ):
            raise ValueError(
                f"LengthPrefixed(header=…) must be the {self.offset} bytes before the length (offset=), "
                f"without keep_header, not {header!r}"
            )

    def check(self, payload: bytes) -> None:
        width = self.offset + self.size
        if self.keep_header:
            if len(payload) < width:
                raise FormatError(
                    f"the message has {len(payload)} bytes, and must begin with a header of {width} "
                    "(keep_header=True)"
                )
        elif self.offset and self.header is None:
            raise FormatError(
                f"the {self.offset} bytes before the length are not known: use LengthPrefixed(header=b'…') "
                "if they are always the same, or keep_header=True"
            )
        value = self._value(payload)
        longest = (1 << 8 * self.size) - 1
        if not 0 <= value <= longest:
            raise FormatError(
                f"the message has {len(payload)} bytes, a prefix of size {self.size} says at most "
                f"{longest + self.adjust}; use LengthPrefixed() with a larger size on both sides"
                if value > 0
                else f"the message has {len(payload)} bytes, at least {self.adjust} are needed (adjust=)"
            )

    def _value(self, payload: bytes) -> int:
        """The value of the length field."""
        body = len(payload) - (self.offset + self.size if self.keep_header else 0)
        return body - self.adjust

    def encode(self, payload: bytes) -> bytes:
        self.check(payload)
        length = self._value(payload).to_bytes(self.size, self.byteorder)
        if self.keep_header:
            return payload[: self.offset] + length + payload[self.offset + self.size :]
        return (self.header or b"") + length + payload

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        if self.size not in _CODES or self.offset or self.adjust or self.keep_header:
            return b"".join(map(self.encode, payloads))
        if max(map(len, payloads), default=0) >= 1 << 8 * self.size:
            self._check_all(payloads)
        prefixes = map(_field(self).pack, map(len, payloads))
        return b"".join(chain.from_iterable(zip(prefixes, payloads, strict=True)))

    def decoder(self, limit: int) -> PlainDecoder:
        """`TooLarge` if not even a header is allowed."""
        if self.keep_header and self.offset + self.size > limit:
            raise TooLarge(
                f"the header of {self.offset + self.size} bytes is over the limit of {limit} bytes; "
                "raise Limits(message=…)"
            )
        return _LengthDecoder(limit, self)


def _field(framing: LengthPrefixed) -> Struct:
    return Struct((">" if framing.byteorder == "big" else "<") + _CODES[framing.size])


class _OddField:
    """Reads a number of 3, 5, 6 or 7 bytes, which `Struct` cannot."""

    def __init__(self, size: int, byteorder: Order) -> None:
        self._size = size
        self._byteorder: Order = byteorder

    def unpack_from(self, data: bytes, position: int) -> tuple[int]:
        return (int.from_bytes(data[position : position + self._size], self._byteorder),)


class _LengthDecoder(PlainDecoder):
    def __init__(self, max_message: int, framing: LengthPrefixed) -> None:
        super().__init__(max_message)
        self._framing = framing
        is_odd = framing.size not in _CODES
        self._field = _OddField(framing.size, framing.byteorder) if is_odd else _field(framing)
        self._pile = Pile()
        self._wanted = 0  # bytes needed for the next step

    @property
    def pending(self) -> int:
        return self._pile.size

    def feed(self, data: bytes) -> list[bytes]:
        if self.error:
            return []
        pile = self._pile
        there = pile.join(data, self._wanted)
        if there is None:
            return []
        data = there
        messages: list[bytes] = []
        framing = self._framing
        unpack = self._field.unpack_from
        offset, width = framing.offset, framing.offset + framing.size
        stripped = 0 if framing.keep_header else width
        longest = self.max_message + stripped
        position = 0
        size = len(data)
        while size - position >= width:
            whole = width + unpack(data, position + offset)[0] + framing.adjust
            if not width <= whole <= longest:
                self._refuse(data[position : position + width], whole - width, whole - stripped)
                return messages
            end = position + whole
            if end > size:
                self._wanted = whole
                pile.add_rest(data, position)
                return messages
            messages.append(data[position + stripped : end])
            position = end
        if position < size:
            self._wanted = width
            pile.add(data[position:])
        return messages

    def _refuse(self, header: bytes, body: int, message: int) -> None:
        if body >= 0:
            self._too_large(str(message))
        else:
            self.error = ProtocolViolation(
                f"a header says that {body} bytes follow (adjust={self._framing.adjust} included): "
                f"{excerpt(header)}"
            )

    def eof(self) -> list[bytes]:
        if self._pile.size:
            there = len(self._pile.take())
            self.error = ProtocolViolation(
                f"the stream ended inside a message: {self._wanted - there} of {self._wanted} bytes, "
                "length included, are missing"
            )
        return []


@dataclass(frozen=True)
class FixedSize(PlainFraming):
    """Every message has exactly ``size`` bytes."""

    size: int
    name: ClassVar[str] = "fixed-size"

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"FixedSize(…) must be a number of bytes, at least 1, not {self.size!r}")

    def check(self, payload: bytes) -> None:
        if len(payload) != self.size:
            raise FormatError(
                f"the message has {len(payload)} bytes, framing=FixedSize({self.size}) carries exactly "
                f"{self.size}; fill it up, or use framing=LengthPrefixed() or Linked()"
            )

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        if not set(map(len, payloads)) <= {self.size}:
            self._check_all(payloads)
        return b"".join(payloads)

    def decoder(self, limit: int) -> PlainDecoder:
        """`TooLarge` if not even one message of this size is allowed."""
        if self.size > limit:
            raise TooLarge(
                f"framing=FixedSize({self.size}) has messages over the limit of {limit} bytes; "
                "raise Limits(message=…)"
            )
        return _FixedDecoder(limit, self.size)


class _FixedDecoder(PlainDecoder):
    def __init__(self, max_message: int, size: int) -> None:
        super().__init__(max_message)
        self._size = size
        self._pile = Pile()

    @property
    def pending(self) -> int:
        return self._pile.size

    def feed(self, data: bytes) -> list[bytes]:
        size = self._size
        pile = self._pile
        there = pile.join(data, size)
        if there is None:
            return []
        data = there
        whole = len(data) - len(data) % size
        if whole < len(data):
            pile.add_rest(data, whole)
        return [data[start : start + size] for start in range(0, whole, size)]

    def eof(self) -> list[bytes]:
        if self._pile.size:
            there = len(self._pile.take())
            self.error = ProtocolViolation(
                f"the stream ended inside a message: {self._size - there} of {self._size} bytes are missing"
            )
        return []

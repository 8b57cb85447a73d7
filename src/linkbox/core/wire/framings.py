"""How messages are delimited on the wire: `Linked`, our own protocol, and the plain framings.

A framing is a small immutable description; equal framings are interchangeable. The plain framings are for
peers without linkbox, so they have no acknowledgements, no resume, no heartbeat, and no END mark other than
the end of the stream.

A plain framing encodes messages and makes a `PlainDecoder` for each connection. As with our own protocol, a
decoder never raises: it returns the valid messages, keeps the error that follows them in ``error``, and
returns nothing from then on. A message over ``max_message`` is an error before memory is used for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from typing import ClassVar, Final, Literal

from linkbox.core.wire.decoder import Pile
from linkbox.errors import FormatError, ProtocolViolation, TooLarge

_CHOICE: Final = "Linked(), Raw(), Lines(), Delimited(b'…'), LengthPrefixed() or FixedSize(n)"


@dataclass(frozen=True)
class Framing:
    """Base of all framings. ``name`` is for logs; ``linked`` is true for our own protocol."""

    name: ClassVar[str] = ""
    linked: ClassVar[bool] = False


@dataclass(frozen=True)
class Linked(Framing):
    """Our own protocol, the default: acknowledged, resumable, with heartbeats and an END mark."""

    name: ClassVar[str] = "linked"
    linked: ClassVar[bool] = True


class PlainDecoder(ABC):
    """Finds messages in the stream of one connection.

    ``error`` is None, or the error that follows the messages returned so far (`TooLarge` or
    `ProtocolViolation`): check it after handling them. From then on nothing is returned.
    """

    def __init__(self, max_message: int) -> None:
        self.max_message = max_message
        self.error: TooLarge | ProtocolViolation | None = None

    @abstractmethod
    def receive(self, data: bytes) -> list[bytes]:
        """Return the messages that are complete now, in order; keep the rest. Never raises."""

    def eof(self) -> list[bytes]:
        """The stream has ended: return the message that this completes, if any. Then check ``error``."""
        return []

    @property
    def pending(self) -> int:
        """Bytes held: the beginning of an incomplete message."""
        return 0

    def _too_large(self, size: str) -> None:
        self.error = TooLarge(
            f"the peer sent a message of {size} bytes, the limit is {self.max_message}; "
            "raise Limits(message=…) to allow it"
        )


@dataclass(frozen=True)
class PlainFraming(Framing, ABC):
    """Base of the framings without our protocol. All methods may be called from any thread."""

    @abstractmethod
    def check(self, payload: bytes) -> None:
        """Raise `FormatError` with the reason and the remedy if this framing cannot carry the message."""

    @abstractmethod
    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        """The bytes to write for all these messages. `FormatError` if one of them cannot be carried."""

    @abstractmethod
    def decoder(self, max_message: int) -> PlainDecoder:
        """A decoder for one connection, which accepts messages of up to ``max_message`` bytes."""

    def encode(self, payload: bytes) -> bytes:
        """The bytes to write for one message. `FormatError` if it cannot be carried."""
        return self.encode_many((payload,))

    def _check_all(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            self.check(payload)


# --- Raw ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw(PlainFraming):
    """No framing: a stream of bytes. A message is what one read returned; message boundaries are not kept."""

    name: ClassVar[str] = "raw"

    def check(self, payload: bytes) -> None:
        if not payload:
            raise FormatError(
                "an empty message leaves no trace on a raw stream; framing=Linked() can carry it"
            )

    def encode(self, payload: bytes) -> bytes:
        self.check(payload)
        return payload

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        if not all(payloads):
            self._check_all(payloads)
        return b"".join(payloads)

    def decoder(self, max_message: int) -> PlainDecoder:
        return _RawDecoder(max_message)


class _RawDecoder(PlainDecoder):
    def receive(self, data: bytes) -> list[bytes]:
        if len(data) <= self.max_message:
            return [data] if data else []
        step = self.max_message
        return [data[start : start + step] for start in range(0, len(data), step)]


# --- Lines and Delimited --------------------------------------------------------------------------


@dataclass(frozen=True)
class Lines(PlainFraming):
    r"""One message a line. Sends ``newline`` (``b"\n"`` or ``b"\r\n"``), and accepts both.

    Empty lines are messages. A last line without a newline counts when the stream ends.
    """

    newline: bytes = b"\n"
    name: ClassVar[str] = "lines"

    def __post_init__(self) -> None:
        if type(self.newline) is not bytes or self.newline not in (b"\n", b"\r\n"):
            raise ValueError(
                f"Lines(newline=…) must be b'\\n' or b'\\r\\n', not {self.newline!r}; "
                "Delimited(…) splits at anything else"
            )

    def check(self, payload: bytes) -> None:
        at = payload.find(b"\n")
        if at >= 0:
            raise FormatError(
                f"the message has a newline at byte {at}, a line cannot; "
                "use Json(), which escapes it, or framing=LengthPrefixed() or Linked()"
            )
        if self.newline == b"\n" and payload.endswith(b"\r"):
            raise FormatError(
                "the message ends with a carriage return, which the receiver would take for a part of the "
                "newline; use Lines(newline=b'\\r\\n'), or framing=LengthPrefixed() or Linked()"
            )

    def encode(self, payload: bytes) -> bytes:
        self.check(payload)
        return payload + self.newline

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        newline = self.newline
        text = newline.join((*payloads, b""))
        # Counting finds every forbidden byte in one pass over the whole text.
        if text.count(b"\n") != len(payloads) or (newline == b"\n" and b"\r\n" in text):
            self._check_all(payloads)
        return text

    def decoder(self, max_message: int) -> PlainDecoder:
        return _LineDecoder(max_message)


@dataclass(frozen=True)
class Delimited(PlainFraming):
    """Each message is followed by ``delimiter``. A last one without it counts when the stream ends."""

    delimiter: bytes
    name: ClassVar[str] = "delimited"

    def __post_init__(self) -> None:
        if type(self.delimiter) is not bytes or not self.delimiter:
            raise ValueError(
                f"Delimited(…) needs at least one byte, as in Delimited(b';'), not {self.delimiter!r}"
            )

    def check(self, payload: bytes) -> None:
        # Search with the delimiter appended: with b"--", the message "a-" would be read as "a".
        at = (payload + self.delimiter).find(self.delimiter)
        if at != len(payload):
            raise FormatError(
                f"the message has the delimiter {self.delimiter!r} at byte {at}, and would be read as two; "
                "use framing=LengthPrefixed() or Linked()"
            )

    def encode(self, payload: bytes) -> bytes:
        self.check(payload)
        return payload + self.delimiter

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        delimiter = self.delimiter
        text = delimiter.join((*payloads, b""))
        if text.split(delimiter) != [*payloads, b""]:
            self._check_all(payloads)
        return text

    def decoder(self, max_message: int) -> PlainDecoder:
        return _SplitDecoder(max_message, self.delimiter)


class _SplitDecoder(PlainDecoder):
    """Splits at a delimiter. Holds only what follows the last one, and searches each byte once."""

    def __init__(self, max_message: int, delimiter: bytes, slack: int = 0) -> None:
        super().__init__(max_message)
        self._delimiter = delimiter
        self._overlap = len(delimiter) - 1  # the delimiter itself may be cut in two
        self._slack = max(slack, self._overlap)  # held bytes at the end that may not belong to a message
        self._held = bytearray()

    @property
    def pending(self) -> int:
        return len(self._held)

    def receive(self, data: bytes) -> list[bytes]:
        if self.error:
            return []
        held = self._held
        if held:
            searched = max(0, len(held) - self._overlap)
            held += data
            if held.find(self._delimiter, searched) < 0:
                self._check_held()
                return []
            data = bytes(held)
            held.clear()
        pieces = self._split(data)
        held += pieces.pop()
        if len(data) > self.max_message:
            pieces = self._allowed(pieces)
        if held:
            self._check_held()
        return pieces

    def eof(self) -> list[bytes]:
        last = self._last(bytes(self._held))
        self._held.clear()
        return self._allowed([last]) if last else []

    def _split(self, data: bytes) -> list[bytes]:
        return data.split(self._delimiter)

    def _last(self, held: bytes) -> bytes:
        return held

    def _allowed(self, pieces: list[bytes]) -> list[bytes]:
        """The pieces up to the first that is too large."""
        for index, piece in enumerate(pieces):
            if len(piece) > self.max_message:
                self._held.clear()
                self._too_large(str(len(piece)))
                return pieces[:index]
        return pieces

    def _check_held(self) -> None:
        if len(self._held) > self.max_message + self._slack:
            self._too_large(f"at least {len(self._held) - self._slack}")
            self._held.clear()


class _LineDecoder(_SplitDecoder):
    def __init__(self, max_message: int) -> None:
        super().__init__(max_message, b"\n", slack=1)  # a "\r" at the end may be a part of the newline

    def _split(self, data: bytes) -> list[bytes]:
        if b"\r\n" in data:
            data = data.replace(b"\r\n", b"\n")
        return data.split(b"\n")

    def _last(self, held: bytes) -> bytes:
        return held.removesuffix(b"\r")


# --- LengthPrefixed and FixedSize -----------------------------------------------------------------

_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True)
class LengthPrefixed(PlainFraming):
    """Each message follows its length: ``size`` bytes (1, 2, 4 or 8), ``"big"`` or ``"little"`` endian."""

    size: int = 4
    byteorder: Literal["big", "little"] = "big"
    name: ClassVar[str] = "length-prefixed"

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size not in _CODES:
            raise ValueError(f"LengthPrefixed(size=…) must be 1, 2, 4 or 8 bytes, not {self.size!r}")
        if self.byteorder not in ("big", "little"):
            raise ValueError(f"LengthPrefixed(byteorder=…) must be 'big' or 'little', not {self.byteorder!r}")

    def check(self, payload: bytes) -> None:
        longest = (1 << 8 * self.size) - 1
        if len(payload) > longest:
            raise FormatError(
                f"the message has {len(payload)} bytes, a prefix of size {self.size} says at most {longest}; "
                "use LengthPrefixed() with a larger size on both sides"
            )

    def encode(self, payload: bytes) -> bytes:
        self.check(payload)
        return len(payload).to_bytes(self.size, self.byteorder) + payload

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        if max(map(len, payloads), default=0) >= 1 << 8 * self.size:
            self._check_all(payloads)
        prefixes = map(_prefix(self).pack, map(len, payloads))
        return b"".join(chain.from_iterable(zip(prefixes, payloads, strict=True)))

    def decoder(self, max_message: int) -> PlainDecoder:
        return _LengthDecoder(max_message, _prefix(self))


def _prefix(framing: LengthPrefixed) -> Struct:
    return Struct((">" if framing.byteorder == "big" else "<") + _CODES[framing.size])


class _LengthDecoder(PlainDecoder):
    def __init__(self, max_message: int, prefix: Struct) -> None:
        super().__init__(max_message)
        self._prefix = prefix
        self._pile = Pile()
        self._wanted = 0  # bytes needed for the next step

    @property
    def pending(self) -> int:
        return self._pile.size

    def receive(self, data: bytes) -> list[bytes]:
        if self.error:
            return []
        pile = self._pile
        if pile.size:
            pile.add(data)
            if pile.size < self._wanted:
                return []
            data = pile.take()
        messages: list[bytes] = []
        unpack = self._prefix.unpack_from
        width = self._prefix.size
        longest = self.max_message
        position = 0
        size = len(data)
        while size - position >= width:
            length = unpack(data, position)[0]
            if length > longest:
                self._too_large(str(length))
                return messages
            start = position + width
            end = start + length
            if end > size:
                self._wanted = end - position
                pile.add_rest(data, position)
                return messages
            messages.append(data[start:end])
            position = end
        if position < size:
            self._wanted = width
            pile.add(data[position:])
        return messages

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

    def decoder(self, max_message: int) -> PlainDecoder:
        """`TooLarge` if not even one message of this size is allowed."""
        if self.size > max_message:
            raise TooLarge(
                f"framing=FixedSize({self.size}) has messages over the limit of {max_message} bytes; "
                "raise Limits(message=…)"
            )
        return _FixedDecoder(max_message, self.size)


class _FixedDecoder(PlainDecoder):
    def __init__(self, max_message: int, size: int) -> None:
        super().__init__(max_message)
        self._size = size
        self._pile = Pile()

    @property
    def pending(self) -> int:
        return self._pile.size

    def receive(self, data: bytes) -> list[bytes]:
        size = self._size
        pile = self._pile
        if pile.size:
            pile.add(data)
            if pile.size < size:
                return []
            data = pile.take()
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


# --- What the user may write ----------------------------------------------------------------------

_EXAMPLES: Final[dict[object, str]] = {
    Delimited: "the bytes between messages, as in framing=Delimited(b'\\r\\n')",
    FixedSize: "the size of a message in bytes, as in framing=FixedSize(64)",
}


def as_framing(value: object) -> Framing:
    """Convert the ``framing=`` argument: a framing, or a framing class that needs no arguments.

    TypeError, with the possible values, for anything else.
    """
    if isinstance(value, Linked | PlainFraming):
        return value
    if isinstance(value, type) and issubclass(value, Linked | PlainFraming):
        try:
            return value()
        except TypeError as error:
            needed = _EXAMPLES.get(value, str(error))
            raise TypeError(f"framing={value.__name__} needs more than its name: {needed}") from None
    raise TypeError(f"framing must be {_CHOICE}, not {value!r}")

"""Slip and Cobs: an encoding keeps the byte that ends a frame out of its content."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from linkbox.core.wire.decoder import Pile
from linkbox.core.wire.framing import EXCERPT, PlainDecoder, PlainFraming, excerpt
from linkbox.errors import DecodeError, FormatError, ProtocolViolation

Checksum = Callable[[bytes], bytes]
"""Computes the checksum of some bytes; always of the same size."""

_SLIP_END: Final = b"\xc0"
_SLIP_ESCAPE: Final = b"\xdb"
_SLIP_ESCAPED_END: Final = b"\xdb\xdc"
_SLIP_ESCAPED_ESCAPE: Final = b"\xdb\xdd"
_COBS_BLOCK: Final = 254
_COBS_STEP: Final = 64 * 1024
"""Bytes that are encoded together: the list of all blocks of 16 MiB would take many times as much memory."""


def checksum_size(checksum: Checksum | None) -> int:
    """The number of bytes of a checksum. `ValueError` if the function cannot be used."""
    if checksum is None:
        return 0
    if not callable(checksum):
        raise ValueError(f"checksum= takes a function of bytes that returns bytes, not {checksum!r}")
    made: object = checksum(b"")
    if not isinstance(made, bytes):
        raise ValueError(f"checksum= must return bytes, not {type(made).__name__}")
    return len(made)


def with_checksum(payload: bytes, checksum: Checksum | None) -> bytes:
    """Append the checksum. `FormatError` if it cannot be computed."""
    return payload if checksum is None else payload + computed(payload, checksum)


def computed(covered: bytes, checksum: Checksum) -> bytes:
    """The checksum of what is sent. `FormatError` if it cannot be computed."""
    try:
        made = checksum(covered)
        is_right = len(made) == len(checksum(b""))
    except Exception as error:
        raise FormatError(f"checksum= failed, {type(error).__name__}: {error}: {excerpt(covered)}") from error
    if not is_right:
        raise FormatError(f"checksum= returned {made!r}, and must always return equally many bytes")
    return made


def without_checksum(content: bytes, checksum: Checksum | None, size: int) -> bytes:
    """Verify the checksum at the end of the content and remove it. `DecodeError` if it is wrong."""
    if checksum is None:
        return content
    end = len(content) - size
    if end < 0:
        raise DecodeError(f"a frame without its checksum of {size} bytes: {excerpt(content)}")
    verify(content[:end], content[end:], checksum)
    return content[:end]


def verify(covered: bytes, found: bytes, checksum: Checksum) -> None:
    """`DecodeError` if the checksum is wrong, or cannot be computed."""
    try:
        right = checksum(covered)
    except Exception as error:
        raise DecodeError(f"checksum= failed, {type(error).__name__}: {error}: {excerpt(covered)}") from error
    if found != right:
        raise DecodeError(
            f"a frame with a wrong checksum, {found!r} instead of {right!r}: {excerpt(covered)}"
        )


@dataclass(frozen=True)
class _Coded(PlainFraming):
    """A framing with an encoding for the content and the checksum behind it."""

    checksum: Checksum | None = None

    def __post_init__(self) -> None:
        checksum_size(self.checksum)

    def check(self, payload: bytes) -> None:
        if not payload:
            raise FormatError(
                f"an empty message is skipped by receivers of {self.name}; send at least a byte"
            )
        with_checksum(payload, self.checksum)

    def encode(self, payload: bytes) -> bytes:
        self.check(payload)
        return self._encoded(with_checksum(payload, self.checksum))

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        return b"".join(map(self.encode, payloads))

    @abstractmethod
    def _encoded(self, content: bytes) -> bytes:
        """The whole frame."""


class _CodedDecoder(PlainDecoder):
    """Splits at the end byte, and decodes each frame. A bad frame is left out: the next one is certain.

    A frame in many pieces is decoded piece by piece: at once, 16 MiB take seconds. ``longest`` limits the
    bytes of a frame before they are decoded.
    """

    def __init__(self, limit: int, longest: int, end: bytes, framing: _Coded) -> None:
        super().__init__(limit)
        self._longest = longest
        self._delimiter = end
        self._checksum = framing.checksum
        self._checksum_size = checksum_size(framing.checksum)
        # Of the frame that is not complete:
        self._size = 0  # its bytes so far
        self._beginning = b""  # the first of them
        self._content = Pile()  # what they say

    @property
    def pending(self) -> int:
        return self._size

    @abstractmethod
    def _decoded(self, piece: bytes, is_last: bool) -> bytes:
        """The content of the next piece of a frame. `DecodeError` if it is the last one of a malformed frame.

        The piece begins behind the first ``_size`` bytes.
        """

    def _shown(self, piece: bytes) -> str:
        """The beginning of the frame that ends with this piece, for an error message."""
        return excerpt(self._beginning + piece, self._size + len(piece))

    def feed(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        if self.error:
            return messages
        pieces = data.split(self._delimiter)
        rest = pieces.pop()
        for piece in pieces:
            if not piece and not self._size:
                continue
            size = self._size + len(piece)
            if size > self._longest:
                self._too_large(str(size))
                return messages
            try:
                message = self._decoded(piece, True)
                if self._size:
                    self._content.add(message)
                    message = self._content.take()
                if self._checksum is not None:
                    message = without_checksum(message, self._checksum, self._checksum_size)
            except DecodeError as error:
                self._reject(error)
                message = b""
            if self._size:
                self._forget()
            if len(message) > self.max_message:
                self._too_large(str(len(message)))
                return messages
            if message:
                messages.append(message)
        if rest:
            self._begin(rest)
        return messages

    def _begin(self, piece: bytes) -> None:
        """A piece of a frame whose end has not arrived."""
        size = self._size + len(piece)
        if size > self._longest:
            self._too_large(f"at least {size}")
            return
        content = self._decoded(piece, False)
        if content:
            self._content.add(content)
        if not self._size:
            self._beginning = piece[:EXCERPT]
        elif len(self._beginning) < EXCERPT:
            self._beginning += piece[: EXCERPT - len(self._beginning)]
        self._size = size

    def _forget(self) -> None:
        """Forget the frame that is not complete."""
        self._content.take()
        self._size = 0
        self._beginning = b""

    def _too_large(self, size: str) -> None:
        super()._too_large(size)
        self._forget()

    def eof(self) -> list[bytes]:
        if self._size:
            self.error = ProtocolViolation(f"the stream ended inside a frame: {self._shown(b'')}")
            self._forget()
        return []


@dataclass(frozen=True)
class Slip(_Coded):
    """SLIP (RFC 1055): frames end with 0xC0. Empty frames are skipped.

    ``checksum``: a function of bytes that returns bytes, whose result is the end of each frame.
    """

    name: ClassVar[str] = "slip"

    def _encoded(self, content: bytes) -> bytes:
        escaped = content.replace(_SLIP_ESCAPE, _SLIP_ESCAPED_ESCAPE).replace(_SLIP_END, _SLIP_ESCAPED_END)
        # An end byte at the beginning too, as the RFC recommends: it ends what noise may have begun.
        return _SLIP_END + escaped + _SLIP_END

    def decoder(self, limit: int) -> PlainDecoder:
        return _SlipDecoder(limit, 2 * (limit + checksum_size(self.checksum)), _SLIP_END, self)


class _SlipDecoder(_CodedDecoder):
    _bad = re.compile(rb"\xdb(?:[^\xdc\xdd]|\Z)")
    _wrong = ""
    """What is wrong with a frame that is not complete."""
    _cut = b""
    """An escape at the end of a piece: it belongs to the next one."""

    def _decoded(self, piece: bytes, is_last: bool) -> bytes:
        whole = self._cut + piece
        bad = None if self._wrong else self._bad.search(whole)
        cut = b""
        if bad is not None:
            if is_last or bad.end() - bad.start() == 2:
                at = self._size - len(self._cut) + bad.start()
                self._wrong = f"a frame with {bad[0]!r} at byte {at}, which SLIP does not have"
            else:
                cut, whole = _SLIP_ESCAPE, whole[:-1]
        self._cut = cut
        if self._wrong:
            if is_last:
                wrong, self._wrong = self._wrong, ""
                raise DecodeError(f"{wrong}: {self._shown(piece)}")
            return b""
        return whole.replace(_SLIP_ESCAPED_END, _SLIP_END).replace(_SLIP_ESCAPED_ESCAPE, _SLIP_ESCAPE)


@dataclass(frozen=True)
class Cobs(_Coded):
    """Consistent overhead byte stuffing: frames end with a zero byte. Empty frames are skipped.

    ``checksum``: a function of bytes that returns bytes, whose result is the end of each frame.
    """

    name: ClassVar[str] = "cobs"

    def _encoded(self, content: bytes) -> bytes:
        parts: list[bytes] = []
        begin = 0
        while begin <= len(content):
            end = content.find(b"\0", begin + _COBS_STEP)
            if end < 0:
                end = len(content)
            parts.append(_stuffed(content[begin:end], end == len(content)))
            begin = end + 1
        parts.append(b"\0")
        return b"".join(parts)

    def decoder(self, limit: int) -> PlainDecoder:
        content = limit + checksum_size(self.checksum)
        return _CobsDecoder(limit, content + content // _COBS_BLOCK + 2, b"\0", self)


def _stuffed(content: bytes, is_last: bool) -> bytes:
    """The blocks of some content, of which a zero follows unless it is the last."""
    out = bytearray(b"\0" + content)
    parts: list[bytes | bytearray] = []
    at = done = 0
    for size in map(len, content.split(b"\0")):
        begin = at
        at += size + 1
        if size < _COBS_BLOCK:
            out[begin] = size + 1
            continue
        out[begin] = 0xFF
        # A block begins behind each full one, with a byte that takes the place of no zero.
        for position in range(begin + _COBS_BLOCK + 1, at + 1, _COBS_BLOCK):
            rest = at - position
            if rest or at < len(out) or not is_last:
                parts += (out[done:position], bytes([min(rest, _COBS_BLOCK) + 1]))
                done = position
    return b"".join([*parts, out[done:]])


class _CobsDecoder(_CodedDecoder):
    _next = 0
    """Where the next block begins, behind the pieces so far."""
    _code = 0xFF
    """The first byte of the block before it; 0xFF, which no zero follows, before the first block."""

    def _decoded(self, piece: bytes, is_last: bool) -> bytes:
        size = len(piece)
        at, code = self._next, self._code
        content = bytearray(piece)
        joints: list[int] = []  # first bytes of blocks that mean nothing; all others mean a zero
        if code == 0xFF:
            joints.append(at)
        while at < size:
            code = piece[at]
            content[at] = 0
            at += code
            if code == 0xFF:
                joints.append(at)
        if not is_last:
            self._next, self._code = at - size, code
        else:
            self._next, self._code = 0, 0xFF
            if at > size:
                raise DecodeError(
                    f"a frame whose block at byte {self._size + at - code} has {code - 1} bytes, but "
                    f"{size - at + code - 1} follow: {self._shown(piece)}"
                )
        begin = 0
        parts: list[bytearray] = []
        for joint in joints:
            parts.append(content[begin:joint])
            begin = joint + 1
        return b"".join([*parts, content[begin:]])

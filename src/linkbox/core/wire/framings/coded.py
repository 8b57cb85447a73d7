"""Slip and Cobs: an encoding keeps the byte that ends a frame out of its content."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from linkbox.core.wire.framing import PlainDecoder, PlainFraming, excerpt
from linkbox.core.wire.framings.split import SplitDecoder
from linkbox.errors import DecodeError, FormatError, ProtocolViolation

Checksum = Callable[[bytes], bytes]
"""Computes the checksum of some bytes; always of the same size."""

_SLIP_END: Final = b"\xc0"
_SLIP_ESCAPE: Final = b"\xdb"
_SLIP_ESCAPED_END: Final = b"\xdb\xdc"
_SLIP_ESCAPED_ESCAPE: Final = b"\xdb\xdd"
_COBS_BLOCK: Final = 254


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


class _CodedDecoder(SplitDecoder):
    """Splits at the end byte, and decodes each frame. A bad frame is left out: the next one is certain."""

    def __init__(self, limit: int, longest: int, end: bytes, framing: _Coded) -> None:
        super().__init__(longest, end)
        self._limit = limit
        self._checksum = framing.checksum
        self._checksum_size = checksum_size(framing.checksum)

    @abstractmethod
    def _decoded(self, frame: bytes) -> bytes:
        """The content of a frame. `DecodeError` if it is malformed."""

    def feed(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        for frame in super().feed(data):
            if not frame:
                continue
            try:
                message = without_checksum(self._decoded(frame), self._checksum, self._checksum_size)
            except DecodeError as error:
                self.rejected.append(error)
                continue
            if len(message) > self._limit:
                self._too_large(str(len(message)))
                break
            if message:
                messages.append(message)
        return messages

    def _too_large(self, size: str) -> None:
        self.max_message = self._limit  # Name the limit for messages, not the one for frames.
        super()._too_large(size)
        self._held.clear()

    def eof(self) -> list[bytes]:
        if self._held and self.error is None:
            self.error = ProtocolViolation(f"the stream ended inside a frame: {excerpt(bytes(self._held))}")
            self._held.clear()
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
    _bad = re.compile(rb"\xdb(?![\xdc\xdd])")

    def _decoded(self, frame: bytes) -> bytes:
        bad = self._bad.search(frame)
        if bad is not None:
            raise DecodeError(
                f"a frame with {frame[bad.start() : bad.end() + 1]!r} at byte {bad.start()}, which SLIP does "
                f"not have: {excerpt(frame)}"
            )
        return frame.replace(_SLIP_ESCAPED_END, _SLIP_END).replace(_SLIP_ESCAPED_ESCAPE, _SLIP_ESCAPE)


@dataclass(frozen=True)
class Cobs(_Coded):
    """Consistent overhead byte stuffing: frames end with a zero byte. Empty frames are skipped.

    ``checksum``: a function of bytes that returns bytes, whose result is the end of each frame.
    """

    name: ClassVar[str] = "cobs"

    def _encoded(self, content: bytes) -> bytes:
        out = bytearray()
        blocks = content.split(b"\0")
        for block in blocks:
            full = len(block) - len(block) % _COBS_BLOCK
            for start in range(0, full, _COBS_BLOCK):
                out.append(0xFF)
                out += block[start : start + _COBS_BLOCK]
            rest = block[full:]
            if rest or not full or block is not blocks[-1]:
                out.append(len(rest) + 1)
                out += rest
        out.append(0)
        return bytes(out)

    def decoder(self, limit: int) -> PlainDecoder:
        content = limit + checksum_size(self.checksum)
        return _CobsDecoder(limit, content + content // _COBS_BLOCK + 2, b"\0", self)


class _CobsDecoder(_CodedDecoder):
    def _decoded(self, frame: bytes) -> bytes:
        parts: list[bytes] = []
        at = 0
        while at < len(frame):
            code = frame[at]
            end = at + code
            if end > len(frame):
                raise DecodeError(
                    f"a frame whose block at byte {at} has {code - 1} bytes, but {len(frame) - at - 1} "
                    f"follow: {excerpt(frame)}"
                )
            parts.append(frame[at + 1 : end])
            if code <= _COBS_BLOCK and end < len(frame):
                parts.append(b"\0")
            at = end
        return b"".join(parts)

"""The framings of users: their code may raise anything, and costs its own connection only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from linkbox.core.wire.framing import Decoder, Framing, PlainDecoder, PlainFraming, excerpt
from linkbox.errors import DecodeError, FormatError, ProtocolViolation, TooLarge
from linkbox.text import shown, text_of

_HEADERS: Final = 64 * 1024
"""Bytes that a decoder may hold besides a message that is escaped to twice its size."""
_RESERVED: Final = {"", "linked", "raw"}


def name_of(framing: Framing) -> str:
    """The name of a user's framing: the core treats those of some of its own specially."""
    return type(framing).__name__ if framing.name in _RESERVED else framing.name


@dataclass(frozen=True)
class UserFraming(PlainFraming):
    """A plain framing around one of a user's."""

    framing: Framing

    @property
    def name(self) -> str:  # type: ignore[override]
        return name_of(self.framing)

    def check(self, payload: bytes) -> None:
        self.encode(payload)

    def encode(self, payload: bytes) -> bytes:
        try:
            data = self.framing.encode(payload)
        except (FormatError, TooLarge):
            raise
        except Exception as error:
            raise FormatError(
                f"{self.name} cannot carry the message {excerpt(payload)}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(data, bytes | bytearray | memoryview):
            raise FormatError(f"encode() of {self.name} returned {type(data).__name__} instead of bytes")
        return bytes(data)

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        return b"".join(map(self.encode, payloads))

    def check_limit(self, limit: int) -> None:
        """Make a decoder: `TypeError` if it is none, or the user's own exception."""
        decoder: object = self.framing.decoder(limit)
        missing = [name for name in ("feed", "eof") if not callable(getattr(decoder, name, None))]
        if missing:
            raise TypeError(
                f"the decoder of framing={self.name} has no {' and no '.join(missing)}: {decoder!r}"
            )

    def decoder(self, limit: int) -> PlainDecoder:
        """The user's decoder, guarded, unless it is one of linkbox."""
        try:
            decoder = self.framing.decoder(limit)
        except Exception as error:
            guarded = UserDecoder(_NoDecoder(), limit)
            guarded.fail(error)
            return guarded
        return decoder if isinstance(decoder, PlainDecoder) else UserDecoder(decoder, limit)


class UserDecoder(PlainDecoder):
    """A decoder around one of a user's: checks what it returns, and turns what it raises into ``error``."""

    def __init__(self, decoder: Decoder, max_message: int) -> None:
        super().__init__(max_message)
        self._decoder = decoder
        self._unfinished = 0
        """Bytes since the last message: what it may hold at most."""

    @property
    def pending(self) -> int:
        held = getattr(self._decoder, "pending", 0)
        return held if isinstance(held, int) and self.error is None else 0

    def feed(self, data: bytes) -> list[bytes]:
        if self.error is not None:
            return []
        self._unfinished += len(data)
        found = self._collect(lambda: self._decoder.feed(data))
        held = self.pending if hasattr(self._decoder, "pending") else self._unfinished
        if self.error is None and held > 2 * self.max_message + _HEADERS:
            self._too_large(f"at least {held}")
        return found

    def eof(self) -> list[bytes]:
        found = [] if self.error is not None else self._collect(lambda: self._decoder.eof())
        self._decoder = _NoDecoder()
        return found

    def _collect(self, call: Callable[[], Iterable[object]]) -> list[bytes]:
        """The messages that a call returns or yields, up to the first problem."""
        found: list[bytes] = []
        try:
            for each in call():
                self._unfinished = 0
                if isinstance(each, DecodeError):
                    self._reject(each)
                elif not isinstance(each, bytes | bytearray | memoryview):
                    raise TypeError(f"the decoder returned {type(each).__name__} instead of bytes")
                elif len(each) > self.max_message:
                    self._too_large(str(len(each)))
                    return found
                else:
                    found.append(bytes(each))
            error = getattr(self._decoder, "error", None)
            if isinstance(error, Exception):
                self.fail(error)
        except Exception as error:
            self.fail(error)
        return found

    def fail(self, error: Exception) -> None:
        """The stream cannot be understood any further."""
        if isinstance(error, TooLarge | ProtocolViolation):
            self.error: TooLarge | ProtocolViolation | None = error
        else:
            self.error = ProtocolViolation(f"{type(error).__name__}: {text_of(error)}")
            self.error.__cause__ = shown(error)  # With its traceback, which shows where in the user's code.


class _NoDecoder:
    """Takes the place of a decoder that is used no more, and of what it holds."""

    def feed(self, data: bytes, /) -> list[bytes]:
        return []

    def eof(self) -> list[bytes]:
        return []

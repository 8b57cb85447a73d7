"""JsonStream: JSON values one behind the other, without a separator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from linkbox.core.wire.framing import PlainDecoder, PlainFraming, excerpt
from linkbox.errors import FormatError, ProtocolViolation

_SPACE: Final = b" \t\r\n\x1e"
"""Between values; 0x1E is the record separator of RFC 7464."""
_SELF_DELIMITING: Final = b'{["'
_CLOSING: Final = {ord("{"): ord("}"), ord("["): ord("]")}
_MOST_NESTED: Final = 10_000
_begin = re.compile(rb"[^ \t\r\n\x1e]")
_in_string = re.compile(rb'\\.|"', re.DOTALL)
_in_value = re.compile(rb'[][{}"]')
_behind_word = re.compile(rb'[][{}", \t\r\n\x1e]')


@dataclass(frozen=True)
class JsonStream(PlainFraming):
    """JSON values one behind the other, with or without white space between them: ``{"a":1}{"a":2}``.

    Objects, arrays and strings end with their last character; a number, true, false or null ends at the next
    character that cannot belong to it, or when the stream ends. White space around a value is left out. For
    objects with newlines between them, ``Lines()`` is faster.
    """

    name: ClassVar[str] = "json-stream"

    def check(self, payload: bytes) -> None:
        try:
            msgspec.json.decode(payload, type=msgspec.Raw)
        except Exception as error:
            raise FormatError(f"the message is not one JSON value: {error}: {excerpt(payload)}") from error

    def encode(self, payload: bytes) -> bytes:
        self.check(payload)
        value = payload.strip(_SPACE)
        return value if value[:1] in (b"{", b"[", b'"') else value + b"\n"

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        return b"".join(map(self.encode, payloads))

    def decoder(self, limit: int) -> PlainDecoder:
        return _JsonDecoder(limit)


class _JsonDecoder(PlainDecoder):
    def __init__(self, max_message: int) -> None:
        super().__init__(max_message)
        self._held = bytearray()
        self._searched = 0  # in `_held`, which begins with the value that is not complete
        self._open = bytearray()  # what closes the objects and arrays that are open, innermost last
        self._is_string = False

    @property
    def pending(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        if self.error:
            return []
        held = self._held
        held += data
        messages: list[bytes] = []
        start = 0
        while True:
            if not self._searched or self._searched == start:
                begin = _begin.search(held, start)
                start = len(held) if begin is None else begin.start()
                self._searched = start
                if begin is None:
                    break
            end = self._end_of_value(start)
            if end < 0:
                break
            if end - start > self.max_message:
                self._too_large(str(end - start))
                break
            messages.append(bytes(held[start:end]))
            start = self._searched = end
        del held[:start]
        self._searched = max(0, self._searched - start)
        if not self.error and len(held) > self.max_message:
            self._too_large(f"at least {len(held)}")
        if self.error:
            held.clear()
        return messages

    def eof(self) -> list[bytes]:
        rest = bytes(self._held)
        self._held.clear()
        if not rest or self.error:
            return []
        if rest[0] in _SELF_DELIMITING:
            self.error = ProtocolViolation(f"the stream ended inside a JSON value: {excerpt(rest)}")
            return []
        return [rest]

    def _end_of_value(self, start: int) -> int:
        """Where the value ends that begins at ``start``; -1 if that has not arrived yet, or with an error."""
        held = self._held
        if held[start] not in _SELF_DELIMITING:
            return self._end_of_word(start)
        while True:
            if self._is_string:
                token = _in_string.search(held, self._searched)
            else:
                token = _in_value.search(held, self._searched)
            if token is None:
                # A backslash at the end belongs to a pair that is not complete.
                cut = self._is_string and self._searched < len(held) and held[-1:] == b"\\"
                self._searched = len(held) - 1 if cut else len(held)
                return -1
            self._searched = token.end()
            if self._searched - start > self.max_message:
                self._too_large(f"at least {self._searched - start}")
                return -1
            self._handle(token[0], start)
            if self.error:
                return -1
            if not self._open and not self._is_string:
                return self._searched

    def _handle(self, token: bytes, start: int) -> None:
        """A character of a value that opens or closes something."""
        if token == b'"':
            self._is_string = not self._is_string
        elif self._is_string:
            pass  # An escape, as in "\\"".
        elif token[0] in _CLOSING:
            self._open.append(_CLOSING[token[0]])
            if len(self._open) > _MOST_NESTED:
                self.error = ProtocolViolation(f"JSON nested more than {_MOST_NESTED} deep")
        elif not self._open or self._open.pop() != token[0]:
            value = bytes(self._held[start : self._searched])
            self.error = ProtocolViolation(f"{token.decode()!r} closes what is not open: {excerpt(value)}")

    def _end_of_word(self, start: int) -> int:
        """The same for a number, true, false or null."""
        held = self._held
        token = _behind_word.search(held, max(start, self._searched))
        if token is None:
            self._searched = len(held)
            return -1
        if token.start() == start:
            self.error = ProtocolViolation(f"no JSON value begins with {excerpt(bytes(held[start:]))}")
            return -1
        return token.start()

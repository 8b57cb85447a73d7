"""Raw, and the framings whose messages end at a delimiter: Lines and Delimited."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from linkbox.core.wire.framing import PlainDecoder, PlainFraming
from linkbox.errors import FormatError

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

    def decoder(self, limit: int) -> PlainDecoder:
        return _RawDecoder(limit)


class _RawDecoder(PlainDecoder):
    def feed(self, data: bytes) -> list[bytes]:
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

    def decoder(self, limit: int) -> PlainDecoder:
        return _LineDecoder(limit)


@dataclass(frozen=True)
class Delimited(PlainFraming):
    r"""Each message is followed by ``delimiter``. A last one without it counts when the stream ends.

    ``receive``: what ends a received message instead, as bytes or as a tuple of several. ``receive=(b"\r\n",
    b"login: ")`` takes a prompt for the end of a message, because a prompt has no newline. Of two that begin
    alike, as ``b"\r"`` and ``b"\r\n"``, the longer one counts wherever it arrives. The empty message between
    two delimiters is a message.
    """

    delimiter: bytes
    receive: bytes | tuple[bytes, ...] | None = None
    name: ClassVar[str] = "delimited"

    def __post_init__(self) -> None:
        if type(self.delimiter) is not bytes or not self.delimiter:
            raise ValueError(
                f"Delimited(…) needs at least one byte, as in Delimited(b';'), not {self.delimiter!r}"
            )
        if self.receive is not None:
            _check_delimiters(self.receive)

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

    def decoder(self, limit: int) -> PlainDecoder:
        receive = self.receive or (self.delimiter,)
        several = (receive,) if isinstance(receive, bytes) else receive
        if len(set(several)) == 1:
            return SplitDecoder(limit, several[0])
        return _SeveralDecoder(limit, several)


def _check_delimiters(receive: bytes | tuple[bytes, ...]) -> None:
    several = (receive,) if isinstance(receive, bytes) else receive
    if type(several) is not tuple or not several or not all(type(each) is bytes and each for each in several):
        raise ValueError(
            f"Delimited(receive=…) takes bytes or a tuple of them, as (b'\\r\\n', b'> '), not {receive!r}"
        )
    for one in several:
        for other in several:
            if one in other[1:-1]:
                raise ValueError(
                    f"Delimited(receive=…): {one!r} is inside {other!r}, so a message would end differently "
                    "depending on how it arrives"
                )


class SplitDecoder(PlainDecoder):
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

    def feed(self, data: bytes) -> list[bytes]:
        if self.error:
            return []
        held = self._held
        if held:
            searched = max(0, len(held) - self._overlap)
            held += data
            if not self._is_in(held, searched):
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

    def _is_in(self, held: bytearray, start: int) -> bool:
        """Is there a delimiter behind ``start``?"""
        return held.find(self._delimiter, start) >= 0

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


class _LineDecoder(SplitDecoder):
    def __init__(self, max_message: int) -> None:
        super().__init__(max_message, b"\n", slack=1)  # a "\r" at the end may be a part of the newline

    def _split(self, data: bytes) -> list[bytes]:
        if b"\r\n" in data:
            data = data.replace(b"\r\n", b"\n")
        return data.split(b"\n")

    def _last(self, held: bytes) -> bytes:
        return held.removesuffix(b"\r")


class _SeveralDecoder(SplitDecoder):
    """Splits at several delimiters, the longest that is there.

    A delimiter ends its message at once, although a longer one may begin with it: a device that waits for a
    response sends nothing more. If the rest of the longer one follows, it is dropped.
    """

    def __init__(self, max_message: int, delimiters: tuple[bytes, ...]) -> None:
        ordered = sorted(set(delimiters), key=len, reverse=True)
        super().__init__(max_message, ordered[0])
        self._find = re.compile(b"|".join(map(re.escape, ordered)))
        self._rests = {
            short: [long[len(short) :] for long in ordered if long != short and long.startswith(short)]
            for short in ordered
        }
        self._last_one = b""
        """The delimiter that was last, if it may still be the beginning of a longer one."""

    def feed(self, data: bytes) -> list[bytes]:
        while data and self._rests.get(self._last_one) and not self.error:
            rests = self._rests[self._last_one]
            data = bytes(self._held) + data
            self._held.clear()
            rest = next((each for each in rests if data.startswith(each)), b"")
            if not rest and any(each.startswith(data) for each in rests):
                self._held += data  # Too short to decide.
                return []
            self._last_one += rest
            data = data[len(rest) :]
            if not rest:
                break
        if not data:
            return []
        self._last_one = b""
        return super().feed(data)

    def _is_in(self, held: bytearray, start: int) -> bool:
        return self._find.search(held, start) is not None

    def _split(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        end, last = 0, b""
        for match in self._find.finditer(data):
            pieces.append(data[end : match.start()])
            end, last = match.end(), match[0]
        rest = data[end:]
        may_go_on = any(each.startswith(rest) for each in self._rests.get(last, ()))
        self._last_one = last if may_go_on else b""
        return [*pieces, rest]

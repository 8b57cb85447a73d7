"""Enclosed: each message is between two marks, perhaps with escapes and a checksum.

The decoder looks for tokens: the start mark, the end mark, and with escapes a pair of the escape and the byte
behind it. A frame that is cut (a start mark inside it), that has a wrong checksum or a wrong escape is left
out. The next one begins at the next start mark, and is searched for right behind the end mark of the bad one:
if the checksum itself got lost, the bytes in its position belong to the next frame.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from linkbox.core.wire.decoder import Pile
from linkbox.core.wire.framing import PlainDecoder, PlainFraming, excerpt
from linkbox.core.wire.framings.coded import (
    Checksum,
    checksum_size,
    computed,
    verify,
    with_checksum,
    without_checksum,
)
from linkbox.errors import DecodeError, FormatError, ProtocolViolation

_BETWEEN: Final = b"\r\n"
_STEP: Final = 64 * 1024
"""Bytes of a frame with escapes that are decoded together before its end has arrived."""


@dataclass(frozen=True)
class Enclosed(PlainFraming):
    r"""Each message is between ``start`` and ``end``, as in MLLP: ``Enclosed(b"\x0b", b"\x1c\r")``.

    ``escape``: a byte that comes before each mark and each escape inside a message; with ``escape_xor``, the
    byte behind it is changed by exclusive or (0x20 in HDLC and PPP, where start and end are the same byte).
    If both marks begin with the escape, as DLE STX and DLE ETX do, the escape is doubled inside a message.
    Without ``escape``, a message with a mark inside is a `FormatError`.

    ``checksum``: a function of bytes that returns bytes, always equally many. Its result is the end of the
    content; with ``checksum_after=True`` it follows the end mark, and covers it.

    Empty frames are skipped, as are line ends between frames. Other bytes between frames, and bad frames, are
    reported (``ERROR``) and left out.
    """

    start: bytes
    end: bytes
    escape: bytes | None = None
    escape_xor: int = 0
    checksum: Checksum | None = None
    checksum_after: bool = False
    name: ClassVar[str] = "enclosed"

    def __post_init__(self) -> None:
        for name, mark in (("start", self.start), ("end", self.end)):
            if type(mark) is not bytes or not mark:
                raise ValueError(
                    f"Enclosed({name}=…) needs bytes, as in Enclosed(b'\\x02', b'\\x03'), not {mark!r}"
                )
        if self.start != self.end and (self.start in self.end or self.end in self.start):
            raise ValueError(
                f"Enclosed({self.start!r}, {self.end!r}): one mark must not be a part of the other"
            )
        if type(self.checksum_after) is not bool:
            raise ValueError(f"Enclosed(checksum_after=…) must be True or False, not {self.checksum_after!r}")
        checksum_size(self.checksum)
        self._check_escape()

    def _check_escape(self) -> None:
        escape = self.escape
        if type(self.escape_xor) is not int or not 0 <= self.escape_xor <= 0xFF:
            raise ValueError(f"Enclosed(escape_xor=…) must be a byte, 0 to 255, not {self.escape_xor!r}")
        if escape is None:
            if self.escape_xor:
                raise ValueError("Enclosed(escape_xor=…) needs escape=")
            return
        if type(escape) is not bytes or len(escape) != 1:
            raise ValueError(f"Enclosed(escape=…) must be one byte, not {escape!r}")
        if self._is_doubled():
            if self.escape_xor or escape * 2 in (self.start, self.end):
                raise ValueError("Enclosed(escape=…): marks that begin with the escape need escape_xor=0")
        elif len(self.start) > 1 or len(self.end) > 1 or escape in (self.start, self.end):
            raise ValueError(
                "Enclosed(escape=…): the marks must be one other byte each, or two bytes that begin with the "
                f"escape, not {self.start!r} and {self.end!r}"
            )
        elif any(byte ^ self.escape_xor in self._special() for byte in self._special()) and self.escape_xor:
            raise ValueError(
                f"Enclosed(escape_xor={self.escape_xor:#04x}): it turns marks or escapes into each other"
            )

    def _is_doubled(self) -> bool:
        """Do both marks begin with the escape?"""
        marks = (self.start, self.end)
        return all(len(mark) == 2 and mark[:1] == self.escape for mark in marks)

    def _special(self) -> bytes:
        """The bytes that are escaped inside a message."""
        escape = self.escape or b""
        return escape if self._is_doubled() else b"".join(sorted({self.start, self.end, escape}))

    def check(self, payload: bytes) -> None:
        if not payload:
            raise FormatError("an empty message is skipped by receivers of enclosed; send at least a byte")
        self._content(payload)

    def _content(self, payload: bytes) -> bytes:
        """The bytes between the marks."""
        content = with_checksum(payload, None if self.checksum_after else self.checksum)
        if self.escape is not None:
            return self._escaped(content)
        for mark in (self.start, self.end):
            # A mark may also begin at the end of the content.
            at = (content + self.end).find(mark)
            if 0 <= at < len(content):
                raise FormatError(
                    f"the message has the mark {mark!r} at byte {at}, and would be read as two; "
                    "use Enclosed(escape=…), if the receiver knows escapes"
                )
        return content

    def _escaped(self, content: bytes) -> bytes:
        escape, change = self.escape or b"", self.escape_xor
        # The escape first: the others bring further ones. What they become is none of them.
        for byte in sorted(self._special(), key=lambda byte: byte != escape[0]):
            content = content.replace(bytes([byte]), escape + bytes([byte ^ change]))
        return content

    def encode(self, payload: bytes) -> bytes:
        if not payload:
            self.check(payload)
        content = self._content(payload)
        if self.checksum is not None and self.checksum_after:
            return self.start + content + self.end + computed(content + self.end, self.checksum)
        return self.start + content + self.end

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        return b"".join(map(self.encode, payloads))

    def decoder(self, limit: int) -> PlainDecoder:
        return _EnclosedDecoder(limit, self)

    def tokens(self) -> re.Pattern[bytes]:
        """What the decoder looks for inside a frame."""
        marks = [re.escape(self.start), re.escape(self.end)]
        if self.escape is not None and not self.escape_xor:  # With escape_xor no mark is behind an escape.
            marks.insert(0, re.escape(self.escape) + b".")
        return re.compile(b"|".join(marks), re.DOTALL)

    def unescaped(self, content: bytes) -> bytes:
        """The content without its escapes. `DecodeError` if one of them is wrong."""
        escape, change = self.escape, self.escape_xor
        if escape is None or escape not in content:
            return content
        if self._is_doubled() and content.count(escape) == 2 * content.count(escape * 2):
            return content.replace(escape * 2, escape)
        if not change and not self._is_doubled():  # An escape at the end is always doubled.
            return escape.join([part.replace(escape, b"") for part in content.split(escape * 2)])
        special = escape if self._is_doubled() else None

        def literal(match: re.Match[bytes]) -> bytes:
            byte = match[0][1:]
            if not byte or (special is not None and byte != special):
                raise DecodeError(f"a frame with the unknown escape {match[0]!r}")
            return bytes([byte[0] ^ change])

        return re.sub(re.escape(escape) + b".?", literal, content, flags=re.DOTALL)


class _EnclosedDecoder(PlainDecoder):
    def __init__(self, max_message: int, framing: Enclosed) -> None:
        super().__init__(max_message)
        self._framing = framing
        self._tokens = framing.tokens()
        self._overlap = max(len(framing.start), len(framing.end), 2) - 1
        self._checksum_size = checksum_size(framing.checksum)
        self._after = self._checksum_size if framing.checksum_after else 0
        self._is_shared = framing.start == framing.end and not self._after
        """Does an end mark also begin the next frame?"""
        content = max_message + self._checksum_size
        self._longest = content if framing.escape is None else 2 * content
        self._held = bytearray()
        # All of these are positions in `_held`:
        self._done = 0  # up to here, the bytes are not needed any more
        self._searched = 0  # from here on, the search for a token goes on
        self._begin = -1  # of the content of the frame; -1 between frames
        self._end = -1  # of the content, once its end mark has arrived
        self._decoded = -1  # of the content so far, if some of it is decoded already
        self._content = Pile()  # what it says up to there; nothing, once it is wrong
        self._wrong = ""  # what is wrong with it

    @property
    def pending(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        if self.error:
            return []
        self._held += data
        messages: list[bytes] = []
        while self._step(messages) and not self.error:
            pass
        self._cut(self._done)
        if not self.error and len(self._held) > self._longest + self._after + self._overlap:
            self._too_large(f"at least {len(self._held) - self._after - self._overlap}")
        if self.error:
            self._held.clear()
        return messages

    def eof(self) -> list[bytes]:
        if self._begin < 0:
            self._skip(len(self._held))
        elif (self._held or not self._is_shared) and not self.error:
            self.error = ProtocolViolation(f"the stream ended inside a frame: {excerpt(bytes(self._held))}")
        self._held.clear()
        return []

    def _step(self, messages: list[bytes]) -> bool:
        """Find the next mark. Return False if it has not arrived yet."""
        if self._begin < 0:
            return self._find_start()
        if self._end < 0 and not self._find_end():
            return False
        return self._finish(messages)

    def _find_start(self) -> bool:
        held, start = self._held, self._framing.start
        at = held.find(start, self._done)
        if at >= 0:
            self._skip(at)
            self._begin = self._searched = self._done = at + len(start)
            return True
        rest = max(self._done, len(held) - len(start) + 1)  # It may be the beginning of a start mark.
        while not start.startswith(held[rest:]):
            rest += 1
        self._skip(rest)
        self._done = rest
        return False

    def _find_end(self) -> bool:
        framing, held = self._framing, self._held
        while (token := self._tokens.search(held, self._searched)) is not None:
            self._searched = token.end()
            if token[0] == framing.end:
                self._end = token.start()
                return True
            if token[0] == framing.start:
                cut = bytes(held[self._begin : token.start()])
                if len(cut) > self._longest:
                    self._too_large(f"at least {len(cut)}")
                    return False
                if cut:
                    self._reject(DecodeError(f"a frame that was cut: {excerpt(cut)}"))
                self._begin = self._done = token.end()
                self._forget()
        self._searched = max(self._searched, len(held) - self._overlap)
        if framing.escape is not None and self._searched - max(self._decoded, self._begin) >= _STEP:
            self._decode(self._searched)
        return False

    def _decode(self, end: int) -> None:
        """Decode the content up to here: at its end, 16 MiB with many escapes would take seconds."""
        begin = max(self._decoded, self._begin)
        piece = bytes(self._held[begin:end])
        escape = self._framing.escape or b""
        if self._end < 0 and (len(piece) - len(piece.rstrip(escape))) % 2:
            piece = piece[:-1]  # The last escape belongs to the byte behind it.
        self._decoded = begin + len(piece)
        if self._wrong:
            return
        try:
            self._content.add(self._framing.unescaped(piece))
        except DecodeError as error:
            self._wrong = str(error)
            self._content.take()

    def _forget(self) -> None:
        """Forget what is decoded of the frame."""
        self._decoded, self._wrong = -1, ""
        self._content.take()

    def _rest(self) -> bytes:
        """The content of a frame that is complete, of which some is decoded."""
        self._decode(self._end)
        if self._wrong:
            raise DecodeError(self._wrong)
        return self._content.take()

    def _finish(self, messages: list[bytes]) -> bool:
        """The end mark has arrived: add the message, if all of it is there."""
        held, end = self._held, self._framing.end
        behind = self._end + len(end)
        done = behind + self._after
        if done > len(held):
            return False
        content = bytes(held[self._begin : self._end])
        try:
            self._accept(messages, content, bytes(held[behind:done]))
        except DecodeError as error:
            self._reject(error)
            done = behind  # The bytes of a checksum that got lost belong to the next frame.
        self._done = self._searched = done
        self._begin, self._end = done if self._is_shared else -1, -1
        if self._decoded >= 0:
            self._forget()
        return True

    def _accept(self, messages: list[bytes], content: bytes, found: bytes) -> None:
        """Add the message in a frame. `DecodeError` if it is not valid."""
        framing, message = self._framing, content
        if content and len(content) <= self._longest:
            if framing.checksum is not None and framing.checksum_after:
                verify(content + framing.end, found, framing.checksum)
            try:
                message = framing.unescaped(content) if self._decoded < 0 else self._rest()
            except DecodeError as error:
                raise DecodeError(f"{error}: {excerpt(content)}") from None
            if not framing.checksum_after:
                message = without_checksum(message, framing.checksum, self._checksum_size)
        if len(message) > self.max_message:
            self._too_large(str(len(message)))
        elif message:
            messages.append(message)

    def _skip(self, end: int) -> None:
        """Report bytes between two frames, unless they are line ends."""
        noise = bytes(self._held[self._done : end]).strip(_BETWEEN)
        if noise:
            self._reject(DecodeError(f"bytes outside of a frame: {excerpt(noise)}"))

    def _cut(self, position: int) -> None:
        """Forget the bytes up to this position."""
        del self._held[:position]
        self._done = 0
        self._searched = max(0, self._searched - position)
        self._begin = self._begin - position if self._begin >= 0 else -1
        self._end = self._end - position if self._end >= 0 else -1
        self._decoded = self._decoded - position if self._decoded >= 0 else -1

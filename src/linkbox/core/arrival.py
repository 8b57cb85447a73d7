"""Messages that are complete but not decoded, and the parts of a request or response that is arriving."""

from __future__ import annotations

from typing import Final

from linkbox.core.session import Session
from linkbox.core.wait_queue import Predicate
from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Pile, too_large
from linkbox.errors import TooLarge

Payload = bytes | TooLarge
"""A message as it arrived, or the reason to reject it."""
SLICE_BYTES: Final = 32 * 1024
SLICE_MESSAGES: Final = 2048
"""Most bytes (unless it is one message) and most messages that are decoded at a time."""


class Assembler:
    """Puts a message together that arrives in pieces. Of one that is too large only the size is kept."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: Pile | None = None
        self._size = 0

    @property
    def held(self) -> int:
        """Bytes that are kept of the message."""
        return 0 if self._parts is None else self._parts.size

    def add(self, body: bytes, limit: int) -> None:
        """Add a piece that is not the last."""
        parts = self._parts = self._parts or Pile()
        self._size += len(body)
        if self._size <= limit:
            parts.add(body)
        elif parts.size:
            parts.take()

    def whole(self, limit: int) -> Payload:
        """Return the message, whose last piece has been added."""
        parts, size = self._parts or Pile(), self._size
        self._parts, self._size = None, 0
        return parts.take() if size <= limit else too_large(size, limit)


class AskState(Predicate):
    """A request without a response yet: `Ask` on a client, `IncomingAsk` on a server. They set these."""

    __slots__ = ("assembler", "id", "session")

    session: Session
    id: int
    assembler: Assembler | None
    """The pieces of the message that is arriving. None if there are none: most messages have one piece."""

    def gather(self, body: bytes, flags: int, limit: int) -> Payload | None:
        """Add a piece of a message; return the message, or None while pieces are missing."""
        assembler = self.assembler
        if assembler is None:
            assembler = self.assembler = Assembler()
        assembler.add(body, limit)
        if flags & frames.MORE_OF_MESSAGE:
            return None
        self.assembler = None
        return assembler.whole(limit)


class Arrival:
    """Consecutive messages of one session, complete but not decoded. ``last`` is the number of the last one.

    ``ask`` is the request or response that the only message belongs to, or None; ``is_final`` is true if this
    message completes it. ``mark`` is the number of bytes received up to and including these messages. If
    ``has_errors`` is true, a payload may be a `TooLarge`: that message must be rejected. ``memory`` is what
    the decoded values take; -1 if that is the size of the payloads. ``redelivered``: the application may have
    had them before.
    """

    __slots__ = (
        "ask",
        "has_errors",
        "is_final",
        "last",
        "mark",
        "memory",
        "payloads",
        "redelivered",
        "session",
        "size",
    )

    def __init__(
        self, session: Session, payloads: list[Payload], last: int, ask: AskState | None = None
    ) -> None:
        self.session: Session = session
        self.payloads: list[Payload] = payloads
        self.last: int = last
        self.mark: int = session.receiving.arrived_bytes
        self.ask: AskState | None = ask
        self.is_final: bool = True
        self.has_errors: bool = len(payloads) == 1 and isinstance(payloads[0], TooLarge)
        self.memory: int = -1
        self.redelivered: bool = False
        self.size: int = 0
        """Bytes of the payloads; set by `slices`."""

    def slices(self) -> list[Arrival]:
        """Split it: each slice is decoded at once, and is small enough that other peers do not wait long."""
        sizes = [len(each) if isinstance(each, bytes) else 0 for each in self.payloads]
        self.size = sum(sizes)
        count = len(sizes)
        if count < 2 or (self.size <= SLICE_BYTES and count <= SLICE_MESSAGES):
            return [self]
        found: list[Arrival] = []
        start, size, mark = 0, 0, self.mark - self.size
        for at, each in enumerate(sizes):
            if at > start and (size + each > SLICE_BYTES or at - start == SLICE_MESSAGES):
                found.append(self._slice(start, at, size, mark))
                start, size = at, 0
            size += each
            mark += each
        found.append(self._slice(start, count, size, mark))
        return found

    def _slice(self, start: int, end: int, size: int, mark: int) -> Arrival:
        part = Arrival(self.session, self.payloads[start:end], self.last - (len(self.payloads) - end))
        part.has_errors, part.size, part.mark = self.has_errors, size, mark
        part.redelivered = self.redelivered
        return part

"""What a recording consists of: conversations, and their requests with the responses.

A *step* is some bytes in one direction, or its end. An *exchange* is what the client sent at a time, and the
steps of the server up to the next request. The first exchange of a conversation has no request: it holds what
the server sends on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from linkbox.core.wire.frames import PREFACE
from linkbox.core.wire.framing import PlainFraming

Sender = Literal["client", "server"]
StepEvent = Literal["end", "reset"]
LARGEST = 1 << 30
"""Bytes of one message, at most: a recording is in memory as a whole anyway."""
SHOWN = 60
"""Bytes of a message that are shown, at most."""


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes of one direction, or ``"end"`` (FIN) or ``"reset"`` (RST)."""

    at: float
    sender: Sender
    data: bytes = b""
    event: StepEvent | None = None


@dataclass(slots=True)
class Conversation:
    """One recorded connection."""

    number: int
    opened: float
    """Seconds since the start of the recording."""
    peer: str
    first_line: int
    last_line: int = 0
    steps: list[Step] = field(default_factory=list)

    def check(self, path: Path) -> None:
        """ValueError if it cannot be replayed."""
        if any(step.data.startswith(PREFACE) for step in self.steps[:2]):
            raise ValueError(
                f"{path}: connection {self.number} is in linkbox's own protocol (Linked), where both sides "
                "refuse what was sent before: only conversations over plain framings can be replayed"
            )


@dataclass(frozen=True, slots=True)
class Options:
    """How a recording is replayed. See `Recording.serve`."""

    framing: PlainFraming | None
    transaction: tuple[int, int]
    speed: float
    by_time: bool


@dataclass(slots=True, eq=False)
class Exchange:
    """A request, and what the server sent until the next one."""

    connection: int
    request: bytes
    """Of the first exchange and of the last one (``is_end``) it is empty."""
    at: float
    is_end: bool = False
    answer: list[Step] = field(default_factory=list)
    used: int = 0
    """How often it was replayed."""


def exchanges_of(conversation: Conversation, framing: PlainFraming | None) -> list[Exchange]:
    """The exchanges of a conversation. Without a framing, a request is what was received at a time."""
    number = conversation.number
    found = [Exchange(number, b"", conversation.opened)]
    decoder = None if framing is None else framing.decoder(LARGEST)
    for step in conversation.steps:
        if step.sender == "server":
            found[-1].answer.append(step)
        elif step.event is None:
            requests = [step.data] if decoder is None else decoder.feed(step.data)
            found += [Exchange(number, request, step.at) for request in requests]
        elif step.event == "end":
            if decoder is not None:
                found += [Exchange(number, request, step.at) for request in decoder.eof()]
            found.append(Exchange(number, b"", step.at, is_end=True))
        if decoder is not None and decoder.error is not None:
            raise ValueError(
                f"connection {number} of the recording does not have this framing: {decoder.error}"
            )
    return found


class Book:
    """All exchanges of a recording, by their requests."""

    def __init__(self, conversations: Sequence[Conversation], options: Options) -> None:
        self.options = options
        self.all = [exchanges_of(each, options.framing) for each in conversations]
        self.places: dict[bytes, list[tuple[int, int]]] = {}
        """Where each request occurs: conversation and exchange. What may differ is blank in it."""
        for place, exchanges in enumerate(self.all):
            for index, exchange in enumerate(exchanges):
                if exchange.request:
                    self.places.setdefault(self.blank(exchange.request), []).append((place, index))

    def blank(self, data: bytes) -> bytes:
        """The bytes without what may differ."""
        start, end = self.options.transaction
        return data[:start] + bytes(len(data[start:end])) + data[end:] if end else data

    def copied(self, data: bytes, request: bytes) -> bytes:
        """The first bytes of a response, with what is copied from the request."""
        start, end = self.options.transaction
        if start == end or min(len(data), len(request)) < end:
            return data
        return data[:start] + request[start:end] + data[end:]


class Script:
    """Finds the exchange of each request that arrives on one live connection.

    The next one of the recording comes first, so that a client that sends exactly what was recorded gets
    exactly what was recorded, in whatever pieces its bytes arrive. Otherwise any exchange with an equal
    request will do: the one that was used least, of the same connection or of another.
    """

    def __init__(self, book: Book, place: int) -> None:
        self._book = book
        self._place = place
        self._index = 0
        framing = book.options.framing
        self._decoder = None if framing is None else framing.decoder(LARGEST)
        self._held = b""
        self.greeting = book.all[place][0]
        """What the server sends on its own."""
        self.unknown: list[bytes] = []
        """Requests that were not recorded, for the caller to report and clear."""

    @property
    def error(self) -> Exception | None:
        """Why nothing more of the client can be understood."""
        return None if self._decoder is None else self._decoder.error

    def feed(self, data: bytes) -> list[tuple[Exchange, bytes]]:
        """The exchanges of the requests that are complete now, each with its request as it arrived."""
        if self._decoder is not None:
            return self._framed(self._decoder.feed(data))
        self._held += data
        found: list[tuple[Exchange, bytes]] = []
        while self._held and (exchange := self._beginning()) is not None:
            size = len(exchange.request)
            found.append((exchange, self._held[:size]))
            self._held = self._held[size:]
        return found

    def eof(self) -> list[tuple[Exchange, bytes]]:
        """The client has ended: what the server sent then."""
        found = [] if self._decoder is None else self._framed(self._decoder.eof())
        if self._held:
            self.unknown.append(self._held)
            self._held = b""
        return found + [(each, b"") for each in self._book.all[self._place][-1:] if each.is_end]

    def _framed(self, messages: list[bytes]) -> list[tuple[Exchange, bytes]]:
        found = []
        for message in messages:
            wanted = self._book.blank(message)
            if self._next() == wanted:
                found.append((self._go(self._place, self._index + 1), message))
            elif places := self._book.places.get(wanted):
                found.append((self._go(*min(places, key=self._rank)), message))
            else:
                self.unknown.append(message)
        decoder = self._decoder
        if decoder is not None:
            self.unknown += [str(each).encode() for each in decoder.rejected]
            decoder.rejected.clear()
        return found

    def _beginning(self) -> Exchange | None:
        """The exchange whose request is the beginning of what is held, if there is one now."""
        held = self._book.blank(self._held)
        following = self._next()
        if following and held.startswith(following):
            return self._go(self._place, self._index + 1)
        if following and following.startswith(held):
            return None
        fitting = [request for request in self._book.places if held.startswith(request)]
        if fitting:
            return self._go(*min(self._book.places[max(fitting, key=len)], key=self._rank))
        if not any(request.startswith(held) for request in self._book.places):
            self.unknown.append(self._held)
            self._held = b""
        return None

    def _next(self) -> bytes:
        """The next request of the recording; empty at its end."""
        exchanges = self._book.all[self._place]
        at = self._index + 1
        return self._book.blank(exchanges[at].request) if at < len(exchanges) else b""

    def _rank(self, at: tuple[int, int]) -> tuple[int, bool, bool]:
        """Of several exchanges with the same request, the one with the lowest rank is next."""
        place, index = at
        return self._book.all[place][index].used, place != self._place, index <= self._index

    def _go(self, place: int, index: int) -> Exchange:
        self._place, self._index = place, index
        exchange = self._book.all[place][index]
        exchange.used += 1
        return exchange


def shown(data: bytes, start: int = 0) -> str:
    """Some bytes, for a message: only ASCII, and cut."""
    part = data[start : start + SHOWN]
    before, after = "…" if start else "", "…" if len(data) > start + SHOWN else ""
    return f"{before}{part!r}{after}"

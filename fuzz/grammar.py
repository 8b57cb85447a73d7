"""Frames for a real connection, as a script says: right ones mostly, others at times.

The attacker knows only what it has said and heard itself: no look into the endpoint.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz.target import Choices
from linkbox.core.wire import frames

MOST = 128 * 1024
"""Bytes that are prepared and not said yet."""
WRONG = 228
"""A byte from here on is a step that breaks a rule, most often; a connection ends with the first such one."""
Step = Callable[[], None]


def raw(kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A frame of any type, whose header may lie about its length."""
    return (kind << 24 | (len(body) if length is None else length)).to_bytes(4) + body


class Grammar:
    """Frames that are about to be said."""

    def __init__(self, choices: Choices, pattern: str) -> None:
        self.choices = choices
        self.frames: list[bytes] = []
        self.newest_ask = 0
        self.begin(0, 0)
        asks = (self.ask, self.ask, self.half_ask, self.rest_of_ask, self.large_ask, self.cancel)
        messages = (self.data, self.data, self.batch, self.in_parts, self.many)
        self.right: list[Step] = [
            *(asks if pattern == "AR" else messages),
            *(self.ack, self.ack, self.ack_now, self.ping, self.extension),
        ]
        self.wrong: list[Step] = [
            *asks,
            *messages,
            *(self.first_part, self.part, self.any_ack, self.answer, self.fail),
            *(self.reject, self.dropped, self.pong, self.end, self.end, self.end_ack, self.goaway),
            *(self.half, self.handshake, self.tiny, self.anything),
            *(self.repeat, self.change, self.swap, self.cut, self.drop),
        ]

    def begin(self, units: int, heard_units: int) -> None:
        """On a new connection: the server has had so many units, and this side so many of the server's."""
        self.units = units
        """How many were said."""
        self.heard_units = heard_units
        self.newest_ask = max(self.newest_ask, units)
        self.frames.clear()

    def step(self, byte: int) -> Step:
        """What a byte stands for."""
        if byte >= WRONG:
            return self.wrong[self.choices.byte() % len(self.wrong)]
        return self.right[byte % len(self.right)]

    def take(self) -> bytes:
        """All that is prepared."""
        said, self.frames = b"".join(self.frames), []
        return said

    def add(self, frame: bytes) -> None:
        if sum(map(len, self.frames[-8:])) + len(frame) <= MOST:
            self.frames.append(frame)

    def near(self) -> int:
        """A number close to one that means something."""
        return self.choices.number(self.heard_units, self.units, self.newest_ask)

    def body(self) -> bytes:
        size = self.choices.byte()
        return b"x" * (size if size < 200 else (size - 199) * 300)

    # -- messages --------------------------------------------------------------------------------------

    def data(self) -> None:
        self.units += 1
        self.add(frames.frame(frames.DATA, self.body()))

    def batch(self) -> None:
        body = self.body()
        bodies = [body] * min(1 << self.choices.byte() % 9, MOST // (len(body) + 4))
        self.units += len(bodies)
        self.add(frames.encode_batch(bodies))

    def in_parts(self) -> None:
        """A message in pieces."""
        body, pieces = self.body(), 1 + self.choices.byte() % 5
        self.units += pieces + 1
        self.add(
            frames.encode_first_part(len(body) * (pieces + 1), body)
            + frames.frame(frames.PART, body) * (pieces - 1)
            + frames.frame(frames.DATA, body)
        )

    def many(self) -> None:
        """Many of the smallest messages."""
        count = 1 << self.choices.byte() % 10
        self.units += count
        self.add(frames.frame(frames.DATA) * count)

    def first_part(self) -> None:
        self.units += 1
        self.add(frames.encode_first_part(self.choices.number(1000, 1 << 20), self.body()))

    def part(self) -> None:
        self.units += 1
        self.add(frames.frame(frames.PART, self.body()))

    def any_ack(self) -> None:
        self.add(frames.encode_ack(self.near(), self.near(), self.choices.number(), self.choices.number()))

    def ack(self) -> None:
        """As a well-behaved peer would; what it grants may be little."""
        grants = (1 << 40, 1 << 40, self.heard_units + 1, 0)[self.choices.byte() % 4]
        self.add(frames.encode_ack(self.heard_units, self.heard_units, grants, grants))

    def ack_now(self) -> None:
        self.add(frames.frame(frames.ACK_NOW))

    def reject(self) -> None:
        self.add(frames.encode_reject(self.near(), ("decode", "full", "")[self.choices.byte() % 3], "no"))

    def dropped(self) -> None:
        self.add(frames.encode_dropped(self.near(), self.near()))

    def ping(self) -> None:
        self.add(frames.encode_number(frames.PING, self.choices.number()))

    def pong(self) -> None:
        self.add(frames.encode_number(frames.PONG, self.choices.number()))

    def end(self) -> None:
        self.add(frames.encode_number(frames.END, self.near() if self.choices.byte() & 1 else self.units))

    def end_ack(self) -> None:
        self.add(frames.encode_number(frames.END_ACK, self.near()))

    def goaway(self) -> None:
        self.add(frames.encode_number(frames.GOAWAY, self.near()))

    # -- requests --------------------------------------------------------------------------------------

    def ask(self) -> None:
        self.newest_ask += 1 + self.choices.byte() % 2
        self.units += 1
        self.add(frames.encode_ask(self.newest_ask, 0, None, self.body()))

    def half_ask(self) -> None:
        """One of which more is to come."""
        self.newest_ask += 1
        self.units += 1
        flags = (frames.MORE_OF_MESSAGE, frames.MORE_OF_ASK)[self.choices.byte() % 2]
        left = self.choices.byte()
        self.add(frames.encode_ask(self.newest_ask, flags, left * 10 if left & 1 else None, self.body()))

    def rest_of_ask(self) -> None:
        """More of one, with any flags."""
        self.units += 1
        flags = self.choices.byte() & 15 & ~frames.HAS_DEADLINE
        self.add(frames.encode_ask(self.one_ask(), flags, None, self.body()))

    def large_ask(self) -> None:
        """One in pieces, of which others may come in between."""
        body, pieces = self.body(), 1 + self.choices.byte() % 5
        self.newest_ask += 1
        for left in reversed(range(pieces)):
            flags = frames.MORE_OF_MESSAGE if left else 0
            self.add(frames.encode_ask(self.newest_ask, flags, None, body))
        self.units += pieces

    def cancel(self) -> None:
        self.units += 1
        self.add(frames.encode_cancel(self.one_ask(), "enough"))

    def one_ask(self) -> int:
        """The id of a request, most often of the newest ones."""
        return max(1, self.newest_ask - self.choices.byte() % 4)

    def answer(self) -> None:
        self.units += 1
        self.add(frames.encode_answer(self.near(), self.choices.byte() % 4, self.body()))

    def fail(self) -> None:
        self.units += 1
        self.add(frames.encode_fail(self.near(), "E", "because"))

    # -- what is no frame, or none of these ------------------------------------------------------------

    def half(self) -> None:
        """A header, and too little behind it."""
        kind, length = self.choices.byte(), min(self.choices.number(), 0xFFFFFF)
        self.add(raw(kind, self.body(), length))

    def extension(self) -> None:
        """Of a version to come: to be skipped."""
        self.add(raw(0x80 | self.choices.byte(), self.body()))

    def handshake(self) -> None:
        """Out of place."""
        self.add(frames.frame(frames.HELLO + self.choices.byte() % 5, b"{}"))

    def tiny(self) -> None:
        """A flood of the smallest frames there are."""
        kind = (frames.DATA, frames.ACK_NOW, frames.PART, 0x90)[self.choices.byte() % 4]
        count = 1 << self.choices.byte() % 12
        self.units += count if kind in (frames.DATA, frames.PART) else 0
        self.add(raw(kind) * count)

    def anything(self) -> None:
        self.add(self.choices.bytes(self.choices.byte() % 64))

    # -- what is done to frames ------------------------------------------------------------------------

    def repeat(self) -> None:
        if self.frames:
            last = self.frames[-1]
            self.add(last * min(1 << self.choices.byte() % 12, 1 + MOST // 2 // (len(last) or 1)))

    def change(self) -> None:
        """One byte of the last one."""
        at, value = self.choices.byte(), self.choices.byte()
        if self.frames and self.frames[-1]:
            last = bytearray(self.frames[-1])
            last[at % len(last)] ^= value
            self.frames[-1] = bytes(last)

    def swap(self) -> None:
        """The order of the last two."""
        self.frames[-2:] = reversed(self.frames[-2:])

    def cut(self) -> None:
        """The last one ends early."""
        at = self.choices.byte()
        if self.frames:
            self.frames[-1] = self.frames[-1][:at]

    def drop(self) -> None:
        """The last one is never said, though it was counted."""
        del self.frames[-1:]


class PlainGrammar(Grammar):
    """Lines, and what is none."""

    def __init__(self, choices: Choices, pattern: str) -> None:
        super().__init__(choices, pattern)
        self.right = [self.line, self.line, self.line, self.many]
        self.wrong = [self.anything, self.repeat, self.change, self.swap, self.cut, self.drop]

    def line(self) -> None:
        self.add(self.body() + b"\n")

    def many(self) -> None:
        """A flood of the smallest."""
        self.add(b"\n" * (1 << self.choices.byte() % 12))

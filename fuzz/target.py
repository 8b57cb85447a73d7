"""What a target is, and how one takes its decisions out of the bytes it is given."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """Code under attack. ``run`` returns if all is well with an input, and raises if not."""

    name: str
    run: Run
    seeds: tuple[bytes, ...] = (b"",)
    """Where to begin, besides what lies in the corpus."""
    is_endpoint: bool = False
    """Is it a whole endpoint, and not only a decoder? Then it gets most of the time."""
    share: float = 1.0
    """Of the time, beside the others: about the milliseconds that an input takes, so that all get as many."""
    is_guided: bool = True
    """May coverage guide it? It makes slow what has threads, and tells little of them."""
    longest: int = 4096
    """Bytes of an input. A short one is enough where each byte is a step."""
    stories: dict[str, bytes] = field(default_factory=dict)
    """Seeds that reach something in particular."""
    close: Callable[[], None] | None = None
    """Ends what the target keeps from one input to the next: servers, say."""


class Choices:
    """Bytes as decisions: any input means something, and a small change of it a small change of that."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """The next byte; 0 when there is none."""
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def bytes(self, count: int) -> bytes:
        """That many of the next bytes, or what is there."""
        at = self._at
        self._at = at + count
        return self._data[at : at + count]

    def rest(self) -> bytes:
        """All that is left."""
        return self.bytes(len(self._data))

    def number(self, *near: int) -> int:
        """A number of at most 64 bits: small, close to one of ``near``, or around a power of two."""
        choice, offset = divmod(self.byte(), 16)
        if choice < len(near):
            return max(0, near[choice] + offset - 8)
        if choice < 12:
            return offset
        return min((1 << 64) - 1, max(0, (1 << 4 * self.byte() % 65) + offset - 8))


EQUAL = 12
"""Pieces of one size, before they become twice as large: small ones are for the beginning."""


def cuts(data: bytes, seed: int) -> Iterator[bytes]:
    """The data as TCP may cut it; 0: whole."""
    if not seed:
        if data:
            yield data
        return
    chance = random.Random(seed)
    most = chance.choice((1, 2, 5, 20, 300, 5000))
    start = count = 0
    while start < len(data):
        stop = start + (chance.randint(1, most) if most > 1 else 1)
        yield data[start:stop]
        start = stop
        count += 1
        if not count % EQUAL:
            most *= 2

"""Inputs by chance: seeds, changed. Knows nothing of what the code does with them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

LONGEST = 4096
_SPECIAL = (0, 1, 2, 7, 8, 16, 31, 32, 34, 58, 91, 92, 93, 123, 125, 127, 128, 129, 254, 255)


def inputs(seeds: Sequence[bytes], seed: int, longest: int = LONGEST) -> Iterator[bytes]:
    """Endless inputs, the same ones for the same seed."""
    chance = random.Random(seed)
    known = [each for each in seeds if each] or [b"\0"]
    while True:
        if chance.random() < 0.1:
            yield chance.randbytes(chance.randrange(1, 200))
            continue
        data = bytearray(chance.choice(known))
        for _ in range(1 << chance.randrange(5)):
            _change(data, known, chance)
        yield bytes(data[:longest])


def _change(data: bytearray, known: Sequence[bytes], chance: random.Random) -> None:
    """One change, in place."""
    at = chance.randrange(len(data) + 1)
    length = chance.choice((1, 1, 2, 4, 8, 50))
    match chance.randrange(7):
        case 0:
            data[at : at + 1] = bytes((chance.choice(_SPECIAL),))
        case 1 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 2:
            data[at:at] = chance.randbytes(length)
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = data[at : at + length]
        case 5:
            other = chance.choice(known)
            start = chance.randrange(len(other))
            data[at:at] = other[start : start + length]
        case _:
            data[at : at + length] = chance.randbytes(length)

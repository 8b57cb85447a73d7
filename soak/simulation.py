"""Whole conversations from one number: what happens in them follows from the seed, and from nothing else.

A client and a server of P2P, each with or without a store, on a network in memory and a clock that is turned
by hand. The seed says what is sent and taken, how far each byte gets, when a connection is cut, when a disk
is slow or full, and when a process dies. What must hold is the same as in tests/core/test_crashes.py; there
Hypothesis searches for short examples, here runs are long. A seed that fails fails each time.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from linkbox.core.bytes_mailbox import BytesMailbox
from linkbox.core.mailbox import Mailbox
from tests.core.test_crashes import AnyCrashes

SIDES = ("client", "server")
SIZES = (0, 1, 44, 46, 330, 5_000)


@dataclass
class Tally:
    """What simulations have done."""

    runs: int = 0
    steps: int = 0
    messages: int = 0
    deaths: int = 0
    drops: int = 0


class _Drawn:
    """Hands out what a seed has drawn, where Hypothesis would draw."""

    def __init__(self, dice: random.Random, stores: list[str]) -> None:
        self._dice = dice
        self._values: list[Any] = [
            dice.choice((100, 1_000, 1 << 20)),
            dice.choice((2, 50, 100_000)),
            dice.choice((200, 1 << 20)),
            dice.choice((4, 100_000)),
            stores,
        ]

    def draw(self, strategy: object) -> Any:
        return self._values.pop(0)


def simulate(seed: int, steps: int, tally: Tally) -> None:
    """One run. AssertionError if something was lost, doubled, reordered, or a receipt has lied."""
    dice = random.Random(seed)
    stores = [side for side in SIDES if dice.random() < 0.7]
    run = AnyCrashes()
    run.begin(data=_Drawn(dice, stores), mailbox=dice.choice((Mailbox, BytesMailbox)))  # type: ignore[call-arg]
    try:
        for _ in range(steps):
            _step(run, dice, tally)
            run.nothing_lies()
    finally:
        run.teardown()
    tally.runs += 1
    tally.steps += steps
    tally.messages += run.count


def _step(run: AnyCrashes, dice: random.Random, tally: Tally) -> None:
    side, what = dice.choice(SIDES), dice.random()
    if what < 0.25:
        sizes = [dice.choice(SIZES) for _ in range(dice.randint(1, 6))]
        run.send(side, sizes, dice.random() < 0.1, dice.random() < 0.5)
    elif what < 0.45:
        run.take(side, dice.randint(1, 20), dice.choice((0, 0, 1, 40, 1_000)))
    elif what < 0.65 and run.wire.ends:
        run.move(dice.randrange(10), dice.choice((1, 10, 100, None)), dice.randint(1, 5))
    elif what < 0.75:
        run.run()
    elif what < 0.83:
        run.advance(dice.choice((0.001, 0.01, 0.1, 1.0, 30.0)))
    elif what < 0.87:
        run.disk_speed(dice.random() < 0.7)
    elif what < 0.91:
        run.write(side, dice.random() < 0.3)
    elif what < 0.96 and run.wire.ends:
        run.drop(dice.randrange(10), dice.choice((0, 10, 1_000)))
        tally.drops += 1
    elif what < 0.99:
        run.crash(side, dice.random() < 0.5)
        tally.deaths += 1
    else:
        run.acknowledge_now(side)


def simulate_all(seeds: Iterable[int], steps: int) -> Tally:
    """One run for each seed; the first that fails is named in the error."""
    tally = Tally()
    for seed in seeds:
        try:
            simulate(seed, steps, tally)
        except BaseException as error:
            error.add_note(f"this was seed {seed}, {steps} steps: make soak ARGS='--seed {seed}'")
            raise
    return tally

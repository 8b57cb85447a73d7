"""Scripts that reach what chance reaches late: each limit, and each way through the door. Seeds for the fuzzer.

A story begins with the two bytes of flags (see `links.play_server` and `doors.play_house`); its steps are
named as the methods of `LinkedPeer` and `PlainPeer`. The bytes that each step takes follow its name.
"""

from __future__ import annotations

from fuzz.bench import Bench
from fuzz.linked import LinkedPeer
from fuzz.scripts import Peer, PlainPeer
from fuzz.target import Choices

Word = tuple[str | int, ...]
Story = tuple[int, int, tuple[Word, ...]]
HONEST, DEAD, SMALL, GREETS = 8, 16, 32, 64
BLOCK, BYTES = 8, 16
SECONDS = {0.001: 0, 0.25: 5, 2.2: 7, 6.6: 8, 20: 9}
"""What the step ``clock`` takes for these."""
TINY: tuple[Word, ...] = (("data", 2, 0), ("repeat", 11))
"""Thousands of the smallest messages."""
MUCH: tuple[Word, ...] = (("data", 1, 250), ("repeat", 11), ("flush",))
"""As many bytes as may come in one go."""
PINGS: tuple[Word, ...] = (("number", 0, 0), ("repeat", 11), ("flush",))


def wait(seconds: float) -> Word:
    """Time passes."""
    return ("clock", SECONDS[seconds])


def spell(story: Story, bench: Bench, is_linked: bool = True, *, is_client: bool = False) -> bytes:
    """The bytes of a story."""
    flags, more, words = story
    hub = bench.client if is_client else bench.server
    peer: Peer = (LinkedPeer if is_linked else PlainPeer)(bench, hub, Choices(b""), 0)
    return bytes((flags, more)) + peer.spell(*words)

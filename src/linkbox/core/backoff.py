"""`Backoff`: how long a client waits before it connects again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

TRY_AGAIN: Final = ("busy", "limit", "later")
"""Codes of refusals after which a client tries again: the next attempt may succeed."""


class Backoff(msgspec.Struct, frozen=True):
    """Exponential backoff with jitter, in seconds.

    The first attempt after a lost connection is made at once, the n-th after that
    ``initial * factor**(n-1)`` seconds later, never more than ``maximum``, each varied by up to
    ``jitter`` of itself (so that a thousand clients do not reconnect at the same instant). The first
    attempt, too, waits ``initial`` seconds after two connections in a row that were shorter than that; with
    a plain framing, after one.
    A request of a ClientAR and ``start()`` do not wait for the next attempt: they cause one.
    With ``attempts=None`` the attempts never end; otherwise the peer is lost after that many in a row.
    """

    initial: float = 0.05
    maximum: float = 5.0
    factor: float = 2.0
    jitter: float = 0.25
    attempts: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum:
            raise ValueError(f"{self}: needs 0 < initial <= maximum")
        if self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ValueError(f"{self}: needs factor >= 1 and jitter from 0 to 1")
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"{self}: needs attempts >= 1, or None for no end")

    def delay(self, failures: int, random: Callable[[], float]) -> float | None:
        """Seconds to wait after ``failures`` failed attempts in a row; None: give up.

        ``random`` returns a number from 0 to 1.
        """
        if self.attempts is not None and failures >= self.attempts:
            return None
        if failures == 0:
            return 0.0
        # The exponent is capped: 2.0**1100 is an OverflowError after a long night offline.
        base = min(self.maximum, self.initial * self.factor ** min(failures - 1, 64))
        return base * (1 + self.jitter * (2 * random() - 1))


ONE_TRY: Final = Backoff()
"""As the default, except that the first connection is attempted once: a person waits for the result.

It is this object that counts, not an equal one.
"""

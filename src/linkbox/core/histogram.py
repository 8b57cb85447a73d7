"""A histogram of times with a fixed size: adding a time costs no memory."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from linkbox.events import Percentiles

BUCKETS: Final = 40
"""Bucket n counts the times below 2**n microseconds that are in no earlier one; the last one all others."""


class Histogram:
    """Counts times, in seconds. A percentile is known to a factor of two."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: list[int] = [0] * BUCKETS
        self.total: float = 0.0
        """The sum of all times."""

    def add(self, seconds: float) -> None:
        """Count a time."""
        self.counts[min(int(seconds * 1e6).bit_length(), BUCKETS - 1)] += 1
        self.total += seconds

    def percentiles(self) -> Percentiles | None:
        """The percentiles of all times; None if there are none."""
        count = sum(self.counts)
        if not count:
            return None
        return Percentiles(count=count, p50=self._below(0.5 * count), p99=self._below(0.99 * count))

    def _below(self, rank: float) -> float:
        """The upper border of the bucket that the time of this rank is in."""
        bucket = next(n for n, seen in enumerate(accumulate(self.counts)) if seen >= rank)
        return float(2**bucket) / 1e6

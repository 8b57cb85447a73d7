"""All timers of an endpoint in one heap.

Most deadlines are postponed often (each received byte postpones the heartbeat). So a deadline that is
postponed is not moved in the heap: when its old time comes, its owner is asked for the new one.
"""

from __future__ import annotations

import heapq
from typing import Final, Protocol

NEVER: Final = float("inf")
"""The time of a timer that is not set."""
RETRY: Final = 1.0
"""Seconds after an unexpected error of a timer until it is handled again."""


class Timed(Protocol):
    """An object with a deadline."""

    timer_at: float
    """Its time in the heap, set by `Timers`."""

    def next_timer(self) -> float:
        """When to call `handle_timer`; infinity: never."""
        ...

    def handle_timer(self, now: float) -> None:
        """Do what is due, if anything."""
        ...


class Timers:
    """All deadlines of an endpoint."""

    __slots__ = ("_count", "_heap", "_stale", "failures", "soonest")

    def __init__(self) -> None:
        self.failures: list[tuple[object, BaseException]] = []
        """See `Effects.failures`."""
        self.soonest: float = NEVER
        """When to call `handle` next; infinity: never."""
        self._stale = 0
        self._heap: list[tuple[float, int, Timed]] = []
        self._count = 0

    def schedule(self, target: Timed, when: float) -> None:
        """Call the target at this time or earlier."""
        if when < target.timer_at:
            target.timer_at = when
            self._count += 1
            heapq.heappush(self._heap, (when, self._count, target))
            if when < self.soonest:
                self.soonest = when

    def forget_one(self) -> None:
        """Count a target that has ended but is still in the heap; remove such entries at times."""
        self._stale += 1
        if self._stale > 64 and self._stale * 2 > len(self._heap):
            self._stale = 0
            live = [
                each for each in self._heap if each[0] == each[2].timer_at and each[2].next_timer() != NEVER
            ]
            for each in self._heap:
                each[2].timer_at = NEVER
            for each in live:
                each[2].timer_at = each[0]
            self._heap = live
            heapq.heapify(live)
            self._look()

    def _look(self) -> None:
        self.soonest = self._heap[0][0] if self._heap else NEVER

    def handle(self, now: float) -> None:
        """Call everything that is due."""
        while self._heap and self._heap[0][0] <= now:
            when, _, target = heapq.heappop(self._heap)
            if when == target.timer_at:  # otherwise it was moved to an earlier time and has been called
                target.timer_at = NEVER
                try:
                    target.handle_timer(now)
                    self.schedule(target, target.next_timer())
                except BaseException as error:  # the timers of others must be handled nevertheless
                    self.failures.append((target, error))
                    self.schedule(target, now + RETRY)
        self._look()

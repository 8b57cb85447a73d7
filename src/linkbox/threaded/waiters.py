"""The threads that wait in an engine, and the order in which those that sleep are woken."""

from __future__ import annotations

import threading
from typing import Final

AWAKE: Final = 2
"""Followers that are on their way to the lock, at most. A single one would leave a processor idle while the
system wakes it; more would only compete for the interpreter, at the price of several thread switches each."""


class ThreadWaiter:
    """One thread that waits."""

    __slots__ = ("is_interrupted", "is_rung", "is_service", "may_lead", "sleep_lock", "thread")

    def __init__(self, thread: int, is_service: bool = False, may_lead: bool = True) -> None:
        self.thread: int = thread
        self.is_service: bool = is_service
        self.may_lead: bool = may_lead
        self.is_rung: bool = False
        self.is_interrupted: bool = False
        """A signal is pending: see `Engine._run_interrupts`."""
        self.sleep_lock: threading.Lock | None = None
        """Held while the thread must sleep. Made for the first sleep: most waiters lead and never sleep."""

    def wake(self) -> None:
        """Let the thread check its predicate again."""
        if not self.is_rung:
            self.is_rung = True
            if self.sleep_lock is not None:
                self.sleep_lock.release()

    def make_sleep_lock(self) -> threading.Lock:
        """The lock to sleep on. Under the engine's lock."""
        if self.sleep_lock is None:
            self.sleep_lock = threading.Lock()
            if not self.is_rung:
                self.sleep_lock.acquire()
        return self.sleep_lock


class WakeQueue:
    """Followers to wake, a few at a time: each that runs again lets the next one be woken."""

    __slots__ = ("_awake", "_next", "count")

    def __init__(self) -> None:
        self.count = 0
        """How many threads will soon run because of this queue."""
        self._awake: set[ThreadWaiter] = set()
        """Woken, and on their way to the lock."""
        self._next: dict[ThreadWaiter, None] = {}
        """Still asleep, in the order in which they will be woken."""

    def wake(self, waiter: ThreadWaiter) -> None:
        """Wake a follower, now or when its turn has come."""
        if len(self._awake) < AWAKE:
            self._awake.add(waiter)
            waiter.wake()
        else:
            self._next[waiter] = None
        self.count = len(self._awake) + len(self._next)

    def on_running(self, waiter: ThreadWaiter) -> None:
        """A follower runs again, for whatever reason: wake the next one."""
        self._awake.discard(waiter)
        self._next.pop(waiter, None)
        if self._next and len(self._awake) < AWAKE:
            following = next(iter(self._next))
            del self._next[following]
            self._awake.add(following)
            following.wake()
        self.count = len(self._awake) + len(self._next)

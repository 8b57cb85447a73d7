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


class Followers:
    """The threads that sleep. They are woken a few at a time: each that runs lets the next one be woken."""

    __slots__ = ("_awake", "_next", "asleep", "woken")

    def __init__(self) -> None:
        self.asleep: dict[ThreadWaiter, None] = {}
        """All of them, in the order in which they went to sleep. One that runs or is to lead leaves."""
        self.woken: int = 0
        """How many will soon run because of `wake`."""
        self._awake: set[ThreadWaiter] = set()
        """Woken, and on their way to the lock."""
        self._next: dict[ThreadWaiter, None] = {}
        """To be woken, in this order."""

    def wake(self, waiter: ThreadWaiter) -> None:
        """Let a thread check its predicate again: now, or if it sleeps, when its turn has come."""
        if waiter not in self.asleep:
            waiter.wake()
        elif len(self._awake) < AWAKE:
            self._awake.add(waiter)
            waiter.wake()
        else:
            self._next[waiter] = None
        self.woken = len(self._awake) + len(self._next)

    def on_running(self, waiter: ThreadWaiter) -> None:
        """A thread runs again, for whatever reason: it sleeps no more, and the next one is woken."""
        self.asleep.pop(waiter, None)
        self._awake.discard(waiter)
        self._next.pop(waiter, None)
        if self._next and len(self._awake) < AWAKE:
            following = next(iter(self._next))
            del self._next[following]
            self._awake.add(following)
            following.wake()
        self.woken = len(self._awake) + len(self._next)

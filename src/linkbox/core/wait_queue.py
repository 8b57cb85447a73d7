"""Queues of waiting threads or tasks. The core marks a queue as changed; a front end wakes its waiters."""

from __future__ import annotations

from typing import Final

from linkbox.core.values import Value

ENDLESS = 1 << 62
"""A number that no counter reaches."""


class Nothing:
    """The result of a wait that was in vain. A class of its own, because None and False may be messages."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


NOTHING: Final = Nothing()


class Predicate:
    """A condition to wait for. It is evaluated under the lock, possibly many times."""

    __slots__ = ()

    def holds(self) -> bool:
        """Does the condition hold now?"""
        raise NotImplementedError

    def claim(self) -> Value:
        """Return the result of the wait, or `NOTHING` while the condition does not hold.

        Only the waiter itself calls this: a subclass may take what was waited for.
        """
        return True if self.holds() else NOTHING


class Waiter:
    """One waiting thread or task. Each front end has a subclass, whose constructor sets the predicate."""

    __slots__ = ("predicate",)

    predicate: Predicate

    def is_awake(self) -> bool:
        """Was the waiter woken without having run since?"""
        raise NotImplementedError

    def wake(self) -> None:
        """Make the waiter evaluate its predicate again."""
        raise NotImplementedError


class WaitQueue:
    """The waiters for one kind of change, in the order in which they began to wait."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: dict[Waiter, None] = {}

    def available(self) -> int:
        """The number of waiters that can be served now: no more are woken."""
        return ENDLESS

    def ready(self) -> list[Waiter]:
        """The waiters to wake: those whose predicate holds, but no more than can be served."""
        available = self.available()
        found: list[Waiter] = []
        for waiter in self.waiters:
            if len(found) >= available:
                break
            if waiter.is_awake() or waiter.predicate.holds():
                found.append(waiter)
        return found

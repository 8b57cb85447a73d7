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

    is_relayed = False
    """Does its waiter wake the next one, if there is more for it?"""

    def holds(self) -> bool:
        """Does the condition hold now?"""
        raise NotImplementedError

    def claim(self) -> Value:
        """Return the result of the wait, or `NOTHING` while the condition does not hold.

        Only the waiter itself calls this: a subclass may take what was waited for.
        """
        return True if self.holds() else NOTHING


class WaitQueue:
    """The waiters for one kind of change, in the order in which they began to wait.

    What a waiter is, only the front end knows; the value is the predicate that it waits for.
    """

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: dict[object, Predicate] = {}

    def available(self) -> int:
        """The number of waiters that can be served now: no more are woken."""
        return ENDLESS

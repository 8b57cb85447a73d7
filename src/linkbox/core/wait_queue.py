"""What operations wait for: a queue of waiters, and the predicate that ends a wait."""

from __future__ import annotations

from linkbox.core.mailbox import Box as WaitQueue

__all__ = ["Predicate", "WaitQueue"]


class Predicate:
    """A condition that a waiter waits for. It is evaluated under the lock, possibly many times."""

    __slots__ = ()

    def holds(self) -> bool:
        """Does the condition hold now?"""
        raise NotImplementedError

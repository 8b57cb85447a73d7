"""The steps that an operation yields when it must wait, and their results.

How to think about it. Each operation is written once, as a generator that yields a step where it must wait. A
front end runs it: `linkbox.threaded` blocks its thread in each step, `linkbox.aio` suspends its task. The
lock of the endpoint is held while the generator runs, and released during each step. An exception in a step
(from user code, a cancellation, an interrupt) is raised inside the generator, so the cleanup of an operation
is written once, in the operation.

| step | ends | result |
|---|---|---|
| `Wait` | when the predicate holds, the deadline has passed, or the endpoint is closed | `Predicate.claim` |
| `Call` | when the function has returned, and what it returned was awaited if it is awaitable | its result |
| `NextItems` | when the iterator has given items, or has ended | a list; empty at the end |
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from copy import copy
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from linkbox.core.wait_queue import Predicate, WaitQueue
from linkbox.errors import LinkboxError
from linkbox.operations.arguments import Given, seconds

R = TypeVar("R")
NEVER = float("inf")
"""A deadline that never passes."""


class Step:
    """Base class of the steps."""

    __slots__ = ()


class Wait(Step):
    """Wait in a queue until the predicate holds."""

    __slots__ = ("deadline", "may_lead", "predicate", "queue")

    def __init__(
        self, queue: WaitQueue, predicate: Predicate, deadline: float = NEVER, may_lead: bool = True
    ) -> None:
        self.queue: WaitQueue = queue
        self.predicate: Predicate = predicate
        self.deadline: float = deadline
        """On the clock of ``time.monotonic()``."""
        self.may_lead: bool = may_lead
        """Threads only: may the waiting thread do the I/O of the endpoint in the meantime?"""


class Call(Step):
    """Call user code, or code that blocks, without the lock."""

    __slots__ = ("arguments", "function")

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function: Callable[..., Any] = function
        self.arguments: tuple[Any, ...] = arguments


class NextItems(Step):
    """Take items from an iterator of the user; one at a time from an asynchronous one."""

    __slots__ = ("items", "most")

    def __init__(self, items: Iterator[Any] | AsyncIterator[Any], most: int) -> None:
        self.items: Iterator[Any] | AsyncIterator[Any] = items
        self.most: int = most

    def take(self) -> list[Any]:
        """The next items of an iterator that is not asynchronous."""
        items: Any = self.items
        return list(islice(items, self.most))


Operation: TypeAlias = Generator[Step, Any, R]


def items_of(iterable: Iterable[Any] | AsyncIterable[Any]) -> Iterator[Any] | AsyncIterator[Any]:
    """The iterator of an iterable of either kind."""
    if isinstance(iterable, AsyncIterable):
        return iterable.__aiter__()
    return iter(iterable)


def deadline_after(timeout: Given, now: float) -> float:
    """When a call with this timeout gives up. TypeError if it is neither None nor a number.

    A timeout below 0 is one that has passed: the caller has computed it from a deadline.
    """
    if timeout is None:
        return NEVER
    deadline = now + (timeout if isinstance(timeout, float) else seconds(timeout, "timeout"))
    if deadline != deadline:
        raise ValueError(f"timeout={timeout!r}: seconds are needed, or None to wait for ever")
    return deadline


def to_raise(error: Exception) -> Exception:
    """A copy to raise, of an error that a session, receipt or request keeps.

    A raised error gets a traceback, and so refers to the frames it has passed: if they refer to the keeper,
    only the garbage collector can free it. Of an error raised twice the traceback would get longer, too.
    """
    if not isinstance(error, LinkboxError):
        return error
    copied = copy(error)
    if error.__cause__ is not None:
        copied.__cause__ = error.__cause__
    return copied

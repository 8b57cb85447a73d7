"""Calls on another thread, and calls with a time limit.

This module is not compiled, because mypyc loses the current exception at an ``await`` in an ``except`` or at
the end of an ``async with``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any


async def on_thread(thread: Executor, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that blocks. If cancelled, wait for the function to return first."""
    future = asyncio.get_running_loop().run_in_executor(thread, function, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise


async def within(seconds: float | None, awaitable: Awaitable[Any]) -> Any:
    """Return the result of an awaitable; `TimeoutError` after ``seconds``, unless None."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def is_set_within(timeout: float | None, event: asyncio.Event) -> bool:
    """Wait for an event for at most ``timeout`` seconds. Returns whether it was set."""
    try:
        await within(timeout, event.wait())
    except TimeoutError:
        return False
    return True

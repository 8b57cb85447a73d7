"""Calls on another thread, and calls with a limit of time.

Not compiled: where something is awaited in an ``except``, or at the end of an ``async with``, the compiler
loses the error that is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any


async def on_thread(thread: Executor, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that blocks. Cancelled, this waits for the function to return."""
    future = asyncio.get_running_loop().run_in_executor(thread, function, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise


async def within(seconds: float | None, awaitable: Awaitable[Any]) -> Any:
    """What it gives; `TimeoutError` after that time, if there is a limit."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def is_set_within(timeout: float | None, event: asyncio.Event) -> bool:
    """Wait for an event, at most that long. Returns whether it came."""
    try:
        await within(timeout, event.wait())
    except TimeoutError:
        return False
    return True

"""Checks of the arguments that users give: each error names the parameter, the argument and what is needed.

Compiled functions check the types of their parameters, but those errors name no parameter. So a parameter
that passes on what a user gave is declared as `Given`, and its value is checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from linkbox.events import Peer

Given: TypeAlias = Any
"""What a user gave, not checked yet."""


def whole_number(value: Given, name: str, least: int) -> int:
    """Return the value if it is an int from ``least``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: an int is needed")
    if value < least:
        raise ValueError(f"{name}={value!r}: a whole number from {least} is needed")
    return value


def seconds(value: Given, name: str) -> float:
    """Return a number as a float, also one of another library."""
    if isinstance(value, float):
        return value
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name}={value!r}: seconds are needed, as a number")
    return float(value)


def check_timeout(timeout: Given) -> None:
    """TypeError for what is neither None nor a number."""
    if timeout is not None:
        seconds(timeout, "timeout")


def flag(value: Given, name: str) -> bool:
    """Return the value if it is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: True or False is needed")
    return value


def separators(value: Given) -> tuple[bytes, ...]:
    """Return the separators of a stream: bytes, or a tuple of them."""
    several = value if isinstance(value, tuple) else (value,)
    if not several or not all(isinstance(each, bytes) and each for each in several):
        raise TypeError(f"separator={value!r}: bytes are needed, or a tuple of them, none of them empty")
    return several


def text(value: Given, name: str) -> str:
    """Return the value if it is a str."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: a str is needed")
    return value


def function(value: Given, name: str, shape: str) -> Callable[..., Any]:
    """Return the value if it can be called."""
    if not callable(value):
        raise TypeError(f"{name}= takes {shape}, not {type(value).__name__}")
    return value  # type: ignore[no-any-return]


_ASYNCHRONOUS = 0x80 | 0x200
"""In ``co_flags``: a coroutine function, an asynchronous generator (without loading the module inspect)."""


def is_asynchronous(function: Callable[..., Any]) -> bool:
    """Would a call of this function only make a coroutine or an asynchronous generator?"""
    found: Any = function
    while hasattr(found, "func"):  # functools.partial
        found = found.func
    if not hasattr(found, "__code__") and callable(found):
        found = type(found).__call__
    code = getattr(found, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & _ASYNCHRONOUS)


def peer(value: Given, name: str) -> Peer:
    """Return the value if it is a peer."""
    if not isinstance(value, Peer):
        raise TypeError(f"{name}={value!r}: a Peer is needed, from peers(), an event or a message")
    return value

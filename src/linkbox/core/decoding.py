"""Decoding what has arrived: good messages become values, bad ones errors in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linkbox.core.link import Arrival
from linkbox.errors import DecodeError, TooLarge


def decode_all(decode: Callable[[bytes], Any], arrival: Arrival) -> list[Any]:
    """The values of an arrival; an error stands where a message is bad."""
    try:
        if not arrival.has_errors:
            return list(map(decode, arrival.payloads))
    except Exception:
        pass  # Found again below, with its place.
    values: list[Any] = []
    for payload in arrival.payloads:
        try:
            values.append(payload if isinstance(payload, Exception) else decode(payload))
        except DecodeError as error:
            values.append(error)
        except Exception as error:
            values.append(DecodeError(f"{type(error).__name__}: {error}"))
    arrival.has_errors = True
    return values


def is_error(value: Any) -> bool:
    """Does it stand where a message was bad?"""
    return isinstance(value, (DecodeError, TooLarge))

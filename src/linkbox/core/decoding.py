"""Decoding messages that have arrived: good ones become values, bad ones errors in their place."""

from __future__ import annotations

from collections.abc import Callable

from linkbox.core.arrival import Arrival
from linkbox.core.values import Value
from linkbox.errors import DecodeError, TooLarge

Decode = Callable[[bytes], Value]
"""What a format does with one message."""


def decode_all(decode: Decode, arrival: Arrival) -> list[Value]:
    """The values of an arrival; an error is in the place of a message that is bad."""
    try:
        if not arrival.has_errors:
            return list(map(decode, arrival.payloads))  # type: ignore[arg-type]
    except Exception:
        pass  # Found again below, with its position.
    values: list[Value] = []
    for payload in arrival.payloads:
        if isinstance(payload, TooLarge):
            values.append(payload)
            continue
        try:
            values.append(decode(payload))
        except DecodeError as error:
            values.append(error)
        except Exception as error:
            values.append(DecodeError(f"{type(error).__name__}: {error}"))
    arrival.has_errors = True
    return values

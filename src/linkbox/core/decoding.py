"""Decodes received messages into values. A message that cannot be decoded becomes an exception object."""

from __future__ import annotations

from collections.abc import Callable

from linkbox.core.arrival import Arrival
from linkbox.core.values import Value
from linkbox.errors import DecodeError, TooLarge
from linkbox.formats import Skip

Decode = Callable[[bytes], Value]
"""The decoding function of a format, for one message."""


def decode_all(decode: Decode, arrival: Arrival) -> list[Value]:
    """Return the values of an arrival, with an exception object for each message that cannot be decoded."""
    try:
        if not arrival.has_errors:
            return list(map(decode, arrival.payloads))  # type: ignore[arg-type]
    except Exception:
        pass  # The loop below finds the message that failed.
    values: list[Value] = []
    for payload in arrival.payloads:
        if isinstance(payload, TooLarge):
            values.append(payload)
            continue
        try:
            values.append(decode(payload))
        except (DecodeError, Skip) as error:
            values.append(error)
        except Exception as error:
            values.append(DecodeError(f"{type(error).__name__}: {error}"))
    arrival.has_errors = True
    return values

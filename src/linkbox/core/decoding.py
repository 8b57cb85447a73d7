"""Decodes received messages into values. A message that cannot be decoded becomes an exception object."""

from __future__ import annotations

from collections.abc import Callable

from linkbox.core.arrival import Arrival
from linkbox.core.values import Value
from linkbox.errors import DecodeError, TooLarge
from linkbox.text import text_of

Decode = Callable[[bytes], Value]
"""The decoding function of a format, for one message."""


MustPass = Callable[[BaseException], bool]
"""Must this exception end the decoding, because it is not about the message?"""


def nothing_passes(error: BaseException) -> bool:
    """Every exception is about the message."""
    return False


def decode_all(decode: Decode, arrival: Arrival, must_pass: MustPass = nothing_passes) -> list[Value]:
    """Return the values of an arrival, with an exception object for each message that cannot be decoded.

    A format may be code of the application, which can raise anything.
    """
    try:
        if not arrival.has_errors:
            values: list[Value] = list(map(decode, arrival.payloads))  # type: ignore[arg-type]
            if len(values) == len(arrival.payloads):  # a StopIteration of `decode` would end it early
                return values
    except BaseException as error:
        if must_pass(error):
            raise
        # The loop below finds the message that failed.
    values = []
    for payload in arrival.payloads:
        if isinstance(payload, TooLarge):
            values.append(payload)
            continue
        try:
            values.append(decode(payload))
        except DecodeError as error:
            values.append(error)
        except BaseException as error:
            if must_pass(error):
                raise
            values.append(DecodeError(f"{type(error).__name__}: {text_of(error)}"))
    arrival.has_errors = True
    return values

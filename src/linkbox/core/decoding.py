"""Decodes received messages into values. A message that cannot be decoded becomes an exception object."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from linkbox.core.arrival import Arrival
from linkbox.core.values import Value
from linkbox.errors import DecodeError, TooLarge
from linkbox.formats import Skip
from linkbox.text import text_of

Decode = Callable[[bytes], Value]
"""The decoding function of a format, for one message."""
Estimate = Callable[[Sequence[bytes]], tuple[int, int]]
"""The memory and the work of decoding messages, see format_costs.py."""


MustPass = Callable[[BaseException], bool]
"""Must this exception end the decoding, because it is not about the message?"""


def nothing_passes(error: BaseException) -> bool:
    """Every exception is about the message."""
    return False


class Decoding:
    """Decodes the messages of one endpoint, except those that would cost more than the limit."""

    __slots__ = ("_estimate", "_limit", "decode")

    def __init__(self, decode: Decode, estimate: Estimate | None, limit: int) -> None:
        self.decode: Decode = decode
        self._estimate = estimate
        """None: what the format makes of a message is taken to be as large as the message."""
        self._limit = limit

    def memory_of(self, payloads: Sequence[bytes]) -> int:
        """The memory of the values of these messages."""
        return sum(map(len, payloads)) if self._estimate is None else self._estimate(payloads)[0]

    def values(self, arrival: Arrival, must_pass: MustPass = nothing_passes) -> list[Value]:
        """Decode an arrival, after `check`."""
        return decode_all(self.decode, arrival, must_pass)

    def check(self, arrival: Arrival) -> None:
        """Set the ``memory`` of an arrival. Replace messages that would cost too much by errors."""
        estimate, payloads = self._estimate, arrival.payloads
        if estimate is None or not payloads:
            return
        if not arrival.has_errors:
            arrival.memory, work = estimate(payloads)  # type: ignore[arg-type]
            if arrival.memory + work <= self._limit:
                return
        arrival.memory = 0
        for at, each in enumerate(payloads):
            if isinstance(each, bytes):
                memory, work = estimate((each,))
                if memory + work > self._limit:
                    payloads[at] = _too_costly(len(each), memory, work, self._limit)
                    arrival.has_errors = True
                else:
                    arrival.memory += memory


def _too_costly(size: int, memory: int, work: int, limit: int) -> TooLarge:
    """The error to reject a message with."""
    why = f"its values may take {memory} bytes of memory"
    if work > limit:
        why = "it has too many numbers that are slow to read, or keys that are not text"
    return TooLarge(
        f"a message of {size} bytes would cost too much to decode: {why}. Send it in several messages, "
        f"or raise Limits(decoded=...) at the receiver, now {limit}"
    )


def decode_all(decode: Decode, arrival: Arrival, must_pass: MustPass = nothing_passes) -> list[Value]:
    """Return the values of an arrival, with an exception object for each message that cannot be decoded.

    A format may be code of the application, which can raise anything.
    """
    if len(arrival.payloads) > 1 and not arrival.has_errors:
        try:
            found: list[Value] = list(map(decode, arrival.payloads))  # type: ignore[arg-type]
            if len(found) == len(arrival.payloads):  # a StopIteration of `decode` would end it early
                return found
        except BaseException as error:
            if must_pass(error):
                raise
            # The loop below finds the message that failed.
    values: list[Value] = []
    for payload in arrival.payloads:
        if isinstance(payload, TooLarge):
            values.append(payload)
            continue
        try:
            values.append(decode(payload))
            continue
        except (DecodeError, Skip) as error:
            values.append(error)
        except BaseException as error:
            if must_pass(error):
                raise
            values.append(DecodeError(f"{type(error).__name__}: {text_of(error)}"))
        arrival.has_errors = True
    return values

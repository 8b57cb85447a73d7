"""Decoding of arrivals by formats that raise anything, and estimates of what messages cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from linkbox.core.arrival import Arrival
from linkbox.core.decoding import Decoding, decode_all
from linkbox.errors import DecodeError, TooLarge
from tests.core.wire import Wire


def arrival(*payloads: Any) -> Arrival:
    return Arrival(Wire().connect(), list(payloads), len(payloads))


@pytest.mark.parametrize("payloads", [[b"a"], [b"a", b"b"]])
def test_what_is_not_about_the_message_passes(payloads: list[bytes]) -> None:
    def decode(payload: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_all(decode, arrival(*payloads), lambda error: isinstance(error, KeyboardInterrupt))


def test_a_format_that_raises_stop_iteration_loses_no_message() -> None:
    def decode(payload: Any) -> Any:
        if payload == b"bad":
            raise StopIteration
        return payload

    first, bad, last = decode_all(decode, arrival(b"a", b"bad", b"c"))
    assert (first, last) == (b"a", b"c")
    assert isinstance(bad, DecodeError) and "StopIteration" in str(bad)


def test_what_is_rejected_already_costs_nothing() -> None:
    def estimate(payloads: Sequence[bytes]) -> tuple[int, int]:
        return sum(map(len, payloads)), 0

    found = arrival(TooLarge("a message of 9 bytes"), b"abc")
    found.has_errors = True
    Decoding(lambda payload: payload, estimate, 100).check(found)
    assert found.memory == 3 and found.payloads[1] == b"abc"

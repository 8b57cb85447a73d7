"""What every role shares: numbered messages, and the proof that all of them came, whole and in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any

NUMBER = 8
"""Bytes of a message that hold its number."""


def bodies(count: int, size: int) -> list[bytes]:
    """Messages 0 to ``count - 1``, all of ``size`` bytes; one and the same object repeats no number."""
    rest = b"x" * (size - NUMBER)
    return [number.to_bytes(NUMBER, "big") + rest for number in range(count)]


def check(found: Sequence[bytes], count: int, size: int) -> None:
    """They are `bodies`, in order."""
    if len(found) != count:
        raise AssertionError(f"{len(found)} of {count} messages arrived")
    for number, body in enumerate(found):
        if len(body) != size or int.from_bytes(body[:NUMBER], "big") != number:
            raise AssertionError(f"message {number} is damaged, or out of order: {bytes(body[:16])!r}")


def check_stream(found: bytes, count: int, size: int) -> None:
    """The same for their bytes in a row."""
    view = memoryview(found)
    check([bytes(view[at : at + size]) for at in range(0, len(found), size)], count, size)


def records(count: int) -> list[dict[str, Any]]:
    """Objects of about 200 bytes as JSON, numbered."""
    return [
        {
            "number": number,
            "sensor": f"pump-{number % 50:02d}",
            "at": 1764000000.125 + number / 10,
            "values": [20.25, 19.75, 1013.5, 0.125, number % 7],
            "state": {"ok": True, "alarm": None, "note": "all is well here, as it was before"},
            "tags": ["hall 3", "line 7"],
        }
        for number in range(count)
    ]


def check_records(found: Sequence[Any], count: int) -> None:
    """They are `records`, in order."""
    if list(found) != records(count):
        raise AssertionError(f"{len(found)} records arrived, {count} were sent, and they are not the same")


def time_each(ask: Any, payloads: Iterable[bytes], warm_up: int = 50) -> list[float]:
    """Seconds of each ``ask(payload)``, which must give the payload back; the first few are not counted."""
    times = []
    for payload in payloads:
        start = perf_counter()
        answer = ask(payload)
        times.append(perf_counter() - start)
        if answer != payload:
            raise AssertionError(f"{payload[:16]!r} came back as {bytes(answer[:16])!r}")
    return times[min(warm_up, len(times) // 2) :]

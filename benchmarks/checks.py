"""What every role shares: numbered messages, and the proof that all of them came, whole and in order."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter, thread_time
from typing import Any, ParamSpec, TypeVar

NUMBER = 8
"""Bytes of a message that hold its number."""

LONGEST = 5.0
"""Seconds after which no more round trips are begun: on a busy machine each one may wait for its turn."""
WARM_UP = 50

P = ParamSpec("P")
T = TypeVar("T")


class Tally:
    """What this process has done for the measurement, and beside it."""

    made: list[int] = []  # noqa: RUF012 - a process has one tally
    """Messages, as they were made; less those that were not sent because time was up."""
    beside: list[float] = []  # noqa: RUF012
    """CPU seconds that are not the library's: to make messages and to check them."""


def beside(work: Callable[P, T]) -> Callable[P, T]:
    """The CPU time of this function is not what is measured."""

    @functools.wraps(work)
    def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        start = thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            Tally.beside.append(thread_time() - start)

    return timed


@beside
def bodies(count: int, size: int) -> list[bytes]:
    """Messages 0 to ``count - 1``, all of ``size`` bytes; one and the same object repeats no number."""
    Tally.made.append(count)
    rest = b"x" * (size - NUMBER)
    return [number.to_bytes(NUMBER, "big") + rest for number in range(count)]


@beside
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
    check(_parts(view, size), count, size)


@beside
def _parts(view: memoryview, size: int) -> list[bytes]:
    return [bytes(view[at : at + size]) for at in range(0, len(view), size)]


@beside
def records(count: int) -> list[dict[str, Any]]:
    """Objects of about 200 bytes as JSON, numbered."""
    Tally.made.append(count)
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


@beside
def check_records(found: Sequence[Any], count: int) -> None:
    """They are `records`, in order."""
    if list(found) != records(count):
        raise AssertionError(f"{len(found)} records arrived, {count} were sent, and they are not the same")


def time_each(ask: Any, payloads: Iterable[bytes], warm_up: int = WARM_UP) -> list[float]:
    """Seconds of each ``ask(payload)``, which must give the payload back; the first few are not counted."""
    times: list[float] = []
    payloads = list(payloads)
    end = perf_counter() + LONGEST
    for payload in payloads:
        start = perf_counter()
        answer = ask(payload)
        now = perf_counter()
        times.append(now - start)
        _same(answer, payload)
        if now > end:
            break
    return _counted(times, len(payloads), warm_up)


async def time_each_async(
    ask: Callable[[bytes], Awaitable[bytes]], payloads: Iterable[bytes], warm_up: int = WARM_UP
) -> list[float]:
    """The same with ``await ask(payload)``."""
    times: list[float] = []
    payloads = list(payloads)
    end = perf_counter() + LONGEST
    for payload in payloads:
        start = perf_counter()
        answer = await ask(payload)
        now = perf_counter()
        times.append(now - start)
        _same(answer, payload)
        if now > end:
            break
    return _counted(times, len(payloads), warm_up)


def _same(answer: bytes, payload: bytes) -> None:
    if answer != payload:
        raise AssertionError(f"{payload[:16]!r} came back as {bytes(answer[:16])!r}")


def _counted(times: list[float], wanted: int, warm_up: int) -> list[float]:
    Tally.made.append(len(times) - wanted)
    return times[min(warm_up, len(times) // 2) :]

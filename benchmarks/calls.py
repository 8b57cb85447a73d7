"""Python calls per message: ``python -m benchmarks.calls [SCENARIO …]`` shows which functions they are.

A count does not depend on the machine, as times do. Both sides are in this process, over loopback TCP, warm,
with messages of bytes.

How it is measured. `sys.setprofile` counts every call of a Python function, and every time a generator or a
coroutine is resumed, per thread; in linkbox and in what it calls of the standard library, but not in asyncio.
The figure of a scenario is the lowest decile over many messages: the cost of a message with which nothing
else happens. (Some also carry an acknowledgement, because a part of the credit is used up; the mean, which is
also shown, includes them.) Acknowledgements by time are switched off: one each millisecond, about 20 calls,
would be one for every message on a busy machine and one for 20 on a fast one. Background threads do not work
in step with messages: their calls in a loop without any pause are divided by the number of messages.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

import linkbox
from linkbox import ClientAR, ClientP2P, EndOfData, Request, ServerAR, ServerP2P, aio
from linkbox.core import context

ANY = "tcp://127.0.0.1:0"
MESSAGE = b"x" * 64
WARM, MESSAGES = 300, 400
GROUP = 10
"""Requests that are counted together, where several threads work on one."""
Counts = dict[CodeType, int]
_NOT_COUNTED = (__file__, str(Path(asyncio.__file__).parent), selectors.__file__)


@dataclass(frozen=True)
class Figures:
    """What was counted in one scenario."""

    calls: float
    """Calls per message: the lowest decile."""
    mean: float
    """Calls per message: the mean."""
    background: float
    """Calls of background threads per message: the mean."""
    functions: list[tuple[float, CodeType]]
    """The functions that a message with as many calls as the lowest decile makes, with their calls."""
    background_functions: list[tuple[float, CodeType]]


@dataclass(frozen=True)
class Budget:
    """Calls per message at most, and less than so many of background threads."""

    calls: float
    background: float = 1.0


LIMITS = {
    "p2p_send": Budget(8),
    "p2p_data_get": Budget(20),
    "ar_ask": Budget(100),
    "aio_p2p": Budget(36),
    "aio_ar": Budget(90),
}
"""What must hold: a change that makes more calls has to save others."""


class Profiler:
    """Counts the calls of this thread, and of each thread that is started while it is on."""

    def __init__(self) -> None:
        self._threads: dict[int, Counts] = {}

    def _count(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and not frame.f_code.co_filename.startswith(_NOT_COUNTED):
            thread = threading.get_ident()
            counts = self._threads.get(thread)
            if counts is None:
                counts = self._threads[thread] = {}
            counts[frame.f_code] = counts.get(frame.f_code, 0) + 1

    @contextmanager
    def on(self) -> Iterator[None]:
        """Count. Endpoints have to be started in here, so that their threads are counted too."""
        gc.disable()  # else finalizers of unrelated objects would count
        threading.setprofile(self._count)
        sys.setprofile(self._count)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
            gc.enable()

    def counts(self, threads: list[int]) -> Counts:
        """The calls of these threads so far."""
        found: Counts = {}
        for thread in threads:
            for code, count in self._threads.get(thread, {}).copy().items():
                found[code] = found.get(code, 0) + count
        return found


def difference(before: Counts, after: Counts) -> Counts:
    """The calls between two looks."""
    return {code: count - before.get(code, 0) for code, count in after.items() if count != before.get(code)}


def figures(steps: list[Counts], size: int, background: Counts) -> Figures:
    """Sum up; each step is so many messages."""
    ordered = sorted(steps, key=lambda counts: sum(counts.values()))
    least = sum(ordered[len(ordered) // 2].values()) / 2
    # Now and then a background thread is quicker: a call that found its message there did not wait.
    ordered = [counts for counts in ordered if sum(counts.values()) >= least]
    typical = ordered[len(ordered) // 10]
    messages = len(steps) * size
    return Figures(
        sum(typical.values()) / size,
        sum(sum(counts.values()) for counts in steps) / messages,
        sum(background.values()) / messages,
        _sorted(typical, size),
        _sorted(background, messages),
    )


def _sorted(counts: Counts, messages: int) -> list[tuple[float, CodeType]]:
    rows = [(count / messages, code) for code, count in counts.items()]
    return sorted(rows, key=lambda row: (-row[0], row[1].co_filename, row[1].co_firstlineno))


def _threads(*, background: bool) -> list[int]:
    """The threads of endpoints that do I/O in the background; or all others."""
    found = []
    for thread in threading.enumerate():
        is_background = thread.name.startswith("linkbox") and " worker " not in thread.name
        if is_background is background and thread.ident is not None:
            found.append(thread.ident)
    return found


# -- the scenarios --------------------------------------------------------------------------------------


def _echo(server: ServerP2P[bytes, object]) -> None:
    try:
        while True:
            server.send(server.data_get())
    except EndOfData:
        pass


def _drain(server: ServerP2P[bytes, object]) -> None:
    for _ in server:
        pass


@contextmanager
def _without_acks_by_time() -> Iterator[None]:
    """Endpoints that are started in here acknowledge only by credit."""
    names = ("ACK_DELAY", "ACK_SPACING", "SLOW_ACK_DELAY", "SLOW_ACK_SPACING")
    before = {name: getattr(context, name) for name in names}
    try:
        for name in names:
            setattr(context, name, 3600.0)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


@contextmanager
def _p2p(work: Callable[[ServerP2P[bytes, object]], None]) -> Iterator[ClientP2P[bytes, object]]:
    """A client of a server that works in a thread of its own."""
    with ServerP2P(ANY) as server:
        thread = threading.Thread(target=work, args=(server,))
        thread.start()
        with ClientP2P(server.address) as client:
            yield client
    thread.join()


def p2p_send() -> Figures:
    """Threaded P2P: ``send``, in one direction, so that no acknowledgement rides on it."""
    profiler = Profiler()
    me = [threading.get_ident()]
    steps: list[Counts] = []
    with profiler.on(), _p2p(_drain) as client:
        for _ in range(WARM):
            client.send(MESSAGE)
        for _ in range(MESSAGES):
            before = profiler.counts(me)
            client.send(MESSAGE)
            steps.append(difference(before, profiler.counts(me)))
    return figures(steps, 1, {})


def p2p_data_get() -> Figures:
    """Threaded P2P: the ``data_get`` of a round trip, which waits for the answer."""
    profiler = Profiler()
    me = [threading.get_ident()]
    steps: list[Counts] = []
    with profiler.on(), _p2p(_echo) as client:
        for _ in range(WARM):
            client.send(MESSAGE)
            client.data_get()
        for _ in range(MESSAGES):
            client.send(MESSAGE)
            before = profiler.counts(me)
            client.data_get()
            steps.append(difference(before, profiler.counts(me)))
        others = _threads(background=True)
        start = profiler.counts(others)
        for _ in range(MESSAGES):
            client.send(MESSAGE)
            client.data_get()
        background = difference(start, profiler.counts(others))
    return figures(steps, 1, background)


def _answer(request: Request[bytes]) -> bytes:
    return request.data


def ar_ask() -> Figures:
    """Threaded AR with ``keep_alive`` and a handler: a request and its response, both sides."""
    profiler = Profiler()
    steps: list[Counts] = []
    with (
        profiler.on(),
        ServerAR(ANY, handler=_answer) as server,
        ClientAR(server.address, keep_alive=True) as client,
    ):
        for _ in range(WARM):
            client.ask(MESSAGE)
        workers, others = _threads(background=False), _threads(background=True)
        for _ in range(MESSAGES // GROUP):
            before = profiler.counts(workers)
            for _ in range(GROUP):
                client.ask(MESSAGE)
            steps.append(difference(before, profiler.counts(workers)))
        start = profiler.counts(others)
        for _ in range(MESSAGES):
            client.ask(MESSAGE)
        background = difference(start, profiler.counts(others))
    return figures(steps, GROUP, background)


async def _count_steps(profiler: Profiler, step: Callable[[], Awaitable[None]], size: int) -> list[Counts]:
    me = [threading.get_ident()]
    steps = []
    for _ in range(WARM):
        await step()
    for _ in range(MESSAGES // GROUP):
        before = profiler.counts(me)
        for _ in range(GROUP // size):
            await step()
        steps.append(difference(before, profiler.counts(me)))
    return steps


def aio_p2p() -> Figures:
    """P2P with asyncio: one message, both sides."""
    profiler = Profiler()

    async def main() -> list[Counts]:
        async with aio.ServerP2P(ANY) as server, aio.ClientP2P(server.address) as client:
            await server.wait_connected()

            async def there_and_back() -> None:
                await client.send(MESSAGE)
                await server.send(await server.data_get())
                await client.data_get()

            return await _count_steps(profiler, there_and_back, 2)

    with profiler.on():
        steps = asyncio.run(main())
    return figures(steps, GROUP, {})


def aio_ar() -> Figures:
    """AR with asyncio, ``keep_alive`` and a handler: a request and its response, both sides."""
    profiler = Profiler()

    async def main() -> list[Counts]:
        async with (
            aio.ServerAR(ANY, handler=_answer) as server,
            aio.ClientAR(server.address, keep_alive=True) as client,
        ):

            async def ask() -> None:
                await client.ask(MESSAGE)

            return await _count_steps(profiler, ask, 1)

    with profiler.on():
        steps = asyncio.run(main())
    return figures(steps, GROUP, {})


SCENARIOS = {each.__name__: each for each in (p2p_send, p2p_data_get, ar_ask, aio_p2p, aio_ar)}


def count(scenario: str) -> Figures:
    """Measure one scenario. Not on compiled code: its functions do not show."""
    with _without_acks_by_time():
        return SCENARIOS[scenario]()


def verdict(scenario: str, found: Figures) -> str:
    """One line: what was counted and what is allowed."""
    budget = LIMITS[scenario]
    return (
        f"{scenario}: {found.calls:g} calls per message, at most {budget.calls:g} (mean {found.mean:.1f}); "
        f"background threads {found.background:.2f}, below {budget.background:g}"
    )


def main(scenarios: list[str]) -> int:
    """Print the functions of each scenario with their calls per message; returns the exit status."""
    if linkbox.compiled:
        print("the calls of compiled functions cannot be counted: use the interpreted build")
        return 1
    if unknown := set(scenarios) - set(SCENARIOS):
        print(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(SCENARIOS)}")
        return 2
    for scenario in scenarios or SCENARIOS:
        found = count(scenario)
        print(verdict(scenario, found))
        for title, rows in (("", found.functions), ("in the background:", found.background_functions)):
            if title and rows:
                print(f"  {title}")
            for calls, code in rows:
                place = f"{Path(code.co_filename).name}:{code.co_firstlineno}"
                print(f"  {calls:8.2f}  {code.co_qualname}  ({place})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

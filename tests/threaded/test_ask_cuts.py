"""An ask that is cut off anywhere: never executed twice, never wedged, PeerLost at once."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from typing import Any

import pytest

from linkbox import (
    Backoff,
    ClientAR,
    ConnectFailed,
    DeadlineExceeded,
    Json,
    LinkError,
    PeerLost,
    Request,
    ServerAR,
)
from tests.threaded.helpers import (
    PROMPT,
    Process,
    Relay,
    Threads,
    core_of,
    free_port,
    restarting,
    wait_until,
)

QUICK = Backoff(initial=0.005, maximum=0.02)
both = pytest.mark.parametrize("keep_alive", [False, True], ids=["each its own connection", "keep_alive"])


class Executed:
    """A handler that counts how often each ask was executed."""

    def __init__(self) -> None:
        self.count: Counter[int] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Request[Any]) -> Any:
        with self._lock:
            self.count[request.data] += 1
        return [request.data, "answer"]

    def check(self, answered: set[int]) -> None:
        assert all(self.count[number] == 1 for number in answered)
        twice = {number: count for number, count in self.count.items() if count > 1}
        assert not twice, f"executed more than once: {twice}"


def _cuts() -> list[tuple[int | None, int | None]]:
    """After each byte of hello, ask and END on the way there; of welcome, answer and END on the way back."""
    return [pair for n in range(1, 330) for pair in ((n, None), (None, n))]


@both
def test_cut_at_every_byte_it_is_executed_at_most_once(keep_alive: bool) -> None:
    executed, answered, failed = Executed(), set(), 0
    cuts = _cuts()
    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=executed) as server,
        Relay(server.address, cuts) as relay,
    ):
        client = ClientAR(relay.address, Json, keep_alive=keep_alive, reconnect=QUICK, connect_timeout=20)
        number = 0
        while relay.connections < len(cuts):
            number += 1
            try:
                assert client.ask(number, timeout=150) == [number, "answer"]
                answered.add(number)
            except LinkError:
                failed += 1
            if keep_alive:
                relay.cut()
        # The next one just works.
        assert client.ask(0, timeout=10) == [0, "answer"]
        client.stop()
    executed.check(answered | {0})
    assert len(answered) + failed == number
    assert answered


@both
def test_cuts_at_random_moments_with_many_asks_in_flight(keep_alive: bool) -> None:
    executed, answered, lock = Executed(), set(), threading.Lock()
    with ServerAR("tcp://127.0.0.1:0", Json, handler=executed) as server, Relay(server.address) as relay:
        client = ClientAR(relay.address, Json, keep_alive=keep_alive, reconnect=QUICK)
        over = threading.Event()

        def ask(thread: int) -> None:
            for number in range(thread * 1000, thread * 1000 + 60):
                try:
                    assert client.ask(number, timeout=15) == [number, "answer"]
                except (PeerLost, ConnectFailed):
                    continue
                with lock:
                    answered.add(number)

        def cut() -> None:
            chance, pause = random.Random(1), threading.Event()
            while not over.is_set():
                pause.wait(chance.random() * 0.02)  # Cuts come at no particular moment.
                relay.cut()

        with Threads() as cutter:
            cutter.start(cut)
            try:
                with Threads() as threads:
                    for thread in range(8):
                        threads.start(ask, thread)
            finally:
                over.set()
        assert client.ask(9_999_999, timeout=10) == [9_999_999, "answer"]
        client.stop()
    executed.check(answered)
    if keep_alive:  # Its session survives the cuts, and so do its asks.
        assert len(answered) == 8 * 60


def test_through_orderly_restarts_of_the_server() -> None:
    """What a stopping server has not begun is asked again of the next one; nothing is executed twice."""
    executed, answered, lock = Executed(), set(), threading.Lock()
    server = ServerAR(("127.0.0.1", free_port()), Json, handler=executed).start()
    failures: Counter[str] = Counter()

    def ask(thread: int) -> None:
        client = ClientAR(server.address, Json, keep_alive=thread % 2 == 0, reconnect=QUICK)
        for number in range(thread * 1000, thread * 1000 + 100):
            try:
                assert client.ask(number, timeout=15) == [number, "answer"]
            except LinkError as error:
                failures[type(error).__name__] += 1
                continue
            with lock:
                answered.add(number)
        client.stop()

    with restarting(server, 0.03), Threads() as threads:
        for thread in range(4):
            threads.start(ask, thread)
    executed.check(answered)
    assert len(answered) + failures.total() == 400


SERVER = """
import sys, threading, linkbox
server = linkbox.ServerAR(sys.argv[1], linkbox.Json)
@server.handler
def answer(request):
    if request.data == "hang":
        sys.stdout.write("hanging" + chr(10)); sys.stdout.flush()
        threading.Event().wait(60)
    return request.data
server.start()
print(server.address)
sys.stdin.read()
"""


@both
def test_a_killed_server_is_noticed_at_once_and_the_next_ask_works(keep_alive: bool) -> None:
    errors: list[tuple[float, BaseException]] = []
    address = f"tcp://127.0.0.1:{free_port()}"
    client = ClientAR(address, Json, keep_alive=keep_alive, reconnect=QUICK)

    def ask() -> None:
        try:
            client.ask("hang")
        except LinkError as error:
            errors.append((time.monotonic(), error))

    with Process(SERVER, address) as process:
        assert process.line() == address
        assert client.ask(1) == 1
        with Threads() as threads:
            for _ in range(3):
                threads.start(ask)
            for _ in range(3):
                assert process.line() == "hanging"
            process.signal(signal.SIGKILL)
            killed = time.monotonic()
            process.wait()
    assert len(errors) == 3
    for when, error in errors:
        assert isinstance(error, PeerLost)
        assert when - killed < PROMPT
    with Process(SERVER, address) as process:
        assert process.line() == address
        assert client.ask(2) == 2
    client.stop()


def test_asking_a_server_that_is_not_there() -> None:
    client = ClientAR(("127.0.0.1", free_port()), reconnect=None)
    began = time.monotonic()
    with pytest.raises(ConnectFailed, match="nobody listens"):
        client.ask(b"?")
    assert time.monotonic() - began < PROMPT
    client.stop()
    client = ClientAR(("127.0.0.1", free_port()), connect_timeout=0.3)
    began = time.monotonic()
    with pytest.raises(ConnectFailed):
        client.ask(b"?")
    assert 0.1 < time.monotonic() - began < PROMPT
    client.stop()
    client = ClientAR(("127.0.0.1", free_port()), connect_timeout=20)
    began = time.monotonic()
    with pytest.raises((ConnectFailed, DeadlineExceeded)):
        client.ask(b"?", timeout=0.2)
    assert time.monotonic() - began < PROMPT
    client.stop()


def test_a_server_that_starts_a_moment_later_is_no_error() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    answers: list[bytes] = []
    client = ClientAR(address)
    with Threads() as threads:
        threads.start(lambda: answers.append(client.ask(b"early")))
        wait_until(lambda: core_of(client) is not None and core_of(client).channels)
        with ServerAR(address, handler=lambda request: request.data):
            wait_until(lambda: answers, "answered")
    assert answers == [b"early"]
    client.stop()

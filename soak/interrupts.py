"""Ctrl-C at random moments: thousands of interrupts hit the main thread in calls of linkbox.

Each interrupt is one signal whose handler raises KeyboardInterrupt: SIGINT from another thread, or SIGALRM
from a timer. The interrupted call is made again. If each call either did all of its work or none of it, then
every message arrives once and in order, every response belongs to its request, and the endpoints work on.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import NoReturn

from linkbox import ClientAR, ClientP2P, EndOfData, Limits, ServerAR, ServerP2P

ROOT = Path(__file__).parents[1]
ANY = "tcp://127.0.0.1:0"
PATIENCE = 60.0
"""Seconds that the end of a campaign may take."""


class Interrupter:
    """Interrupts the main thread once, a random moment after each `arm`."""

    def __init__(self, source: str, seed: int) -> None:
        self._random = random.Random(seed)
        self._delays: SimpleQueue[float] = SimpleQueue()
        if source == "timer":
            signal.signal(signal.SIGALRM, _raise)
            self.arm = self._arm_timer
        else:
            # A shell lets what it starts in the background ignore SIGINT, and Python leaves it so.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            threading.Thread(target=self._kill, daemon=True).start()
            self.arm = self._arm_thread

    def _arm_timer(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(0.0002, 0.004))

    def _arm_thread(self) -> None:
        self._delays.put(self._random.uniform(0.0, 0.004))

    def _kill(self) -> None:
        while True:
            time.sleep(self._delays.get())  # at any moment
            os.kill(os.getpid(), signal.SIGINT)


def _raise(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def interrupt(step: Callable[[], None], interrupter: Interrupter, count: int) -> None:
    """Call ``step`` again and again, until it was interrupted ``count`` times."""
    hits = 0
    while hits < count:
        try:
            interrupter.arm()
            while True:
                step()
        except KeyboardInterrupt:
            hits += 1


class Sending:
    """Numbered messages: those that the server gets must be all of them, in order."""

    def __init__(self) -> None:
        self.number = 0
        self._got: list[int] = []
        self._server = ServerP2P(ANY, limits=Limits(window_messages=200)).start()
        self._client = ClientP2P(self._server.address).start()
        self._taker = threading.Thread(target=self._take, daemon=True)
        self._taker.start()

    def _take(self) -> None:
        try:
            while True:
                self._got.append(int(self._server.data_get()))
        except EndOfData:
            pass

    def step(self) -> None:
        self._client.send(b"%d" % self.number)
        self.number += 1

    def finish(self) -> str:
        assert self._client.stop(PATIENCE), "stop() could not deliver everything"
        assert self._server.stop(PATIENCE)
        self._taker.join(PATIENCE)
        assert self._got == sorted(self._got), "messages are out of order"
        doubled = len(self._got) - len(set(self._got))
        assert not doubled, f"{doubled} messages were sent although send() raised"
        assert self._got == list(range(self.number)), "messages are lost"
        return f"{self.number} messages sent"


class Taking:
    """Numbered messages: those that were taken must be all of them, in order."""

    def __init__(self) -> None:
        self._got: list[bytes] = []
        self._sent = 0
        self._is_over = False
        self._server = ServerP2P(ANY).start()
        self._client = ClientP2P(self._server.address).start()
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()

    def _send(self) -> None:
        self._server.wait_connected(timeout=PATIENCE)
        (peer,) = self._server.peers()
        while not self._is_over:
            self._server.send(b"%d" % self._sent, to=peer)
            self._sent += 1
            if self._sent % 20 == 0:
                time.sleep(0.0003)  # so that the client waits now and then
        self._server.end(peer)

    def step(self) -> None:
        self._got.append(self._client.data_get(PATIENCE))

    def finish(self) -> str:
        self._is_over = True
        self._got += self._client
        self._sender.join(PATIENCE)
        assert self._client.stop(PATIENCE) and self._server.stop(PATIENCE)
        got = [int(data) for data in self._got]
        assert got == sorted(set(got)), "messages are doubled, or out of order"
        assert len(got) == self._sent, f"{self._sent - len(got)} messages are lost"
        return f"{self._sent} messages taken"


class Asking:
    """Numbered requests: each response must be the one to its request."""

    def __init__(self) -> None:
        self.number = 0
        self._server = ServerAR(ANY, handler=lambda request: request.data).start()
        self._client = ClientAR(self._server.address, keep_alive=True).start()

    def step(self) -> None:
        answer = self._client.ask(b"%d" % self.number, timeout=PATIENCE)
        assert int(answer) == self.number, f"request {self.number} got the response to {answer!r}"
        self.number += 1

    def finish(self) -> str:
        self.step()
        assert self._client.stop(PATIENCE) and self._server.stop(PATIENCE)
        return f"{self.number} requests"


class Stopping:
    """A client starts, sends and stops, again and again. A stopped one leaves nothing behind."""

    def __init__(self) -> None:
        self.number = 0
        self._got: list[int] = []
        self._server = ServerP2P(ANY, max_peers=100).start()
        self._server.add_callback(lambda event: self._got.extend(map(int, self._server.data_get_all())))
        self._client = ClientP2P(self._server.address)

    def step(self) -> None:
        self._client.start()
        for _ in range(3):
            number, self.number = self.number, self.number + 1
            self._client.send(b"%d" % number)
        self._client.stop(PATIENCE)

    def finish(self) -> str:
        self._client.stop(PATIENCE)
        self.step()
        assert self._client.stop(PATIENCE) and self._server.stop(PATIENCE)
        assert len(self._got) == len(set(self._got)), "messages are doubled"
        assert {self.number - 3, self.number - 2, self.number - 1} <= set(self._got), "messages are lost"
        _wait_until_no_thread_is_left()
        return f"{self.number} messages in short conversations"


def _wait_until_no_thread_is_left() -> None:
    """Not at once: an interrupted stop() does not wait for its threads."""
    deadline = time.monotonic() + PATIENCE
    while left := [each.name for each in threading.enumerate() if each.name.startswith("linkbox")]:
        assert time.monotonic() < deadline, f"threads are left: {left}"
        time.sleep(0.01)  # nothing reports the end of somebody else's thread


WAYS = {"send": Sending, "data_get": Taking, "ask": Asking, "stop": Stopping}
SOURCES = ("kill", "timer")


def run(way: str, source: str, count: int, seed: int) -> str:
    """So many interrupts in this process; returns what was done. AssertionError if something is wrong."""
    interrupter = Interrupter(source, seed)
    play = WAYS[way]()
    interrupt(play.step, interrupter, count)
    return play.finish()


def campaign(way: str, source: str, count: int, seed: int = 0) -> tuple[bool, str]:
    """The same in a process of its own: whether all was well, and what it printed."""
    # Not measured: an interrupt inside the coverage tracer would leave the tracer's own lock held.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "soak.interrupts", way, source, str(count), str(seed)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE + count * 0.1,
        check=False,
    )
    is_good = done.returncode == 0 and not done.stderr
    return is_good, (done.stdout + done.stderr).strip()


if __name__ == "__main__":
    sys.stdout.write(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])) + "\n")

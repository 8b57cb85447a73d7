"""Code that the parts of the demo share: child processes, tallies, and the checks that compare them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, Protocol

from linkbox import EndOfData, Message, ServerP2M

PATIENCE = 30.0
"""Seconds after its planned end when a child is killed. Only a busy machine needs it."""


class Tally:
    """Counts messages and hashes them in order: equal tallies mean equal messages in equal order."""

    def __init__(self) -> None:
        self.count: int = 0
        self.size: int = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Add a message."""
        self._hash.update(b"%d:" % len(data))
        self._hash.update(data)
        self.count += 1
        self.size += len(data)

    def report(self) -> dict[str, Any]:
        """The tally as JSON, for comparison."""
        return {"count": self.count, "digest": self._hash.hexdigest()}


def messages_of(server: ServerP2M[Any, Any]) -> Iterator[Message[Any]]:
    """Take message after message, each with its peer, until the server is stopped."""
    while True:
        try:
            message = server.message_get()
        except EndOfData:
            return
        yield message


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the live view."""

    who: str
    count: int
    now: str
    """What the last message says, with its unit."""
    share: float | None = None
    """The same as a part of 1, if it is one: shown as a bar."""


@dataclass(frozen=True, slots=True)
class Check:
    """The comparison of messages sent and received."""

    pattern: str
    what: str
    sent: int
    received: int
    verdict: str
    """What was verified, or what is wrong."""
    is_fine: bool


class Part(Protocol):
    """One part of the demo."""

    title: str
    happened: list[tuple[float, str]]
    """What was done to it, with the time."""

    def start(self, seconds: float) -> None:
        """Start the server and the children, which run for that many seconds."""
        ...

    def lines(self) -> list[Line]:
        """The current state."""
        ...

    def finish(self) -> list[Check]:
        """Wait for the children, stop, and compare the messages."""
        ...

    def close(self) -> None:
        """Stop everything. Has no effect after `finish`."""
        ...


class ChildFailed(Exception):
    """A child process failed or was killed."""


class Child:
    """A child process of the demo. It runs for ``seconds`` and is killed if it does not end."""

    def __init__(self, part: str, name: str, address: str, seconds: float, *more: str) -> None:
        self.name = name
        self._deadline = monotonic() + seconds + PATIENCE
        command = [sys.executable, "-m", "linkbox.cli.demo.child", part, name, address, str(seconds)]
        command += more
        # In a new session Ctrl-C reaches only the parent, which then ends its children.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def report(self) -> dict[str, Any]:
        """Wait for its end and return its report. `ChildFailed` if it fails or does not end in time."""
        try:
            out, err = self._process.communicate(timeout=max(0.1, self._deadline - monotonic()))
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ChildFailed(f"{self.name} did not end in time and was killed") from error
        if self._process.returncode:
            last = err.decode(errors="replace").strip().rpartition("\n")[2]
            raise ChildFailed(f"{self.name} exited with status {self._process.returncode}: {last}")
        found: dict[str, Any] = json.loads(out)
        return found

    @property
    def is_over(self) -> bool:
        """Has the process ended?"""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill the process if it is still running."""
        if self._process.poll() is None:
            self._process.kill()
        # Read its pipes to the end and close them.
        self._process.communicate()


def compare(
    pattern: str, what: str, sent: dict[str, Any], received: dict[str, Any], verdict: str, problem: str = ""
) -> Check:
    """Compare two tallies. ``problem`` is another error, if there was one."""
    if not problem and sent["count"] != received["count"]:
        problem = f"{abs(sent['count'] - received['count'])} too {_much(sent['count'], received['count'])}"
    elif not problem and sent != received:
        problem = "different contents or order"
    elif not problem and not sent["count"]:
        problem = "nothing was sent"
    return Check(pattern, what, sent["count"], received["count"], problem or verdict, not problem)


def _much(sent: int, received: int) -> str:
    return "few arrived" if received < sent else "many arrived"


def size(count: float) -> str:
    """A number of bytes with its unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def failure(pattern: str, what: str, error: Exception) -> Check:
    """The check of a child that failed."""
    return Check(pattern, what, 0, 0, str(error), False)


def ticks(seconds: float, rate: float) -> Iterator[int]:
    """Yield 0, 1, 2, …, ``rate`` per second, for that many seconds. Late ones follow without a pause."""
    began = monotonic()
    for number in range(int(seconds * rate)):
        now = monotonic()
        if now > began + seconds:
            return
        if now < began + number / rate:
            sleep(began + number / rate - now)
        yield number

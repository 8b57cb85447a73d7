"""What the parts of the demo share: children, tallies, and the checks made of both."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, Protocol

PATIENCE = 12.0
"""Seconds a child may take longer than it should before it is killed."""


class Tally:
    """Counts messages and hashes them in order: equal tallies mean equal messages in equal order."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """One message more."""
        self._hash.update(b"%d:" % len(data))
        self._hash.update(data)
        self.count += 1

    def report(self) -> dict[str, Any]:
        """For the other side to compare."""
        return {"count": self.count, "digest": self._hash.hexdigest()}


@dataclass(frozen=True, slots=True)
class Line:
    """What is going on, for the live view."""

    who: str
    count: int
    last: str


@dataclass(frozen=True, slots=True)
class Check:
    """What was sent, what has arrived, and is that the same?"""

    pattern: str
    what: str
    sent: int
    received: int
    verdict: str
    """What has been verified, or what is wrong."""
    is_fine: bool


class Part(Protocol):
    """A pattern at work."""

    title: str

    def start(self, seconds: float) -> None:
        """Start the server, and the children, which work for that long."""
        ...

    def lines(self) -> list[Line]:
        """How things stand now."""
        ...

    def finish(self) -> list[Check]:
        """Wait for the children, stop, and compare."""
        ...

    def close(self) -> None:
        """Stop everything, whatever has happened. Harmless after `finish`."""
        ...


class ChildFailed(Exception):
    """A child process ended badly, or had to be killed."""


class Child:
    """A process of the demo. It works for ``seconds`` and ends by itself, if need be it is killed."""

    def __init__(self, part: str, name: str, address: str, seconds: float) -> None:
        self.name = name
        self._deadline = monotonic() + seconds + PATIENCE
        command = [sys.executable, "-m", "linkbox.cli.demo.child", part, name, address, str(seconds)]
        # A session of its own: Ctrl-C is for the parent, which then ends its children itself.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def report(self) -> dict[str, Any]:
        """Wait until it has ended; what it says. `ChildFailed` if it did not end well, or in time."""
        try:
            out, err = self._process.communicate(timeout=max(0.1, self._deadline - monotonic()))
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ChildFailed(f"{self.name} did not end and was killed") from error
        if self._process.returncode:
            last = err.decode(errors="replace").strip().rpartition("\n")[2]
            raise ChildFailed(f"{self.name} ended with status {self._process.returncode}: {last}")
        found: dict[str, Any] = json.loads(out)
        return found

    def kill(self) -> None:
        """End it now, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        # Reads its pipes to the end and closes them.
        self._process.communicate()


def compare(
    pattern: str, what: str, sent: dict[str, Any], received: dict[str, Any], verdict: str, problem: str = ""
) -> Check:
    """Two tallies, one check. ``problem`` is something else that went wrong, if anything."""
    if not problem and sent["count"] != received["count"]:
        problem = f"{abs(sent['count'] - received['count'])} too {_much(sent['count'], received['count'])}"
    elif not problem and sent != received:
        problem = "other contents, or another order"
    elif not problem and not sent["count"]:
        problem = "nothing was sent"
    return Check(pattern, what, sent["count"], received["count"], problem or verdict, not problem)


def _much(sent: int, received: int) -> str:
    return "few arrived" if received < sent else "many arrived"


def failure(pattern: str, what: str, error: Exception) -> Check:
    """The check of something that did not even come to its end."""
    return Check(pattern, what, 0, 0, str(error), False)


def ticks(seconds: float, rate: float) -> Iterator[int]:
    """0, 1, 2, …, ``rate`` a second for so many seconds; late ones are made up for while there is time."""
    began = monotonic()
    for number in range(int(seconds * rate)):
        now = monotonic()
        if now > began + seconds:
            return
        if now < began + number / rate:
            sleep(began + number / rate - now)
        yield number

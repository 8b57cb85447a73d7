"""Commands run as a user runs them: in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.forking import CAN_FORK, Forked, Forker

pytest.importorskip("typer", reason="the extra cli is not installed")

COMMAND = [sys.executable, "-m", "linkbox.cli"]
TIMEOUT = 40


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: bytes
    err: str


class Running:
    """A command that runs in the background. What it says on stderr is read all the while."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked) -> None:
        self.process = process
        self._said: list[str] = []
        self._news = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self._said.append(line.decode())
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def wait_said(self, pattern: str) -> re.Match[str]:
        """Wait until it has said something on stderr."""
        with self._news:
            self._news.wait_for(lambda: self._over or re.search(pattern, "".join(self._said)), TIMEOUT)
            found = re.search(pattern, "".join(self._said))
        assert found, f"it never said {pattern!r}, but {self._said}"
        return found

    @property
    def address(self) -> str:
        """Where it listens, once it does."""
        return self.wait_said(r"listening at (\S+)")[1]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def type(self, text: bytes) -> None:
        """Write to its stdin (which must be a pipe)."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def write_all(self, text: bytes) -> None:
        """Write to its stdin, and close it."""
        stdin, self.process.stdin = self.process.stdin, None
        assert stdin is not None
        try:
            with stdin:
                stdin.write(text)
        except BrokenPipeError:
            pass  # it has not read all of it

    def read_line(self) -> bytes:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def done(self) -> Done:
        """Wait for its end."""
        assert self.process.stdout is not None
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            out = self.process.stdout.read()
            status = self.process.wait(TIMEOUT)
        finally:
            self.close()
        return Done(status, out, "".join(self._said))

    def close(self) -> None:
        """End it for sure."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


Spawn = Callable[..., "subprocess.Popen[bytes] | Forked"]


@pytest.fixture(scope="session")
def spawn() -> Iterator[Spawn]:
    """Start the process of a command: arguments, what its stdin is, its folder, the width of its terminal."""
    forker = Forker() if CAN_FORK else None

    def spawn(arguments: tuple[object, ...], stdin: int, cwd: Path, columns: int) -> Any:
        words = [*map(str, arguments)]
        env = os.environ | {"NO_COLOR": "1", "COLUMNS": str(columns)}
        if forker is not None:
            return forker.start(words, stdin, cwd, env)
        pipe = subprocess.PIPE
        return subprocess.Popen([*COMMAND, *words], stdin=stdin, stdout=pipe, stderr=pipe, cwd=cwd, env=env)

    yield spawn
    if forker is not None:
        forker.close()


@pytest.fixture
def start(tmp_path: Path, spawn: Spawn) -> Iterator[Callable[..., Running]]:
    """Start a command in the background, in an empty folder."""
    started = []

    def start(*arguments: object, stdin: int = subprocess.DEVNULL) -> Running:
        started.append(Running(spawn(arguments, stdin, tmp_path, 200)))
        return started[-1]

    yield start
    for command in started:
        command.close()


@pytest.fixture
def run(tmp_path: Path, spawn: Spawn) -> Callable[..., Done]:
    """Run a command to its end, in an empty folder."""

    def run(*arguments: object, stdin: bytes = b"", columns: int = 200) -> Done:
        command = Running(spawn(arguments, subprocess.PIPE, tmp_path, columns))
        writer = threading.Thread(target=command.write_all, args=(stdin,))
        writer.start()
        killer = threading.Timer(TIMEOUT, command.process.kill)
        killer.start()
        try:
            return command.done()
        finally:
            killer.cancel()
            writer.join()

    return run


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{sock.getsockname()[1]}"

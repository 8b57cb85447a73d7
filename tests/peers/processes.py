"""Programs of other projects as processes: found or skipped, started, awaited, ended by their number."""

from __future__ import annotations

import importlib.metadata
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from linkbox import EndOfData

PATIENCE = 20.0
"""Seconds a test waits for what takes milliseconds on a quiet machine."""
HERE = Path(__file__).parent
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
# Coverage is for the tests to earn, not for programs of others; these have no use for our modules either.
ENVIRONMENT = {
    key: value
    for key, value in (os.environ | {"PATH": PATH, "PYTHONUNBUFFERED": "1"}).items()
    if key != "PYTHONPATH" and not key.startswith("COVERAGE_")
}


def needs(*programs: str) -> pytest.MarkDecorator:
    """The test is skipped where one of these programs is not installed."""
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def needs_package(*packages: str) -> pytest.MarkDecorator:
    """The same for distributions of PyPI (the extra ``peers``)."""
    missing = []
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def until(condition: Callable[[], Any], what: str, program: Program | None = None) -> Any:
    """Wait for a condition that has no event; returns what it returned."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if program is not None and program.process.poll() is not None:
            pytest.fail(f"{program} ended with {program.process.returncode}:\n{program.text()}")
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE:g} s: {what}\n{program.text() if program else ''}")
        time.sleep(0.01)  # The condition has no event.
    return found


def free_port() -> int:
    """A port of loopback, below those that the kernel gives to outgoing connections."""
    for port in random.sample(range(12_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port among a hundred")


def is_listening(port: int) -> bool:
    """Does a process listen there? A connection as a test could cost a device its only slot."""
    lines = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    return any(re.search(rf":{port:04X} \S+ 0A ", line) for line in lines)


class Program:
    """A process, and what it has written so far."""

    def __init__(
        self, *command: object, cwd: Path | None = None, environment: dict[str, str] = ENVIRONMENT
    ) -> None:
        name, *arguments = map(str, command)
        self.command = [shutil.which(name, path=PATH) or name, *arguments]
        self.output = bytearray()
        self._is_ended = False
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment,
            start_new_session=True,  # what it starts is ended with it
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    def __str__(self) -> str:
        return Path(self.command[0]).name

    def _read(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 65_536):
            with self._changed:
                self.output += data
                self._changed.notify_all()

    def text(self) -> str:
        return self.output.decode(errors="replace")

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until this pattern is in the output."""
        with self._changed:
            found = self._changed.wait_for(lambda: re.search(pattern, self.text(), re.MULTILINE), PATIENCE)
        assert found, f"{self} did not write {pattern!r}, but:\n{self.text()}"
        return found

    def listens(self, port: int) -> None:
        until(lambda: is_listening(port), f"{self} listens at {port}", self)

    def write(self, data: bytes, end: bool = False) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()
        if end:
            self.process.stdin.close()

    def wait(self) -> bytes:
        """Wait until it ends; returns all it wrote."""
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return bytes(self.output)

    def kill(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it with all it has started, and wait until its ports are free."""
        if self._is_ended:
            return  # Its number may be that of another process now.
        self._is_ended = True
        for attempt in (how, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, attempt)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(5)
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._reader.join(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass  # what was written and not flushed has no reader any more


class Programs:
    """Those of one test."""

    def __init__(self) -> None:
        self._all: list[Program] = []

    def start(self, *command: object, **options: Any) -> Program:
        program = Program(*command, **options)
        self._all.append(program)
        return program

    def python(self, script: str | Path, *arguments: object) -> Program:
        """A script of the folder ``programs``, with this Python."""
        return self.start(sys.executable, HERE / "programs" / script, *arguments)

    def server(self, *command: object, port: int | None = None) -> tuple[Program, int]:
        """A program that listens at a port, which replaces the word PORT."""
        port = port or free_port()
        program = self.start(*(str(word).replace("PORT", str(port)) for word in command))
        program.listens(port)
        return program, port

    def simulator(self, script: str | Path, *arguments: object) -> tuple[Program, int]:
        """A script that writes ``listening at PORT`` when it does."""
        program = self.python(script, *arguments)
        return program, int(program.expect(r"^listening at (\d+)$")[1])

    def end(self, name: str | None = None) -> None:
        """End the programs of that name, or all."""
        for program in reversed(self._all):
            if name in (None, str(program)):
                program.kill()


@contextmanager
def programs() -> Iterator[Programs]:
    started = Programs()
    try:
        yield started
    finally:
        started.end()


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def everything(endpoint: Any) -> list[Any]:
    """All messages until the end of the conversation."""
    found = []
    while True:
        try:
            found.append(endpoint.data_get(PATIENCE))
        except EndOfData:
            return found

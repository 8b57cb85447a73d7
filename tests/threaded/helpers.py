"""What the tests of the threaded endpoints share: a relay that cuts, an ear for events, processes."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from linkbox import Event, EventKind

PATIENCE = 15.0
"""Seconds a test waits for what takes milliseconds when all is well."""
PROMPT = 4.5
"""Seconds for what is done at once, also on a busy machine: less than each default limit (5, 10, 20, …)."""


def wait_until(condition: Callable[[], Any], what: str = "", timeout: float = PATIENCE) -> Any:
    """Wait for a condition that nobody rings a bell for; returns what it returned."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what or condition}"
        time.sleep(0.003)  # The condition has no bell.
    return found


class Ear:
    """A callback that remembers its events and lets a test wait for them."""

    def __init__(self, then: Callable[[Event], Any] | None = None) -> None:
        self.events: list[Event] = []
        self.results: list[Any] = []
        self._changed = threading.Condition()
        self._then = then

    def __call__(self, event: Event) -> None:
        try:
            if self._then is not None:
                self.results.append(self._then(event))
        finally:
            with self._changed:
                self.events.append(event)
                self._changed.notify_all()

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]

    def wait(self, count: int = 1, kind: EventKind | None = None, timeout: float = PATIENCE) -> Event:
        """Wait for so many events (of a kind); returns the last of them."""

        def matching() -> list[Event]:
            return [event for event in self.events if kind is None or event.kind is kind]

        with self._changed:
            there = self._changed.wait_for(lambda: len(matching()) >= count, timeout)
            assert there, f"{len(matching())} of {count} events {kind} within {timeout} s: {self.kinds()}"
            return matching()[count - 1]


class Threads:
    """Threads whose exceptions and results reach the test. Joined at the end of the block."""

    def __init__(self, timeout: float = 40.0) -> None:
        self._threads: list[threading.Thread] = []
        self._timeout = timeout
        self.errors: list[BaseException] = []

    def start(self, target: Callable[..., Any], *args: Any) -> threading.Thread:
        def run() -> None:
            try:
                target(*args)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, name=f"test {getattr(target, '__name__', target)}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def join(self) -> None:
        deadline = time.monotonic() + self._timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        if self.errors:
            raise self.errors[0]
        assert not stuck, f"still running after {self._timeout} s: {stuck}"

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.join()


@contextmanager
def restarting(server: Any, pause: float = 0.02) -> Iterator[None]:
    """The server stops and starts again and again, at no particular moment; at the end it is stopped."""
    over = threading.Event()

    def restart() -> None:
        while not over.wait(pause):
            server.stop()
            server.start()

    with Threads() as restarter:
        restarter.start(restart)
        try:
            yield
        finally:
            over.set()
    server.stop()


class Relay:
    """Stands between a client and a server, and cuts: at once, or after so many bytes.

    ``cuts`` yields, for each connection in turn, (bytes to the server, bytes to the client) that are let
    through before it is cut; when it is exhausted, connections live. None in a pair: no bound there.
    """

    def __init__(self, target: str, cuts: Iterable[tuple[int | None, int | None]] = ()) -> None:
        host, _, port = target.partition("://")[2].rpartition(":")
        self._target = (host.strip("[]"), int(port))
        self._cuts = iter(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self._gates = {"up": threading.Event(), "down": threading.Event()}
        self.release()
        self._closed = False
        self._spawn(self._accept)

    def _spawn(self, target: Callable[..., Any], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="relay", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._closed:
                near.close()
                return
            try:
                far = socket.create_connection(self._target, 5)
            except OSError:
                reset(near)
                continue
            far.settimeout(None)
            pair = (near, far)
            with self._lock:
                self._pairs.append(pair)
                self.connections += 1
            up, down = next(self._cuts, (None, None))
            self._spawn(self._pump, pair, near, far, up, self._gates["up"])
            self._spawn(self._pump, pair, far, near, down, self._gates["down"])

    def _pump(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        sink: socket.socket,
        left: int | None,
        gate: threading.Event,
    ) -> None:
        try:
            while True:
                data = source.recv(65536 if left is None else max(1, min(left, 65536)))
                gate.wait()
                if pair not in self._pairs:
                    return  # What was held when it was cut is gone.
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                sink.sendall(data)
                if left == 0:
                    self._cut(pair)
                    return
        except OSError:
            gate.wait()  # A reset is held back like everything else.
            self._cut(pair)

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.remove(pair)
        for each in pair:
            reset(each)

    def cut(self) -> int:
        """Break all connections; returns how many there were."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._cut(pair)
        return len(pairs)

    def hold(self, *ways: str) -> None:
        """Let nothing through for now ("up" to the server, "down" to the client); connections stay."""
        for way in ways or self._gates:
            self._gates[way].clear()

    def release(self) -> None:
        """Let everything through again."""
        for gate in self._gates.values():
            gate.set()

    def close(self) -> None:
        """Cut everything and listen no more."""
        self._closed = True
        self.release()
        try:
            socket.create_connection(self._listener.getsockname(), 1).close()  # wakes accept()
        except OSError:
            pass
        self._threads[0].join(5)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        self.cut()

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reset(sock: socket.socket) -> None:
    """Close so that the other side sees a reset, and whoever reads here wakes up."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    sock.close()


def dial(address: str, timeout: float = 10.0) -> socket.socket:
    """A bare socket to a server's tcp:// or unix:// address."""
    if address.startswith("unix://"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(address.removeprefix("unix://"))
        return sock
    host, _, port = address.partition("://")[2].rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout)


def read_all(sock: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def for_ever(call: Callable[[], Any]) -> NoReturn:
    """Call again and again, until it raises."""
    while True:
        call()


def free_port() -> int:
    """A port that nobody listens at, and that no outgoing connection is given while nobody does."""
    while True:
        port = random.randrange(15_000, 32_000)  # Below what systems hand out by themselves.
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


@contextmanager
def only_own_garbage() -> Iterator[None]:
    """What other tests have left is not counted in here, nor what is left here in other tests."""
    gc.collect()
    gc.freeze()  # what is there now, so that each `gc.collect` in here is quick
    yield
    gc.unfreeze()
    gc.collect()


@contextmanager
def without_collector() -> Iterator[Callable[[], list[str]]]:
    """Yields a function: the classes of the objects of linkbox that only the garbage collector can free."""

    def left() -> list[str]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        classes = [type(each) for each in gc.garbage]
        gc.garbage.clear()
        names = [f"{each.__module__}.{each.__qualname__}" for each in classes]
        return sorted(name for name in names if name.startswith("linkbox."))

    with only_own_garbage():
        gc.disable()
        try:
            yield left
        finally:
            gc.set_debug(0)
            gc.enable()


def descriptors() -> set[str]:
    """The descriptors this process has open, each with what it stands for."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:
            pass  # The one the listing itself was made with.
    return found


class Process:
    """Another Python process that runs a script; its standard output is read line by line.

    ``is_measured``: does it count for the coverage, when that is measured?
    """

    def __init__(self, script: str, *args: str, is_measured: bool = True) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-u", "-c", script, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                name: value
                for name, value in os.environ.items()
                if is_measured or not name.startswith("COVERAGE_PROCESS")
            },
        )
        self.pid = self.popen.pid
        self._stderr: list[str] = []
        self._reader = threading.Thread(target=self._read_stderr, name="stderr", daemon=True)
        self._reader.start()

    def _read_stderr(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self._stderr.append(line)

    @property
    def stderr(self) -> str:
        return "".join(self._stderr)

    def line(self) -> str:
        """The next line it prints."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, f"the process ended: {self.popen.wait(10)}\n{self.finish_stderr()}"
        return line.rstrip("\n")

    def say(self, line: str) -> None:
        """Give it a line to read."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def signal(self, number: int) -> None:
        """Send a signal to this process alone. After SIGSTOP it has stopped."""
        os.kill(self.pid, number)
        while number == signal.SIGSTOP and Path(f"/proc/{self.pid}/stat").read_text().split()[2] != "T":
            time.sleep(0.001)  # the kernel tells nobody

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for its end; returns its exit status."""
        status = self.popen.wait(timeout)
        self.finish_stderr()
        return status

    def finish_stderr(self) -> str:
        self._reader.join(5)
        return self.stderr

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(10)
        self._reader.join(5)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass


def core_of(endpoint: Any) -> Any:
    """The core behind an endpoint, None while it is not started. For conditions that users cannot see."""
    return endpoint._operations.core

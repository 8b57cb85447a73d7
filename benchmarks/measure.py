"""One measurement: a server and a client, each in a process of its own, pinned to a core.

How to think about it. A *role* is a function of a peer module (``peers/zmq.py``), called with a `Stage`.
A server role says ``stage.ready(address)`` and serves; a client role finds ``stage.address``, works, and
returns what it measured. Whatever a role returns comes back to the parent. Where the server measures
(``waits_for="server"``), the client is only there to push. A role that sees a message missing, doubled or
damaged raises, and the whole benchmark fails.

Beside the result it takes the CPU time of both processes: from the moment a server is ready, and a client has
imported what it needs, until the result is there; without the time to make messages and to check them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

from benchmarks.checks import Tally

_processes = multiprocessing.get_context("spawn")
PATIENCE = 120.0
"""Seconds one measurement may take before it is called hung."""
ONE_CORE, TWO_CORES, ANY_CORE = "one core", "two cores", "any core"
WaitsFor = Literal["client", "server", "both"]
"""Whose result is the figure. "both": the client's, and the server must be content with what it has got."""


class Failed(Exception):
    """A role raised, or did not come to an end."""


@dataclass(frozen=True)
class Played:
    """What one measurement gave."""

    result: Any
    cpu: float
    """CPU seconds of both processes."""
    messages: int
    """Messages, or round trips."""


@dataclass
class Stage:
    """What a role works with."""

    params: dict[str, Any]
    address: Any = None
    _pipe: Connection | None = field(default=None, repr=False)
    _start: float = 0.0

    def ready(self, address: Any = None) -> None:
        """The server serves there; or the client begins."""
        assert self._pipe is not None
        self._start = time.process_time()
        self._pipe.send(("ready", (address, self._start)))

    def wait_for_end(self) -> None:
        """Serve on until the client is done."""
        assert self._pipe is not None
        self._pipe.recv()

    def cpu(self) -> float:
        """CPU seconds since it was ready, without what is not measured."""
        return time.process_time() - self._start - sum(Tally.beside)


def cpus_for(pin: str) -> tuple[set[int], set[int]]:
    """Cores for the server and the client. A machine with one core makes both the same."""
    there = sorted(os.sched_getaffinity(0))
    if pin == ANY_CORE:
        return set(there), set(there)
    return ({there[0]}, {there[0]}) if pin == ONE_CORE or len(there) == 1 else ({there[0]}, {there[1]})


def measure(
    module: str, role: str, params: dict[str, Any], pin: str = TWO_CORES, waits_for: WaitsFor = "client"
) -> Any:
    """Run ``<role>_server`` and ``<role>_client`` once; returns what the measuring side returned."""
    return play(module, role, params, pin, waits_for).result


def play(
    module: str, role: str, params: dict[str, Any], pin: str = TWO_CORES, waits_for: WaitsFor = "client"
) -> Played:
    """The same, with what it cost."""
    server_cpus, client_cpus = cpus_for(pin)
    server = _Child(module, f"{role}_server", Stage(params), server_cpus)
    try:
        address = server.expect_ready()
        client = _Child(module, f"{role}_client", Stage(params, address), client_cpus)
        try:
            client.expect_ready()
            if waits_for == "server":
                result, server_cpu, _ = server.expect_result()
                client.tell()
                _, client_cpu, made = client.expect_result()
            else:
                result, client_cpu, made = client.expect_result()
                server_cpu = server.cpu()
                server.tell()
                if waits_for == "both":
                    _, server_cpu, _ = server.expect_result()
            return Played(result, server_cpu + client_cpu, made)
        finally:
            client.end()
    finally:
        server.end()


def alone(module: str, role: str, params: dict[str, Any]) -> Any:
    """Run a role that needs nobody else, in a process of its own."""
    child = _Child(module, role, Stage(params), cpus_for(ONE_CORE)[0])
    try:
        child.expect_ready()
        return child.expect_result()[0]
    finally:
        child.end()


class _Child:
    def __init__(self, module: str, function: str, stage: Stage, cpus: set[int]) -> None:
        self._pipe, theirs = _processes.Pipe()
        self._name = f"{module}.{function}"
        stage._pipe = theirs
        self._process = _processes.Process(target=_run, args=(module, function, stage, cpus), daemon=True)
        self._process.start()
        self._start = 0.0
        theirs.close()

    def expect_ready(self) -> Any:
        address, self._start = self._expect("ready")
        return address

    def expect_result(self) -> tuple[Any, float, int]:
        """What the role returned, its CPU seconds, and the messages it made."""
        result, cpu, made = self._expect("result")
        return result, cpu, made

    def _expect(self, kind: str) -> Any:
        if not self._pipe.poll(PATIENCE):
            raise Failed(f"{self._name}: no {kind} within {PATIENCE:g} s")
        try:
            found, value = self._pipe.recv()
        except EOFError:
            raise Failed(f"{self._name}: the process ended without a word") from None
        if found != kind:
            raise Failed(f"{self._name}: {value}")
        return value

    def cpu(self) -> float:
        """CPU seconds since it was ready, of a process that works on, or has just ended."""
        pid = self._process.pid
        assert pid is not None
        clock = ~pid << 3 | 2  # clock_getcpuclockid() of Linux, which Python does not have
        return time.clock_gettime(clock) - self._start

    def tell(self) -> None:
        try:
            self._pipe.send("end")
        except OSError:
            pass  # It has ended by itself.

    def end(self) -> None:
        self._process.join(0.1)
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


def most_files() -> int:
    """How many descriptors a process may have here."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return most if most != resource.RLIM_INFINITY else 1 << 20


def raise_file_limit() -> None:
    """So many for this process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files(), most_files()))


def _run(module: str, function: str, stage: Stage, cpus: set[int]) -> None:
    os.sched_setaffinity(0, cpus)
    raise_file_limit()
    assert stage._pipe is not None
    try:
        role: Callable[[Stage], Any] = getattr(importlib.import_module(module), function)
        if not function.endswith("_server"):
            stage.ready()
        result = role(stage)
        stage._pipe.send(("result", (result, stage.cpu(), sum(Tally.made))))
    except BaseException:
        stage._pipe.send(("error", traceback.format_exc()))

"""One measurement: a server and a client, each in a process of its own, pinned to a core.

How to think about it. A *role* is a function of a peer module (``peers/zmq.py``), called with a `Stage`.
A server role says ``stage.ready(address)`` and serves; a client role finds ``stage.address``, works, and
returns what it measured. Whatever a role returns comes back to the parent. Where the server measures
(``waits_for="server"``), the client is only there to push. A role that sees a message missing, doubled or
damaged raises, and the whole benchmark fails.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

_processes = multiprocessing.get_context("spawn")
PATIENCE = 120.0
"""Seconds one measurement may take before it is called hung."""
ONE_CORE, TWO_CORES = "one core", "two cores"


class Failed(Exception):
    """A role raised, or did not come to an end."""


@dataclass
class Stage:
    """What a role works with."""

    params: dict[str, Any]
    address: Any = None
    _pipe: Connection | None = field(default=None, repr=False)

    def ready(self, address: Any) -> None:
        """The server serves there."""
        assert self._pipe is not None
        self._pipe.send(("ready", address))

    def wait_for_end(self) -> None:
        """Serve on until the client is done."""
        assert self._pipe is not None
        self._pipe.recv()


def cpus_for(pin: str) -> tuple[set[int], set[int]]:
    """Cores for the server and the client. A machine with one core makes both the same."""
    there = sorted(os.sched_getaffinity(0))
    return ({there[0]}, {there[0]}) if pin == ONE_CORE or len(there) == 1 else ({there[0]}, {there[1]})


def measure(
    module: str,
    role: str,
    params: dict[str, Any],
    pin: str = TWO_CORES,
    waits_for: Literal["client", "server"] = "client",
) -> Any:
    """Run ``<role>_server`` and ``<role>_client`` once; returns what the measuring side returned."""
    server_cpus, client_cpus = cpus_for(pin)
    server = _Child(module, f"{role}_server", Stage(params), server_cpus)
    try:
        address = server.expect("ready")
        client = _Child(module, f"{role}_client", Stage(params, address), client_cpus)
        try:
            if waits_for == "server":
                result = server.expect("result")
                client.tell()
                client.expect("result")
            else:
                result = client.expect("result")
                server.tell()
            return result
        finally:
            client.end()
    finally:
        server.end()


def alone(module: str, role: str, params: dict[str, Any]) -> Any:
    """Run a role that needs nobody else, in a process of its own."""
    child = _Child(module, role, Stage(params), cpus_for(ONE_CORE)[0])
    try:
        return child.expect("result")
    finally:
        child.end()


class _Child:
    def __init__(self, module: str, function: str, stage: Stage, cpus: set[int]) -> None:
        self._pipe, theirs = _processes.Pipe()
        self._name = f"{module}.{function}"
        stage._pipe = theirs
        self._process = _processes.Process(target=_run, args=(module, function, stage, cpus), daemon=True)
        self._process.start()
        theirs.close()

    def expect(self, kind: str) -> Any:
        if not self._pipe.poll(PATIENCE):
            raise Failed(f"{self._name}: no {kind} within {PATIENCE:g} s")
        try:
            found, value = self._pipe.recv()
        except EOFError:
            raise Failed(f"{self._name}: the process ended without a word") from None
        if found != kind:
            raise Failed(f"{self._name}: {value}")
        return value

    def tell(self) -> None:
        try:
            self._pipe.send("end")
        except OSError:
            pass  # It has ended by itself.

    def end(self) -> None:
        self._process.join(0.2)
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


def _run(module: str, function: str, stage: Stage, cpus: set[int]) -> None:
    os.sched_setaffinity(0, cpus)
    assert stage._pipe is not None
    try:
        role: Callable[[Stage], Any] = getattr(importlib.import_module(module), function)
        result = role(stage)
        stage._pipe.send(("result", result))
    except BaseException:
        stage._pipe.send(("error", traceback.format_exc()))

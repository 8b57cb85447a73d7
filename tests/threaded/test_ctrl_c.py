"""Signals whose handlers raise: calls do all of their work or none of it, and the endpoints work on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

import pytest

from linkbox import ClientAR, ClientP2P, LinkboxError, ServerAR, ServerP2P
from linkbox.threaded.interrupts import Deferred, _is_in_linkbox, interrupts, join, wait_for
from soak.interrupts import SOURCES, WAYS, campaign
from tests.threaded.helpers import Process, Threads, wait_until


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", WAYS)
def test_hundreds_of_interrupts(way: str, source: str) -> None:
    is_good, output = campaign(way, source, 300)
    assert is_good, output


@pytest.fixture
def sigusr1() -> Iterator[list[Any]]:
    """A handler of SIGUSR1, installed before any endpoint starts, calls the functions of this list."""
    calls: list[Any] = []

    def handler(number: int, frame: object) -> None:
        for call in calls:
            call()

    before = signal.signal(signal.SIGUSR1, handler)
    yield calls
    signal.signal(signal.SIGUSR1, before)


def hit() -> None:
    """Interrupt the main thread a moment later: when it waits, as far as one can tell."""
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()


class Struck(Exception):
    """What a handler raises."""


def strike() -> None:
    raise Struck


def test_an_exception_leaves_a_waiting_call(sigusr1: list[Any]) -> None:
    sigusr1.append(strike)
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        for _ in range(3):
            hit()
            with pytest.raises(Struck):
                client.data_get(30)
        server.wait_connected(timeout=10)
        server.send(b"x")
        assert client.data_get(10) == b"x"


def test_an_exception_leaves_a_call_that_waits_while_another_thread_leads(sigusr1: list[Any]) -> None:
    sigusr1.append(strike)
    with (
        ServerP2P("tcp://127.0.0.1:0") as server,
        ClientP2P(server.address) as client,
        Threads() as threads,
    ):
        got: list[bytes] = []
        threads.start(lambda: got.append(client.data_get(30)))
        wait_until(lambda: client._threads.transport.engine._leader is not None, "it leads")  # type: ignore[union-attr]
        hit()
        with pytest.raises(Struck):
            client.data_get(30)
        server.send(b"x")
        wait_until(lambda: got, "the other thread waits on")


def test_a_handler_that_returns_ends_no_call(sigusr1: list[Any]) -> None:
    seen: list[bool] = []
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        sigusr1.append(lambda: seen.append(client.data_empty()))
        sigusr1.append(lambda: client.send(b"x"))
        server.add_callback(lambda event: server.send(server.data_get()))
        hit()
        assert client.data_get(30) == b"x"
    assert seen == [True]


def test_stop_in_a_handler(sigusr1: list[Any]) -> None:
    """It works as from another thread, whatever the main thread does."""
    with ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data) as server:
        client = ClientAR(server.address, keep_alive=True).start()
        stopped: list[bool] = []
        sigusr1.append(lambda: stopped.append(client.stop(10)))
        client.ask(b"x")
        hit()
        try:
            while not stopped:
                client.ask(b"x")
        except LinkboxError:
            pass
        assert stopped == [True]
        client.stop()


def test_an_interrupt_reaches_code_of_the_application_at_once(sigusr1: list[Any]) -> None:
    sigusr1.append(strike)
    with ServerP2P("tcp://127.0.0.1:0"):
        hit()
        with pytest.raises(Struck):
            time.sleep(30)  # interrupted


@pytest.mark.parametrize(
    "wait", [lambda: wait_for(threading.Event()), lambda: wait_for(threading.Event(), 30)]
)
def test_an_interrupt_reaches_waits_outside_the_engine(sigusr1: list[Any], wait: Any) -> None:
    sigusr1.append(strike)
    with ServerP2P("tcp://127.0.0.1:0"):
        hit()
        with pytest.raises(Struck):
            wait()


def test_an_interrupt_reaches_a_join(sigusr1: list[Any]) -> None:
    sigusr1.append(strike)
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with ServerP2P("tcp://127.0.0.1:0"):
        hit()
        with pytest.raises(Struck):
            join(thread)
        join(thread, 0.01)
        assert thread.is_alive()
        over.set()
        join(thread, 30)
        assert not thread.is_alive()
    assert not wait_for(threading.Event(), 0.01)
    assert wait_for(over)


WRAPPED = """
import linkbox, signal
from linkbox.threaded.interrupts import Deferred

class Struck(Exception): pass

def handler(number, frame):
    raise Struck

signal.signal(signal.SIGUSR1, handler)
with linkbox.ServerP2P("tcp://127.0.0.1:0") as server, linkbox.ServerP2P("tcp://127.0.0.1:0"):
    found = signal.getsignal(signal.SIGUSR1)
    print(isinstance(found, Deferred), found == handler, hash(found) == hash(handler))
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    server.stop()
    print(signal.getsignal(signal.SIGUSR1) is found)
print(signal.getsignal(signal.SIGUSR1) is handler)
try:
    found(signal.SIGUSR1, None)  # A program may have kept it.
except Struck:
    print("struck")
"""


def test_handlers_are_wrapped_while_an_endpoint_runs() -> None:
    """In a process of its own: they stay wrapped while any endpoint of the process runs."""
    with Process(WRAPPED) as process:
        assert [process.line() for _ in range(5)] == ["True True True", "True", "True", "True", "struck"]
        assert process.wait() == 0, process.stderr


def test_a_handler_that_is_installed_later_is_wrapped_by_a_long_wait(sigusr1: list[Any]) -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        signal.signal(signal.SIGUSR1, lambda *_: strike())
        hit()
        with pytest.raises(Struck):
            server.data_get(30)
        assert isinstance(signal.getsignal(signal.SIGUSR1), Deferred)


def test_a_replaced_handler_is_not_called(sigusr1: list[Any]) -> None:
    sigusr1.append(strike)
    with ServerP2P("tcp://127.0.0.1:0") as server, server._threads.lock:  # linkbox is working
        signal.raise_signal(signal.SIGUSR1)
        assert list(interrupts.pending) == [signal.SIGUSR1]
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        wait_until(lambda: not interrupts.pending, "it is dropped")


@pytest.mark.patches
def test_an_interrupt_that_cannot_be_delivered_is_forced(
    sigusr1: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C must end a program also where the main thread hangs inside linkbox."""
    monkeypatch.setattr("linkbox.threaded.interrupts.PATIENCE", 0.1)
    sigusr1.append(strike)
    with ServerP2P("tcp://127.0.0.1:0") as server, server._threads.lock:
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(Struck):
            time.sleep(30)  # interrupted
    wait_until(lambda: not interrupts._courier.locked(), "the courier ends")


ASYNCIO = """
import asyncio, linkbox, os, signal, threading
server = linkbox.ServerP2P("tcp://127.0.0.1:0").start()

async def main():
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        print("cancelled")
        raise

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")

async def other():
    with linkbox.ServerP2P("tcp://127.0.0.1:0"):
        await main()

server.stop()
try:
    asyncio.run(other())
except KeyboardInterrupt:
    print("again")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_ctrl_c_cancels_the_main_task_of_asyncio() -> None:
    with Process(ASYNCIO) as process:
        assert [process.line() for _ in range(5)] == [
            "cancelled",
            "interrupted",
            "cancelled",
            "again",
            "True",
        ]
        assert process.wait() == 0, process.stderr


FORKED = """
import linkbox, os, signal, sys
server = linkbox.ServerP2P("tcp://127.0.0.1:0").start()
pid = os.fork()
if not pid:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        with linkbox.ServerP2P("tcp://127.0.0.1:0") as mine:
            os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), server.stop())
"""


def test_after_a_fork() -> None:
    with Process(FORKED) as process:
        assert process.line() == "7 True"
        assert process.wait() == 0, process.stderr


def test_the_constructor_of_a_named_tuple_is_not_interrupted_in_linkbox() -> None:
    """Its frame has a module of its own: Ctrl-C there left the sockets of a new endpoint open."""
    found: list[bool] = []

    class Route(NamedTuple):
        address: Any

    scope: dict[str, Any] = {"__name__": "linkbox.networks.example", "Route": Route}
    source = "def make():\n    Route(None)\n"
    exec(source, scope)

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and str(frame.f_globals.get("__name__")).startswith("namedtuple_"):
            found.append(_is_in_linkbox(frame))

    sys.setprofile(profile)
    try:
        scope["make"]()
    finally:
        sys.setprofile(None)
    assert found == [True]

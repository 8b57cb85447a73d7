"""stop() is final, also where a thread cannot wait: in finalizers, at the exit, in handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from linkbox import (
    ClientAR,
    ClientP2M,
    ClientP2P,
    Limits,
    ServerAR,
    ServerP2M,
    ServerP2P,
    StateError,
)
from tests.threaded.helpers import Process, Relay, Threads, core_of, free_port, wait_until

ANY = "tcp://127.0.0.1:0"


# -- final ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_started", [True, False])
@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.ask(b"x"),
        lambda client: client.ask_many([b"x"]),
        lambda client: client.send(b"x"),
    ],
)
def test_nothing_but_start_starts_a_stopped_client_of_requests(
    use: Callable[[Any], Any], is_started: bool
) -> None:
    with ServerAR(ANY, handler=lambda request: request.data) as server:
        client = ClientAR(server.address, keep_alive=True)
        if is_started:
            assert client.ask(b"1") == b"1"
        assert client.stop()
        with pytest.raises(StateError, match=r"was stopped: call start\(\)"):
            use(client)
        assert core_of(client) is None
        with client.start():
            assert client.ask(b"2") == b"2"


@pytest.mark.parametrize("blocking", [True, False])
def test_nothing_but_start_starts_a_stopped_pusher(blocking: bool) -> None:
    with ServerP2M(ANY) as server:
        client = ClientP2M(server.address, blocking=blocking)
        client.send(b"1")
        assert client.stop()
        for call in (lambda: client.send(b"x"), lambda: client.send_many([b"x"])):
            with pytest.raises(StateError, match="was stopped"):
                call()
        with client.start():
            client.send(b"2")
        assert [server.data_get(10), server.data_get(10)] == [b"1", b"2"]


@pytest.mark.patches
def test_a_stop_that_comes_while_the_endpoint_starts_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """stop() has nothing to stop yet, and returns; then start() must not leave a running endpoint behind."""
    opening, go_on = threading.Event(), threading.Event()
    client = ClientAR(("127.0.0.1", free_port()))
    operations = client._operations
    make_core = operations.make_core

    def slowly() -> Any:
        opening.set()
        operations.runtime.lock.release()
        try:
            assert go_on.wait(20)
        finally:
            operations.runtime.lock.acquire()
        return make_core()

    monkeypatch.setattr(operations, "make_core", slowly)
    with Threads() as threads:
        threads.start(client.start)
        assert opening.wait(20)
        assert client.stop() is True
        go_on.set()
    assert core_of(client) is None


def test_a_second_stop_says_what_the_first_said() -> None:
    limits = Limits(mailbox_messages=2, window_messages=1000)
    with ServerP2P(ANY, limits=limits) as server:
        client = ClientP2P(server.address).start()
        for _ in range(500):
            client.send(b"x")
        assert client.stop(0.05) is False
        assert client.stop() is False
        client.start()
        assert client.stop() is True
        assert client.stop() is True


# -- where the caller cannot wait ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda address: ClientP2P(address), lambda address: ServerP2P(ANY)])
def test_stop_in_a_finalizer_that_interrupts_a_change_of_the_endpoint(make: Callable[[str], Any]) -> None:
    """The collector may call a finalizer at any moment, also while this thread holds the lock."""
    with ServerP2P(ANY) as server:
        endpoint = make(server.address).start()
        with endpoint._threads.lock:
            assert endpoint.stop(5) is False  # another thread does it
            with pytest.raises(StateError, match="finalizer"):
                endpoint.wait_connected(timeout=0)
        wait_until(lambda: core_of(endpoint) is None, "it is stopped")
        assert endpoint.stop() is True


def test_stop_in_a_decoder_that_the_leader_calls() -> None:
    """The same without the lock: what decodes may make the collector run."""
    from dataclasses import dataclass

    from linkbox import Typed

    stopped: list[bool] = []

    @dataclass
    class Value:
        number: int

        def __post_init__(self) -> None:
            if endpoints:
                stopped.append(endpoints.pop().stop(5))

    endpoints: list[Any] = []
    with ServerP2P(ANY, Typed(Value)) as server, ClientP2P(server.address, Typed(Value)) as client:
        value = Value(1)
        endpoints.append(server)
        client.send(value)
        wait_until(lambda: stopped, "stop() returned")
        wait_until(lambda: core_of(server) is None, "it is stopped")
        assert stopped == [False]


INTERRUPTED_STOP = """
import linkbox, os, signal, sys, time
signal.signal(signal.SIGALRM, lambda *_: print(client.stop(60)))
client = linkbox.ClientP2P(sys.argv[1]).start()
print("connected")
sys.stdin.readline()
client.send(b"x")
signal.setitimer(signal.ITIMER_REAL, 0.05)
print("stop", client.stop(60))
"""


def test_stop_in_a_handler_that_interrupts_stop() -> None:
    """The first stop cannot go on before the handler returns: the second one must not wait for it."""
    with (
        ServerP2P(ANY) as server,
        Relay(server.address) as relay,
        Process(INTERRUPTED_STOP, relay.address) as process,
    ):
        assert process.line() == "connected"
        relay.hold()
        process.say("go on")
        threading.Timer(0.5, relay.release).start()
        assert process.line() == "True"
        assert process.line() == "stop True"
        assert process.wait(15) == 0


LATE_HANDLER = """
import linkbox, signal, sys
client = linkbox.ClientAR(sys.argv[1], keep_alive=True).start()
signal.signal(signal.SIGALRM, lambda *_: client.stop(60))  # not deferred: it was installed too late
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
try:
    while True:
        client.ask(b"x")
except linkbox.LinkboxError:
    pass
print("over", client.stop(60))
"""


def test_stop_in_a_handler_that_interrupts_ask_anywhere() -> None:
    with ServerAR(ANY, handler=lambda request: request.data) as server:
        for number in range(6):
            seconds = str(0.01 + number * 0.0037)
            with Process(LATE_HANDLER, server.address, seconds, is_measured=False) as process:
                assert process.line() == "over True"
                assert process.wait(15) == 0 and "Traceback" not in process.stderr


# -- the exit of the interpreter -----------------------------------------------------------------------

AT_EXIT = """
import atexit, linkbox, sys, threading
way, kind, address = sys.argv[1:]
make = {
    "push": lambda: linkbox.ClientP2M(address),
    "queue": lambda: linkbox.ClientP2M(address, blocking=False),
    "server": lambda: linkbox.ServerP2P("tcp://127.0.0.1:0"),
}

class Logger:
    def __init__(self):
        self.endpoint = make[kind]().start()

    def __del__(self):
        if way == "del":
            self.endpoint.stop(30)
        else:
            try:
                self.endpoint.send(b"bye")
            except linkbox.StateError as error:
                print(error)

    def stop(self):
        print(self.endpoint.stop(30))

logger = Logger()
if way == "atexit":
    atexit.register(logger.stop)
if kind != "server":
    logger.endpoint.send(b"hello")
"""


@pytest.mark.parametrize("kind", ["push", "queue", "server"])
@pytest.mark.parametrize("way", ["del", "send"])
def test_a_call_in_del_while_the_interpreter_exits_returns(way: str, kind: str) -> None:
    with ServerP2M(ANY) as server:
        for _ in range(3):
            with Process(AT_EXIT, way, kind, server.address, is_measured=False) as process:
                assert process.wait(15) == 0
                assert "Traceback" not in process.stderr and "Fatal" not in process.stderr
                if way == "send":
                    assert "the interpreter is exiting" in process.line()


@pytest.mark.parametrize("kind", ["push", "queue", "server"])
def test_stop_in_atexit_delivers_everything(kind: str) -> None:
    with ServerP2M(ANY) as server, Process(AT_EXIT, "atexit", kind, server.address) as process:
        assert process.line() == "True"
        assert process.wait(15) == 0 and "was not stopped" not in process.stderr
        if kind != "server":
            assert server.data_get(5) == b"hello"


LOST_LOCK = '''
import linkbox, sys, threading

class Looker:
    def __init__(self):
        self.endpoint = linkbox.ServerP2P("tcp://127.0.0.1:0").start()

    def __del__(self):
        endpoint, results = self.endpoint, []
        for call in (endpoint.peers, endpoint.statistics, endpoint.data_count, endpoint.data_empty,
                endpoint.data_get_all, lambda: endpoint.data_peek(1), lambda: endpoint.add_callback(print),
                lambda: endpoint.remove_callback(print), lambda: endpoint.data_get(0), endpoint.stop):
            try:
                results.append(type(call()).__name__)
            except linkbox.StateError as error:
                results.append("exiting" if "the interpreter is exiting" in str(error) else str(error))
        print(*results, flush=True)

HOLD = """
def hold(lock, held):
    lock.acquire()
    held.set()
    while True:
        pass
"""
apart = {}  # the thread must not keep the globals of this module alive
exec(HOLD, apart)
looker, held = Looker(), threading.Event()
lock = looker.endpoint._threads.lock if sys.argv[1] == "lost" else threading.Lock()
threading.Thread(target=apart["hold"], args=(lock, held), daemon=True).start()
held.wait()
'''


@pytest.mark.parametrize("lock", ["lost", "free"])
def test_calls_in_del_do_not_wait_for_a_lock_that_is_lost(lock: str) -> None:
    """A thread held the lock when the interpreter began to exit, and never runs again."""
    with Process(LOST_LOCK, lock, is_measured=False) as process:
        found = process.line().split()
        assert process.wait(15) == 0 and "Traceback" not in process.stderr
    if lock == "lost":
        assert found == ["exiting"] * 3 + ["bool"] + ["exiting"] * 5 + ["bool"]
    else:
        looks = ["tuple", "Statistics", "int", "bool", "list", "bytes"]
        expected = [*looks, "exiting", "NoneType", "exiting", "bool"]
        # A thread of the endpoint may have held the lock just then.
        assert found in (expected, ["exiting"] * 3 + ["bool"] + ["exiting"] * 5 + ["bool"])

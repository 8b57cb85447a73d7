"""Endpoints that are started, not stopped, and no longer referenced."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from linkbox import (
    ClientAR,
    ClientP2M,
    ClientP2P,
    EventKind,
    Lines,
    Linked,
    ServerAR,
    ServerP2M,
    ServerP2P,
    Stage,
)
from tests.threaded.helpers import descriptors, only_own_garbage, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
ANY = "tcp://127.0.0.1:0"


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    with only_own_garbage():
        yield


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("linkbox")]


def _use_p2m(address: str, framing: Any) -> None:
    ClientP2M(address, framing=framing).send(b"x")


def _use_lingering(address: str, framing: Any) -> None:
    ClientP2M(address, framing=framing, blocking=False, linger=30.0).send(b"x")


@pytest.mark.parametrize("framing", [Linked(), Lines()], ids=["linked", "lines"])
@pytest.mark.parametrize("use", [_use_p2m, _use_lingering])
def test_forgotten_clients_leave_nothing_and_lose_nothing(use: Callable[..., None], framing: Any) -> None:
    with ServerP2M(ANY, framing=framing) as server:
        threads, before = len(_threads()), len(descriptors())
        for _ in range(20):
            use(server.address, framing)
        assert [server.data_get(20) for _ in range(20)] == [b"x"] * 20
        wait_until(lambda: len(_threads()) == threads)
        wait_until(lambda: len(descriptors()) == before)


def test_a_forgotten_client_of_requests() -> None:
    with ServerAR(ANY, handler=lambda request: request.data) as server:
        threads, before = len(_threads()), len(descriptors())
        for _ in range(5):
            assert ClientAR(server.address, keep_alive=True).ask(b"x") == b"x"
        wait_until(lambda: len(_threads()) == threads)
        wait_until(lambda: len(descriptors()) == before)


def test_the_warning_names_the_endpoint() -> None:
    with ServerP2P(ANY) as server:
        client = ClientP2P(server.address).start()
        name = repr(client)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del client
        (warning,) = caught
        assert warning.category is ResourceWarning
        assert name in str(warning.message)
        assert "stop()" in str(warning.message)
        assert warning.filename == __file__
        caught.clear()


def test_a_client_without_a_conversation_does_not_warn() -> None:
    with (
        ServerP2M(ANY) as server,
        ServerAR(ANY, handler=lambda request: request.data) as answering,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        ClientP2M(server.address).send(b"x")
        assert ClientAR(answering.address).ask(b"x") == b"x"
        assert not [
            each for each in caught if "linkbox" in str(each.message) or "stop()" in str(each.message)
        ]


def test_servers_and_clients_with_callbacks_live_on() -> None:
    stopped = threading.Event()

    def echo(event: Any) -> None:
        event.endpoint.send(event.endpoint.data_get())

    def stop(event: Any) -> None:
        event.endpoint.stop()
        stopped.set()

    def serve() -> str:
        server = ServerP2P(ANY).start()
        server.add_callback(stop, EventKind.END)
        return server.address

    def connect(address: str) -> None:
        client = ClientP2P(address).start()
        client.add_callback(echo)
        client.add_callback(stop, EventKind.END)

    threads = len(_threads())
    with ServerP2P(ANY) as server:
        connect(server.address)
        gc.collect()
        server.wait_connected(timeout=20)
        server.send(b"x")
        assert server.data_get(20) == b"x"
        server.end()
        assert stopped.wait(20)
    stopped.clear()
    address = serve()
    gc.collect()
    with ClientP2P(address) as client:
        client.send(b"x").wait(timeout=20)
    assert stopped.wait(20)
    wait_until(lambda: len(_threads()) == threads)  # their own callbacks have stopped them


def test_a_client_whose_last_callback_is_removed_is_forgotten() -> None:
    def callback(event: object) -> None:
        """Never called."""

    def connect(address: str) -> Any:
        client = ClientP2P(address).start()
        client.add_callback(callback)
        return client._operations

    with ServerP2P(ANY) as server:
        threads = len(_threads())
        operations = connect(server.address)
        gc.collect()
        assert len(_threads()) > threads
        operations.remove_callback(callback)
        wait_until(lambda: len(_threads()) == threads)


def test_a_message_that_is_not_acknowledged_holds_its_client() -> None:
    def receive(address: str) -> Any:
        return ClientP2P(address).start().message_get(20, ack=False)

    with ServerP2P(ANY) as server:
        sent: list[Any] = []
        server.add_callback(lambda event: sent.append(event.endpoint.send(b"x")), EventKind.CONNECTED)
        message = receive(server.address)
        gc.collect()
        message.ack()
        wait_until(lambda: bool(sent))  # the callback has it later than the client may have the message
        assert sent[0].wait(Stage.TAKEN, 20) is Stage.TAKEN


def test_what_is_lost_with_a_forgotten_client_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with ServerP2P(ANY) as server, caplog.at_level(logging.WARNING):
        client = ClientP2P(server.address).start()
        server.wait_connected(timeout=20)
        server.send(b"x").wait(timeout=20)
        del client
        wait_until(lambda: "1 were not taken" in caplog.text)
        assert "nothing refers to it any more" in caplog.text


def test_stopped_and_never_started_endpoints_do_not_warn() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        server = ServerP2P(ANY).start()
        ClientP2P(server.address)
        client = ClientP2P(server.address).start()
        client.stop()
        server.stop()
        del client, server
        with pytest.raises(ValueError, match="nonsense"):
            ClientP2P("nonsense://")
        gc.collect()
    assert not [each for each in caught if each.category is ResourceWarning]


def test_a_finalizer_may_run_on_a_thread_that_holds_the_lock() -> None:
    threads = len(_threads())
    with ServerP2P(ANY) as server:
        client = ClientP2P(server.address).start()
        client.send(b"x")
        lock, limbo = client._threads.lock, threading._active_limbo_lock  # type: ignore[attr-defined]
        with lock, limbo:
            del client
            gc.collect()
        assert server.data_get(20) == b"x"
        wait_until(lambda: len(_threads()) == threads + 1)


def test_an_endpoint_in_a_garbage_cycle_is_stopped() -> None:
    class Owner:
        def __init__(self, address: str) -> None:
            self.client = ClientP2M(address, blocking=False, linger=30.0)
            self.itself = self

    threads = len(_threads())
    with ServerP2M(ANY) as server:
        Owner(server.address).client.send(b"x")
        gc.collect()
        assert server.data_get(20) == b"x"
        wait_until(lambda: len(_threads()) == threads + 1)


EXIT = """
import linkbox
server = linkbox.ServerP2M("tcp://127.0.0.1:0").start()
def main():
    linkbox.ClientP2M(server.address).send(b"x")
    other = linkbox.ServerP2P("tcp://127.0.0.1:0").start()
    linkbox.ClientP2P(other.address).start()
main()
kept = linkbox.ClientP2M(server.address, blocking=False, linger=30)
kept.send(b"x")
kept.flush()
"""


def test_an_interpreter_exits_although_endpoints_were_forgotten() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXIT], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr

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
from tests.threaded.helpers import descriptors, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
ANY = "tcp://127.0.0.1:0"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What other tests have left is not counted here, nor what is left here in other tests."""
    gc.collect()
    yield
    gc.collect()


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("linkbox")]


def _use_p2m(address: str, framing: Any) -> None:
    ClientP2M(address, framing=framing).send(b"x")


def _use_lingering(address: str, framing: Any) -> None:
    ClientP2M(address, framing=framing, blocking=False, linger=30.0).send(b"x")


def _use_lingering_with_callback(address: str, framing: Any) -> None:
    client = ClientP2M(address, framing=framing, blocking=False, linger=30.0)
    client.add_callback(lambda event: None, EventKind.ERROR)
    client.send(b"x")


@pytest.mark.parametrize("framing", [Linked(), Lines()], ids=["linked", "lines"])
@pytest.mark.parametrize("use", [_use_p2m, _use_lingering, _use_lingering_with_callback])
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


def test_a_forgotten_server_closes_its_address() -> None:
    threads = len(_threads())
    address = ServerP2P(ANY).start().address
    wait_until(lambda: len(_threads()) == threads)
    with ServerP2P(address):
        pass


@pytest.mark.parametrize(
    "make", [lambda address: ClientP2P(address).start(), lambda _: ServerP2M(ANY).start()]
)
def test_the_warning_names_the_endpoint(make: Callable[[str], Any]) -> None:
    with ServerP2P(ANY) as server:
        endpoint = make(server.address)
        name = repr(endpoint)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del endpoint
        (warning,) = caught
        assert warning.category is ResourceWarning
        assert name in str(warning.message)
        assert "stop()" in str(warning.message)
        assert warning.filename == __file__
        caught.clear()


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


def test_an_endpoint_with_callbacks_works_without_being_referenced() -> None:
    def serve() -> str:
        server = ServerP2P(ANY).start()
        server.add_callback(lambda event: event.endpoint.send(event.endpoint.data_get()) and None)
        server.add_callback(lambda event: event.endpoint.stop(), EventKind.END)
        return server.address

    threads = len(_threads())
    address = serve()
    gc.collect()
    with ClientP2P(address) as client:
        client.send(b"x")
        assert client.data_get(20) == b"x"
    wait_until(lambda: len(_threads()) == threads)  # its own callback has stopped it


def test_an_endpoint_whose_last_callback_is_removed_is_forgotten() -> None:
    def callback(event: object) -> None:
        """Never called."""

    def serve() -> Any:
        server = ServerP2P(ANY).start()
        server.add_callback(callback)
        return server.remove_callback

    threads = len(_threads())
    remove = serve()
    gc.collect()
    assert len(_threads()) > threads
    remove(callback)
    del remove
    wait_until(lambda: len(_threads()) == threads)


def test_a_server_with_a_handler_works_without_being_referenced() -> None:
    kept = []

    def handler(request: Any) -> bytes:
        return bytes(request.data)

    address = ServerAR(ANY, handler=handler).start().address
    gc.collect()
    with ClientAR(address) as client:
        assert client.ask(b"x", 20) == b"x"
    kept += [each for each in gc.get_objects() if isinstance(each, ServerAR) and each.address == address]
    assert kept[0].stop()


def test_a_view_a_request_and_a_message_hold_their_server() -> None:
    def view(address_of: list[str]) -> Any:
        server = ServerP2P(ANY).start()
        address_of.append(server.address)
        client = ClientP2P(server.address).start()
        server.wait_connected(timeout=20)
        return client, server.link(server.peers()[0])

    client, link = view([])
    gc.collect()
    client.send(b"x")
    assert link.data_get(20) == b"x"
    link.send(b"y")
    assert client.data_get(20) == b"y"
    assert client.stop()

    def request(asker: list[ClientAR[Any, Any]]) -> Any:
        server = ServerAR(ANY).start()
        asker.append(ClientAR(server.address))
        asker[0].send(b"question")
        return server.data_get(20)

    askers: list[ClientAR[Any, Any]] = []
    asked = request(askers)
    gc.collect()
    asked.answer(b"answer")
    assert askers[0].data_get(20) == b"answer"
    assert askers[0].stop()

    def message(clients: list[ClientP2P[Any, Any]]) -> Any:
        server = ServerP2P(ANY).start()
        clients.append(ClientP2P(server.address).start())
        receipts.append(clients[0].send(b"z"))
        return server.message_get(20, ack=False)

    clients: list[ClientP2P[Any, Any]] = []
    receipts: list[Any] = []
    taken = message(clients)
    gc.collect()
    taken.ack()
    assert receipts[0].wait(Stage.TAKEN, 20) is Stage.TAKEN
    assert clients[0].stop()


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


def test_callbacks_learn_what_became_of_messages_of_a_forgotten_client() -> None:
    seen = []
    with ServerP2M(ANY) as server:
        client = ClientP2M(server.address, blocking=False)
        client.add_callback(seen.append, EventKind.DELIVERED)
        client.send(b"x")
        del client
        assert server.data_get(20) == b"x"
        wait_until(lambda: bool(seen))
        assert isinstance(seen[0].endpoint, ClientP2M)


def test_what_is_lost_with_a_forgotten_endpoint_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = ServerP2M(ANY).start()
    with ClientP2M(server.address) as client, caplog.at_level(logging.WARNING):
        client.send(b"x")
        del server
        wait_until(lambda: "1 were not taken" in caplog.text)
        assert "nothing refers to it any more" in caplog.text


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

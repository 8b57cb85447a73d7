"""linkbox, threaded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from time import perf_counter
from typing import Any

from benchmarks import certificates
from benchmarks.checks import bodies, check, check_records, check_stream, records, time_each
from benchmarks.idle import Crowd, rss
from benchmarks.measure import Stage
from benchmarks.peers.bare import _paced, crowd
from linkbox import (
    Bytes,
    ClientAR,
    ClientP2M,
    ClientP2P,
    EndOfData,
    Json,
    Limits,
    ServerAR,
    ServerP2M,
    ServerP2P,
    tls,
)

ANY, ANY_TLS = "tcp://127.0.0.1:0", "tls://127.0.0.1:0"


def echo_server(stage: Stage) -> None:
    """P2P: each message is taken with ``data_get()`` and sent back."""
    _echo(stage, ServerP2P(ANY))


def _echo(stage: Stage, endpoint: ServerP2P[bytes, object]) -> None:
    with endpoint as server:
        stage.ready(server.address)
        try:
            while True:
                server.send(server.data_get())
        except EndOfData:
            return


def echo_client(stage: Stage) -> list[float]:
    return _there_and_back(stage, ClientP2P(stage.address))


def _there_and_back(stage: Stage, endpoint: ClientP2P[bytes, object]) -> list[float]:
    with endpoint as client:

        def ask(payload: bytes) -> bytes:
            client.send(payload)
            return client.data_get()

        return time_each(ask, bodies(stage.params["count"], stage.params["size"]))


def tls_echo_server(stage: Stage) -> None:
    _echo(stage, ServerP2P(ANY_TLS, ssl=tls.server_context(*certificates.own())))


def tls_echo_client(stage: Stage) -> list[float]:
    return _there_and_back(stage, ClientP2P(stage.address, ssl=tls.client_context(certificates.authority())))


def ask_server(stage: Stage) -> None:
    with ServerAR(ANY, handler=lambda request: request.data) as server:
        stage.ready(server.address)
        stage.wait_for_end()


def ask_client(stage: Stage) -> list[float]:
    with ClientAR(stage.address, keep_alive=True) as client:
        return time_each(client.ask, bodies(stage.params["count"], stage.params["size"]))


sparse_server = ask_server


def sparse_client(stage: Stage) -> list[float]:
    with ClientAR(stage.address, keep_alive=True) as client:
        client.ask(b"hello")
        return _paced(client.ask, stage)


connect_server = ask_server


def connect_client(stage: Stage) -> list[float]:
    """The default: each ask has a connection of its own."""
    with ClientAR(stage.address) as client:
        return time_each(client.ask, bodies(stage.params["count"], stage.params["size"]))


crowd_server = ask_server


def crowd_client(stage: Stage) -> float:
    """All threads ask through one client."""
    with ClientAR(stage.address, keep_alive=True) as client:
        return crowd(lambda: client.ask, stage)


def push_server(stage: Stage) -> float:
    """Taken one by one with ``data_get()``."""
    return _take_each(stage, ServerP2M(ANY))


def _take_each(stage: Stage, endpoint: ServerP2M[bytes]) -> float:
    count, size = stage.params["count"], stage.params["size"]
    with endpoint as server:
        stage.ready(server.address)
        get = server.data_get
        found = [get()]
        start = perf_counter()
        found += [get() for _ in range(count - 1)]
        elapsed = perf_counter() - start
    check(found, count, size)
    return count / elapsed


def push_client(stage: Stage) -> None:
    """``send_many``, which returns when the server has acknowledged all of it."""
    _push(stage, ClientP2M(stage.address))


def _push(stage: Stage, client: ClientP2M[bytes]) -> None:
    messages = bodies(stage.params["count"], stage.params["size"])
    assert client.send_many(messages) == len(messages)
    stage.wait_for_end()


push_each_server = push_server


def tls_push_server(stage: Stage) -> float:
    return _take_each(stage, ServerP2M(ANY_TLS, ssl=tls.server_context(*certificates.own())))


def tls_push_client(stage: Stage) -> None:
    _push(stage, ClientP2M(stage.address, ssl=tls.client_context(certificates.authority())))


def push_each_client(stage: Stage) -> None:
    """Non-blocking ``send``, a receipt for each."""
    messages = bodies(stage.params["count"], stage.params["size"])
    with ClientP2M(stage.address, blocking=False) as client:
        send = client.send
        for message in messages:
            send(message)
        client.flush(60)
        stage.wait_for_end()


def push_count_server(stage: Stage, store: str | None = None) -> float:
    """Taken with ``data_get_count``, a thousand messages' bytes at a time."""
    count, size = stage.params["count"], stage.params["size"]
    found = []
    with ServerP2M(ANY, store=store) as server:
        stage.ready(server.address)
        found.append(server.data_get_count(size))
        start = perf_counter()
        left = count - 1
        while left:
            some = min(1000, left)
            found.append(server.data_get_count(some * size))
            left -= some
        elapsed = perf_counter() - start
    check_stream(b"".join(found), count, size)
    return count / elapsed


push_count_client = push_client


def store_server(stage: Stage) -> None:
    """The same from spool to inbox, both on disk."""
    with tempfile.TemporaryDirectory() as folder:
        push_count_server(stage, f"{folder}/inbox.db")
    stage.wait_for_end()


def store_client(stage: Stage) -> float:
    """``send_many``, then ``flush``: until all of it is on the server's disk."""
    messages = bodies(stage.params["count"], stage.params["size"])
    with tempfile.TemporaryDirectory() as folder, _spooling(stage, folder) as client:
        start = perf_counter()
        assert client.send_many(messages) == len(messages)
        client.flush(60)
        return len(messages) / (perf_counter() - start)


def _spooling(stage: Stage, folder: str) -> ClientP2M[bytes]:
    return ClientP2M(stage.address, store=f"{folder}/spool.db")


def store_each_server(stage: Stage) -> None:
    """A fiftieth of the messages: each is a commit."""
    stage.params["count"] //= 50
    store_server(stage)


def store_each_client(stage: Stage) -> float:
    """``send``, which returns when the message is on disk, by one thread."""
    messages = bodies(stage.params["count"] // 50, stage.params["size"])
    with tempfile.TemporaryDirectory() as folder, _spooling(stage, folder) as client:
        start = perf_counter()
        for message in messages:
            client.send(message)
        client.flush(60)
        return len(messages) / (perf_counter() - start)


def json_server(stage: Stage) -> float:
    count = stage.params["count"]
    with ServerP2M(ANY, Json) as server:
        stage.ready(server.address)
        get = server.data_get
        found = [get()]
        start = perf_counter()
        found += [get() for _ in range(count - 1)]
        elapsed = perf_counter() - start
    check_records(found, count)
    return count / elapsed


def json_client(stage: Stage) -> None:
    client = ClientP2M(stage.address, Json)
    client.send_many(records(stage.params["count"]))
    stage.wait_for_end()


def large_server(stage: Stage) -> float:
    count, size = stage.params["count"], stage.params["size"]
    with ServerP2M(ANY, Bytes, limits=Limits(message=max(size, 1 << 24))) as server:
        stage.ready(server.address)
        start = 0.0
        for number in range(count):
            body = server.data_get()
            start = start or perf_counter()
            if len(body) != size or int.from_bytes(body[:8], "big") != number:
                raise AssertionError(f"message {number} is damaged")
        return (count - 1) / (perf_counter() - start)


def large_client(stage: Stage) -> None:
    size = stage.params["size"]
    client = ClientP2M(stage.address, limits=Limits(message=max(size, 1 << 24)))
    client.send_many(bodies(stage.params["count"], size))
    stage.wait_for_end()


def import_time(stage: Stage) -> float:
    """Seconds that a statement adds to a bare interpreter: the best of several of each."""
    with tempfile.TemporaryDirectory() as compiled:  # as installed: with its bytecode beside it
        environment = os.environ | {"PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def once(code: str) -> float:
            start = perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            return perf_counter() - start

        def best(code: str) -> float:
            return min(once(code) for _ in range(stage.params["count"]))

        statement = stage.params["statement"]
        once(statement)
        return best(statement) - best("pass")


def idle_server(stage: Stage) -> None:
    """Holds what comes, and echoes what the first client says; reports what it takes."""
    count = stage.params["count"]
    more = count + 100
    limits = Limits(connections=more, unwelcomed=more, sessions=more, heartbeat=300.0)
    with ServerP2P(ANY, max_peers=count + 10, limits=limits) as server:
        stage.ready(server.address)
        while True:
            message = server.message_get()
            if message.data == b"memory?":
                server.send(b"%d %d" % (rss(), len(server.peers())), to=message.peer)
            else:
                server.send(message.data, to=message.peer)


def idle_client(stage: Stage) -> dict[str, Any]:
    """Opens idle links, and plays ping-pong before and beside them."""
    size, asks, count = stage.params["size"], stage.params["asks"], stage.params["count"]
    with ClientP2P(stage.address) as client:

        def ask(payload: bytes) -> bytes:
            client.send(payload)
            return client.data_get(60)

        alone = time_each(ask, bodies(asks, size))
        before, _ = _memory(ask)
        with Crowd(stage.address, count, "p2p") as crowd_of_links:
            while (found := _memory(ask))[1] < count + 1:
                crowd_of_links.check()
                time.sleep(0.05)  # the crowd is still coming in
            beside = time_each(ask, bodies(asks, size))
        return {"bytes": (found[0] - before) / count, "alone": alone, "beside": beside}


def _memory(ask: Any) -> tuple[int, int]:
    memory, peers = bytes(ask(b"memory?")).split()
    return int(memory), int(peers)


memory_server = idle_server


def memory_client(stage: Stage) -> float:
    """Bytes for each idle connection."""
    stage.params["asks"] = 100
    return float(idle_client(stage)["bytes"])

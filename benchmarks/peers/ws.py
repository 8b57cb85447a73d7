"""websockets: its threaded server and client, without compression."""

from __future__ import annotations

import queue
import threading
from time import perf_counter

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from benchmarks.checks import bodies, check, time_each
from benchmarks.measure import Stage


def echo_server(stage: Stage) -> None:
    def handle(link: ServerConnection) -> None:
        try:
            while True:
                link.send(link.recv())
        except ConnectionClosed:
            return

    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        stage.ready(server.socket.getsockname())
        server.serve_forever()


def echo_client(stage: Stage) -> list[float]:
    host, port = stage.address
    with connect(f"ws://{host}:{port}", compression=None, max_size=None) as link:

        def ask(payload: bytes) -> bytes:
            link.send(payload)
            return link.recv(decode=False)

        return time_each(ask, bodies(stage.params["count"], stage.params["size"]))


def push_server(stage: Stage) -> float:
    count, size = stage.params["count"], stage.params["size"]
    rates: queue.SimpleQueue[float] = queue.SimpleQueue()

    def handle(link: ServerConnection) -> None:
        found = [link.recv(decode=False)]
        start = perf_counter()
        found += [link.recv(decode=False) for _ in range(count - 1)]
        elapsed = perf_counter() - start
        check(found, count, size)
        rates.put(count / elapsed)

    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        stage.ready(server.socket.getsockname())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return rates.get()


def push_client(stage: Stage) -> None:
    host, port = stage.address
    with connect(f"ws://{host}:{port}", compression=None, max_size=None) as link:
        for body in bodies(stage.params["count"], stage.params["size"]):
            link.send(body)
        stage.wait_for_end()

"""pynng: Req0/Rep0, Push0/Pull0; blocking calls, its largest buffers."""

from __future__ import annotations

from time import perf_counter

import pynng

from benchmarks.checks import bodies, check, time_each
from benchmarks.measure import Stage

BUFFERED = 8192


def ask_server(stage: Stage) -> None:
    with pynng.Rep0(listen="tcp://127.0.0.1:0") as socket:
        stage.ready(str(socket.listeners[0].local_address))
        while True:
            socket.send(socket.recv())


def ask_client(stage: Stage) -> list[float]:
    with pynng.Req0(dial=f"tcp://{stage.address.removeprefix('tcp://')}") as socket:

        def ask(payload: bytes) -> bytes:
            socket.send(payload)
            return bytes(socket.recv())

        return time_each(ask, bodies(stage.params["count"], stage.params["size"]))


def push_server(stage: Stage) -> float:
    count, size = stage.params["count"], stage.params["size"]
    with pynng.Pull0(listen="tcp://127.0.0.1:0", recv_buffer_size=BUFFERED) as socket:
        stage.ready(str(socket.listeners[0].local_address))
        found = [socket.recv()]
        start = perf_counter()
        found += [socket.recv() for _ in range(count - 1)]
        elapsed = perf_counter() - start
    check(found, count, size)
    return count / elapsed


def push_client(stage: Stage) -> None:
    address = f"tcp://{stage.address.removeprefix('tcp://')}"
    with pynng.Push0(dial=address, send_buffer_size=BUFFERED) as socket:
        for body in bodies(stage.params["count"], stage.params["size"]):
            socket.send(body)
        stage.wait_for_end()

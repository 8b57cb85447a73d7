"""Blocking sockets and nothing else: the limit."""

from __future__ import annotations

import socket
import struct
import threading
import time
from time import perf_counter
from typing import Any

from benchmarks.checks import bodies, check, time_each
from benchmarks.measure import Stage

_length = struct.Struct("!I")


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


def _connect(address: Any) -> socket.socket:
    sock = socket.create_connection(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _receive(sock: socket.socket, size: int) -> bytes:
    """Exactly that many bytes, as an object of its own."""
    data = sock.recv(size)
    if len(data) == size or not data:
        return data
    whole = bytearray(size)
    view = memoryview(whole)
    view[: len(data)] = data
    at = len(data)
    while at < size:
        got = sock.recv_into(view[at:])
        if not got:
            return b""
        at += got
    return bytes(whole)


def echo_server(stage: Stage) -> None:
    listener = _listen()
    stage.ready(listener.getsockname())
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    size = stage.params["size"]
    while data := _receive(sock, size):
        sock.sendall(data)


def echo_client(stage: Stage) -> list[float]:
    sock = _connect(stage.address)
    size = stage.params["size"]

    def ask(payload: bytes) -> bytes:
        sock.sendall(payload)
        return _receive(sock, size)

    return time_each(ask, bodies(stage.params["count"], size))


def sparse_client(stage: Stage) -> list[float]:
    """The same with a pause before each."""
    sock = _connect(stage.address)
    size = stage.params["size"]

    def ask(payload: bytes) -> bytes:
        sock.sendall(payload)
        return _receive(sock, size)

    return _paced(ask, stage)


def _paced(ask: Any, stage: Stage) -> list[float]:
    times = []
    for payload in bodies(stage.params["count"], stage.params["size"]):
        time.sleep(stage.params["pause"])  # the pace is what is measured
        times += time_each(ask, [payload], 0)
    return times


sparse_server = echo_server


def connect_server(stage: Stage) -> None:
    """Connect, ask, answer, close, again and again."""
    listener = _listen()
    stage.ready(listener.getsockname())
    size = stage.params["size"]
    while True:
        sock, _ = listener.accept()
        sock.sendall(_receive(sock, size))
        sock.close()


def connect_client(stage: Stage) -> list[float]:
    size = stage.params["size"]

    def ask(payload: bytes) -> bytes:
        with socket.create_connection(stage.address) as sock:
            sock.sendall(payload)
            return _receive(sock, size)

    return time_each(ask, bodies(stage.params["count"], size))


def push_server(stage: Stage) -> float:
    """Messages of one known size, many in one write: what the wire and Python's slices can do."""
    listener = _listen()
    stage.ready(listener.getsockname())
    sock, _ = listener.accept()
    count, size = stage.params["count"], stage.params["size"]
    found: list[bytes] = []
    left = b""
    start = 0.0
    while len(found) < count:
        data = left + sock.recv(256 * 1024)
        start = start or perf_counter()
        whole = len(data) // size * size
        found += [data[at : at + size] for at in range(0, whole, size)]
        left = data[whole:]
    elapsed = perf_counter() - start
    check(found, count, size)
    return count / elapsed


def push_client(stage: Stage) -> None:
    sock = _connect(stage.address)
    messages = bodies(stage.params["count"], stage.params["size"])
    for at in range(0, len(messages), 512):
        sock.sendall(b"".join(messages[at : at + 512]))
    stage.wait_for_end()


def large_server(stage: Stage) -> float:
    """Large messages behind a length, each made a ``bytes``."""
    listener = _listen()
    stage.ready(listener.getsockname())
    sock, _ = listener.accept()
    count, size = stage.params["count"], stage.params["size"]
    start = 0.0
    for number in range(count):
        length = _length.unpack(_receive(sock, 4))[0]
        start = start or perf_counter()
        body = _receive(sock, length)
        if len(body) != size or int.from_bytes(body[:8], "big") != number:
            raise AssertionError(f"message {number} is damaged")
    return count / (perf_counter() - start)


def large_client(stage: Stage) -> None:
    sock = _connect(stage.address)
    for body in bodies(stage.params["count"], stage.params["size"]):
        sock.sendmsg([_length.pack(len(body))])
        sock.sendall(body)
    stage.wait_for_end()


def crowd_server(stage: Stage) -> None:
    """One thread a client."""
    listener = _listen()
    stage.ready(listener.getsockname())
    size = stage.params["size"]

    def serve(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := _receive(sock, size):
            sock.sendall(data)

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


def crowd_client(stage: Stage) -> float:
    size = stage.params["size"]

    def asker() -> Any:
        sock = _connect(stage.address)

        def ask(payload: bytes) -> bytes:
            sock.sendall(payload)
            return _receive(sock, size)

        return ask

    return crowd(asker, stage)


def crowd(asker: Any, stage: Stage) -> float:
    """So many threads ask as fast as they can, each with an asker of its own; returns asks per second."""
    threads, count, size = stage.params["threads"], stage.params["count"], stage.params["size"]
    failures: list[BaseException] = []
    answered: list[int] = []
    gate = threading.Barrier(threads + 1)

    def work() -> None:
        try:
            ask = asker()
            ask(bytes(size))
            gate.wait(60)
            answered.append(len(time_each(ask, bodies(count, size), 0)))
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    gate.wait(60)
    start = perf_counter()
    for worker in workers:
        worker.join(100)
    elapsed = perf_counter() - start
    if failures or any(worker.is_alive() for worker in workers):
        raise AssertionError(f"not all asks were answered: {failures[:1]}")
    return sum(answered) / elapsed

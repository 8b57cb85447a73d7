"""pyzmq: REQ/REP, ROUTER/DEALER, PUSH/PULL; blocking calls, large high-water marks, no copies asked for."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Any

import zmq

from benchmarks.checks import bodies, check, check_records, records, time_each
from benchmarks.measure import Stage
from benchmarks.peers.bare import _paced, crowd

MARK = 1_000_000


def _bind(kind: int) -> tuple[zmq.Socket[bytes], str]:
    socket = zmq.Context.instance().socket(kind)
    socket.set_hwm(MARK)
    return socket, f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"


def _connect(kind: int, address: str) -> zmq.Socket[bytes]:
    socket = zmq.Context.instance().socket(kind)
    socket.set_hwm(MARK)
    socket.connect(address)
    return socket


def ask_server(stage: Stage) -> None:
    socket, address = _bind(zmq.REP)
    stage.ready(address)
    while True:
        socket.send(socket.recv())


def _asker(socket: zmq.Socket[bytes]) -> Any:
    def ask(payload: bytes) -> bytes:
        socket.send(payload)
        return socket.recv()

    return ask


def ask_client(stage: Stage) -> list[float]:
    ask = _asker(_connect(zmq.REQ, stage.address))
    return time_each(ask, bodies(stage.params["count"], stage.params["size"]))


echo_server, echo_client = ask_server, ask_client
sparse_server = ask_server


def sparse_client(stage: Stage) -> list[float]:
    return _paced(_asker(_connect(zmq.REQ, stage.address)), stage)


def crowd_server(stage: Stage) -> None:
    """ROUTER in front, eight workers behind: the pattern of the guide."""
    front, address = _bind(zmq.ROUTER)
    back = zmq.Context.instance().socket(zmq.DEALER)
    back.bind("inproc://workers")
    stage.ready(address)

    def work() -> None:
        socket = zmq.Context.instance().socket(zmq.REP)
        socket.connect("inproc://workers")
        while True:
            socket.send(socket.recv())

    for _ in range(8):
        threading.Thread(target=work, daemon=True).start()
    zmq.proxy(front, back)


def crowd_client(stage: Stage) -> float:
    """A socket a thread: they may not be shared."""
    return crowd(lambda: _asker(_connect(zmq.REQ, stage.address)), stage)


def push_server(stage: Stage) -> float:
    """Nothing is acknowledged: that is what PUSH/PULL is."""
    socket, address = _bind(zmq.PULL)
    stage.ready(address)
    count, size = stage.params["count"], stage.params["size"]
    receive = socket.recv
    found = [receive()]
    start = perf_counter()
    found += [receive() for _ in range(count - 1)]
    elapsed = perf_counter() - start
    check(found, count, size)
    return count / elapsed


def push_client(stage: Stage) -> None:
    socket = _connect(zmq.PUSH, stage.address)
    send = socket.send
    for body in bodies(stage.params["count"], stage.params["size"]):
        send(body)
    stage.wait_for_end()


def json_server(stage: Stage) -> float:
    socket, address = _bind(zmq.PULL)
    stage.ready(address)
    count = stage.params["count"]
    found = [socket.recv_json()]
    start = perf_counter()
    found += [socket.recv_json() for _ in range(count - 1)]
    elapsed = perf_counter() - start
    check_records(found, count)
    return count / elapsed


def json_client(stage: Stage) -> None:
    socket = _connect(zmq.PUSH, stage.address)
    for record in records(stage.params["count"]):
        socket.send_json(record)
    stage.wait_for_end()


def large_server(stage: Stage) -> float:
    socket, address = _bind(zmq.PULL)
    stage.ready(address)
    count, size = stage.params["count"], stage.params["size"]
    start = 0.0
    for number in range(count):
        body = socket.recv()
        start = start or perf_counter()
        if len(body) != size or int.from_bytes(body[:8], "big") != number:
            raise AssertionError(f"message {number} is damaged")
    return (count - 1) / (perf_counter() - start)


def large_client(stage: Stage) -> None:
    socket = _connect(zmq.PUSH, stage.address)
    for body in bodies(stage.params["count"], stage.params["size"]):
        socket.send(body, copy=False)
    stage.wait_for_end()

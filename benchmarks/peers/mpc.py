"""multiprocessing.connection, from the standard library: length and bytes, no lock, no acknowledgement."""

from __future__ import annotations

from multiprocessing.connection import Client, Listener
from time import perf_counter

from benchmarks.checks import bodies, check, time_each
from benchmarks.measure import Stage


def echo_server(stage: Stage) -> None:
    with Listener(("127.0.0.1", 0)) as listener:
        stage.ready(listener.address)
        with listener.accept() as link:
            try:
                while True:
                    link.send_bytes(link.recv_bytes())
            except EOFError:
                return


def echo_client(stage: Stage) -> list[float]:
    with Client(stage.address) as link:

        def ask(payload: bytes) -> bytes:
            link.send_bytes(payload)
            return link.recv_bytes()

        return time_each(ask, bodies(stage.params["count"], stage.params["size"]))


def push_server(stage: Stage) -> float:
    count, size = stage.params["count"], stage.params["size"]
    with Listener(("127.0.0.1", 0)) as listener:
        stage.ready(listener.address)
        with listener.accept() as link:
            receive = link.recv_bytes
            found = [receive()]
            start = perf_counter()
            found += [receive() for _ in range(count - 1)]
            elapsed = perf_counter() - start
    check(found, count, size)
    return count / elapsed


def push_client(stage: Stage) -> None:
    with Client(stage.address) as link:
        for body in bodies(stage.params["count"], stage.params["size"]):
            link.send_bytes(body)
        stage.wait_for_end()


def large_server(stage: Stage) -> float:
    count, size = stage.params["count"], stage.params["size"]
    with Listener(("127.0.0.1", 0)) as listener:
        stage.ready(listener.address)
        with listener.accept() as link:
            start = 0.0
            for number in range(count):
                body = link.recv_bytes()
                start = start or perf_counter()
                if len(body) != size or int.from_bytes(body[:8], "big") != number:
                    raise AssertionError(f"message {number} is damaged")
            return (count - 1) / (perf_counter() - start)


large_client = push_client

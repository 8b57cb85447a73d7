"""linkbox over NATS, threaded; and servers in several processes that share a name."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter, thread_time

from benchmarks import broker
from benchmarks.checks import bodies
from benchmarks.measure import Stage
from benchmarks.peers import ours
from linkbox import ClientAR, ClientP2M, Request, ServerAR, ServerP2M, ServerP2P

BURN = 0.01
"""CPU seconds that the handler of a shared name takes."""


def echo_server(stage: Stage) -> None:
    ours._echo(stage, ServerP2P(broker.address()))


echo_client = ours.echo_client


def ask_server(stage: Stage) -> None:
    with ServerAR(broker.address(), handler=lambda request: request.data) as server:
        stage.ready(server.address)
        stage.wait_for_end()


ask_client = ours.ask_client


def kept_server(stage: Stage) -> None:
    ours._take_each(stage, ServerP2M(broker.address()))
    stage.wait_for_end()


def kept_client(stage: Stage) -> float:
    """``send_many``, until all of it is in the stream, on the disk of the broker."""
    messages = bodies(stage.params["count"], stage.params["size"])
    with ClientP2M(stage.address) as client:
        client.start()
        start = perf_counter()
        assert client.send_many(messages) == len(messages)
        return len(messages) / (perf_counter() - start)


def share_server(stage: Stage, count: int = 4) -> None:
    """So many processes serve a name."""
    address = broker.address()
    command = [sys.executable, "-m", __name__, address]
    servers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == b"serves\n"
        stage.ready(address)
        stage.wait_for_end()
    finally:
        for server in servers:
            server.communicate()  # It ends when its input does.


def one_server(stage: Stage) -> None:
    share_server(stage, 1)


def share_client(stage: Stage) -> float:
    """All threads ask through one client."""
    with ClientAR(stage.address, keep_alive=True) as client:
        return ours.crowd(lambda: client.ask, stage)


one_client = share_client


def burn(request: Request[bytes]) -> bytes:
    """Work that one core can do once at a time."""
    end = thread_time() + BURN
    while thread_time() < end:
        pass
    return request.data


if __name__ == "__main__":
    with ServerAR(sys.argv[1], handler=burn):
        print("serves", flush=True)
        sys.stdin.read()

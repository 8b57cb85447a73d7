"""Two processes, both directions at once, polling on both ends and with callbacks on both ends."""

from __future__ import annotations

import threading
import time

import pytest

from linkbox import ClientP2P, Event, Json, Limits, ServerP2P
from tests.threaded.helpers import PATIENCE, Process, Threads, core_of, wait_until

COUNT = 100_000

CLIENT = """
import sys, threading, linkbox
address, count, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
got = []
done = threading.Event()
def take(event):
    got.append(event.endpoint.data_get())
    if len(got) == count:
        done.set()
client = linkbox.ClientP2P(address, linkbox.Json)
if way == "callbacks":
    client.add_callback(take)
client.start()
def send():
    for number in range(count):
        client.send([number, "client"])
sender = threading.Thread(target=send)
sender.start()
if way == "callbacks":
    assert done.wait(60), len(got)
else:
    got.extend(client.data_get(60) for _ in range(count))
sender.join()
print("in order" if got == [[number, "server"] for number in range(count)] else got[:3])
print(client.data_empty())
client.end()
print(client.stop(30))
"""


@pytest.mark.parametrize("way", ["polling", "callbacks"])
def test_a_hundred_thousand_each_way_at_the_same_time(way: str) -> None:
    got: list[object] = []
    with ServerP2P("tcp://127.0.0.1:0", Json) as server:
        if way == "callbacks":
            server.add_callback(lambda event: got.append(event.endpoint.data_get()))
        with Process(CLIENT, server.address, str(COUNT), way) as client, Threads(80) as threads:
            server.wait_connected(timeout=20)
            peer = server.peers()[0]
            threads.start(lambda: [server.send([number, "server"], to=peer) for number in range(COUNT)])
            if way == "polling":
                got.extend(server.data_get(60) for _ in range(COUNT))
            else:
                wait_until(lambda: len(got) == COUNT, "all taken", 60)
            assert got == [[number, "client"] for number in range(COUNT)]
            assert client.line() == "in order"
            assert client.line() == "True"
            assert client.line() == "True"
            assert client.wait() == 0
        assert server.data_empty()


REFUSING = """
import resource, sys, linkbox
server = linkbox.ServerP2P("tcp://127.0.0.1:0", limits=linkbox.Limits(message=1 << 20)).start()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(server.address)
sys.stdin.readline()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print(server.statistics().messages_received)
server.stop()
"""


def test_a_hundred_megabytes_are_refused_before_memory_is_spent() -> None:
    """A client that does not care for the limit it was told: its message is counted, not kept."""
    with Process(REFUSING) as server:
        address = server.line()
        client = ClientP2P(address, limits=Limits(message=100 << 20, window_bytes=100 << 20)).start()
        from linkbox import TooLarge

        with pytest.raises(TooLarge):
            client.send(bytes(100 << 20))
        core_of(client).conversation.sending.peer_message = 1 << 40  # As one that does not care.
        receipt = client.send(bytes(100 << 20))
        with pytest.raises(TooLarge):
            receipt.wait(timeout=30)
        assert client.send(b"small").wait(timeout=5)
        server.say("how much?")
        assert int(server.line()) < 20_000, "KiB more than before"
        assert server.line() == "1"
        client.stop()


def test_round_trips_between_threads_are_not_slow() -> None:
    """A smoke alarm, not a benchmark: nothing makes each round trip wait, as Nagle's algorithm would."""
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:

        def echo(event: Event) -> None:
            for data in server.data_get_all():
                server.send(data)

        server.add_callback(echo)
        times = []
        for number in range(2000):
            began = time.monotonic()
            client.send(b"%d" % number)
            assert client.data_get(PATIENCE) == b"%d" % number
            times.append(time.monotonic() - began)
        assert sorted(times)[len(times) // 10] < 0.005, "on a busy machine, too, a tenth is not interrupted"


def test_sparse_traffic_arrives_at_once() -> None:
    """Nobody polls for a while between two messages: the background takes over without delay."""
    arrived = threading.Event()
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        server.add_callback(lambda event: arrived.set())
        times = []
        for _ in range(50):
            arrived.clear()
            began = time.monotonic()
            client.send(b"x")
            assert arrived.wait(5)
            times.append(time.monotonic() - began)
            threading.Event().wait(0.006)  # Longer than the engine's grace: that is the point.
        assert sorted(times)[len(times) // 2] < 0.5

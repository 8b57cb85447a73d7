"""linkbox alone, as there is more of something."""

from __future__ import annotations

import tempfile
from time import perf_counter

from benchmarks.checks import bodies
from benchmarks.idle import open_links
from benchmarks.measure import Stage
from linkbox import ClientP2M, Limits, Message, ServerP2M
from linkbox.core.wire import frames

ANY = "tcp://127.0.0.1:0"


def peers_server(stage: Stage) -> float:
    """All peers push into one mailbox; each one's messages come in order."""
    peers, count, size = stage.params["peers"], stage.params["count"], stage.params["size"]
    limits = Limits(unwelcomed=2000, unwelcomed_per_ip=2000)
    expected = {}
    with ServerP2M(ANY, limits=limits) as server:
        stage.ready(server.address)
        found: list[Message[bytes]] = []
        while len(expected) < peers:  # each says hello first: connecting is not what is measured
            message = server.message_get()
            if message.data == b"hello":
                expected[message.peer.id] = 0
            else:
                found.append(message)  # of one that is quicker than the others
        left = peers * count - len(found)
        start = perf_counter()
        found += [server.message_get() for _ in range(left)]
        elapsed = perf_counter() - start
    for message in found:
        number = expected[message.peer.id]
        assert len(message.data) == size
        assert int.from_bytes(message.data[:8], "big") == number
        expected[message.peer.id] = number + 1
    assert set(expected.values()) == {count}
    return left / elapsed


def peers_client(stage: Stage) -> None:
    """Bare sockets that speak the wire, in turns of fifty messages: what is measured is the server."""
    links = open_links(stage.address, stage.params["peers"], pattern="p2m")
    hello = frames.frame(frames.DATA, b"hello")
    for link in links:
        link.sendall(hello)
    messages = [
        frames.frame(frames.DATA, body) for body in bodies(stage.params["count"], stage.params["size"])
    ]
    for at in range(0, len(messages), 50):
        turn = b"".join(messages[at : at + 50])
        for link in links:
            link.sendall(turn)
    stage.wait_for_end()


def depth(stage: Stage) -> float:
    """Seconds to take one message from a mailbox that holds so many."""
    count = stage.params["depth"]
    limits = Limits(mailbox_messages=count + 1000, mailbox_bytes=1 << 30, mailbox_total=1 << 30)
    with ServerP2M(ANY, limits=limits) as server:
        ClientP2M(server.address, limits=limits).send_many(bodies(count, 16))
        start = perf_counter()
        found = [server.data_get() for _ in range(count)]
        elapsed = perf_counter() - start
    assert found == bodies(count, 16)
    return elapsed / count


def spool(stage: Stage) -> list[tuple[int, float, float]]:
    """A spool that nobody empties: (messages in it, seconds for one more of them, seconds to open it)."""
    size, step = stage.params["size"], stage.params["step"]
    message, found = bytes(size), []
    with tempfile.TemporaryDirectory() as folder:
        limits = Limits(store_bytes=1 << 40)
        for number in range(1, stage.params["steps"] + 1):
            client = ClientP2M("tcp://127.0.0.1:1", store=f"{folder}/spool.db", limits=limits)
            start = perf_counter()
            client.start()
            opened = perf_counter() - start
            start = perf_counter()
            assert client.send_many(message for _ in range(step)) == step
            elapsed = perf_counter() - start
            client.stop()
            found.append((number * step, elapsed / step, opened))
    return found


def long_server(stage: Stage) -> float:
    """Checked as it comes: ten million would not fit."""
    count = stage.params["count"]
    with ServerP2M(ANY) as server:
        stage.ready(server.address)
        get = server.data_get
        start = 0.0
        for number in range(count):
            body = get()
            start = start or perf_counter()
            if int.from_bytes(body[:8], "big") != number:
                raise AssertionError(f"message {number} is damaged, or out of order")
        return count / (perf_counter() - start)


def long_client(stage: Stage) -> None:
    rest = bytes(stage.params["size"] - 8)
    client = ClientP2M(stage.address)
    client.send_many(number.to_bytes(8, "big") + rest for number in range(stage.params["count"]))
    stage.wait_for_end()

"""Node.js `net` in both roles, with and without half-open sockets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from linkbox import EndOfData, EventKind, Json, Lines, MailboxFull, PeerLost, Text
from tests.faults.place import Place
from tests.peers.processes import HERE, PATIENCE, Programs, everything, needs, port_of
from tests.threaded.helpers import Ear

pytestmark = needs("node")
SCRIPT = HERE / "programs" / "node_peer.js"


def node(run: Programs, role: str) -> int:
    return int(run.start("node", SCRIPT, role).expect(r"^listening at (\d+)$")[1])


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_node_server_answers(place: Place, run: Programs, keep_alive: bool) -> None:
    port = node(run, "server")
    with place.client("AR", ("127.0.0.1", port), Json(), framing=Lines(), keep_alive=keep_alive) as client:
        for n in range(20):
            answer = client.ask({"id": n, "values": [n, 0.5]}, PATIENCE)
            assert answer == {"id": n, "sum": n + 0.5, "text": "größer 😀"}


def test_a_node_server_answers_after_our_half_is_closed(place: Place, run: Programs) -> None:
    """``allowHalfOpen``: what it sends after our END still arrives, then its END."""
    server = run.start("node", SCRIPT, "half-open")
    port = int(server.expect(r"^listening at (\d+)$")[1])
    with place.client("P2P", ("127.0.0.1", port), Text(), framing=Lines()) as client:
        for n in range(1_000):
            client.send(f"line {n}")
        client.end()
        assert everything(client) == [f"line {n}" for n in reversed(range(1_000))]
        with pytest.raises(EndOfData):
            client.data_get(PATIENCE)
    server.expect("end of a client after 1000")


def test_a_node_client_ends_its_half_and_gets_all_answers(place: Place, run: Programs) -> None:
    def handle(request: Any) -> Any:
        return {"n": request.data["n"] * 10, "length": len(request.data["text"])}

    with place.server("AR", Json(), framing=Lines(), handler=handle) as server:
        client = run.start("node", SCRIPT, "client", port_of(server.address))
        output = client.wait().decode().splitlines()
    assert output == [*(f'answer {{"n":{n}0,"length":{n}}}' for n in (1, 2, 3)), "end", "closed false"]


def test_a_node_client_ends_its_half_and_gets_what_a_p2p_server_sends(place: Place, run: Programs) -> None:
    with place.server("P2P", Json(), framing=Lines()) as server:
        client = run.start("node", SCRIPT, "client", port_of(server.address))
        got = [server.data_get(PATIENCE) for _ in range(3)]
        assert got == [{"n": n, "text": "ü" * n} for n in (1, 2, 3)]
        server.send({"late": True})
        server.end()
        output = client.wait().decode().splitlines()
    assert output == ['answer {"late":true}', "end", "closed false"]


def repeat(times: int, call: Callable[[], None]) -> None:
    for _ in range(times):
        call()


def test_a_node_server_that_does_not_read_holds_us_up(place: Place, run: Programs) -> None:
    """Its buffers and our window become full; when it reads, all arrives once and in order."""
    server = run.start("node", SCRIPT, "slow")
    port = int(server.expect(r"^listening at (\d+)$")[1])
    line, sent, count = "x" * 100_000, hashlib.sha256(), 0

    def send(client: Any, timeout: float) -> None:
        nonlocal count
        client.send(f"{count} {line}", timeout=timeout)
        sent.update(f"{count} {line}\n".encode())
        count += 1

    with place.client("P2P", ("127.0.0.1", port), Text(), framing=Lines()) as client:
        server.expect("^connected$")
        with pytest.raises(MailboxFull):
            repeat(10_000, lambda: send(client, 0.2))
        server.write(b"go\n")
        repeat(100, lambda: send(client, PATIENCE))
        client.end()
        found = server.expect(r"^end (\d+) (\w+)$")
    assert int(found[1]) == sum(len(f"{n} {line}\n") for n in range(count))
    assert found[2] == sent.hexdigest()


def test_a_node_client_that_resets_costs_only_its_own_connection(place: Place, run: Programs) -> None:
    ear = Ear()
    with place.server("P2M", Text(), framing=Lines()) as server:
        server.add_callback(ear, EventKind.DISCONNECTED)
        clients = [run.start("node", SCRIPT, "reset", port_of(server.address)) for _ in range(2)]
        assert [server.data_get(PATIENCE) for _ in clients] == ["whole"] * 2
        for number, client in enumerate(clients, 1):
            client.expect("^sent$")
            client.write(b"go\n")
            event = ear.wait(number)
            assert isinstance(event.error, PeerLost)
            assert event.peer is not None and event.peer.address in str(event.error)
            assert len(server.peers()) == 2 - number
        assert server.data_empty()

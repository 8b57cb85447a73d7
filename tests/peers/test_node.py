"""Node.js `net` in both roles, with and without half-open sockets."""

from __future__ import annotations

from typing import Any

import pytest

from linkbox import EndOfData, Json, Lines, Text
from tests.faults.place import Place
from tests.peers.processes import HERE, PATIENCE, Programs, everything, needs, port_of

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

"""A store as the inbox of a server for devices: what was in its mailbox is there again after SIGKILL."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

import linkbox
from linkbox import Lines, StoreError, Text, aio
from tests.conformance.fronts import FRONTS, World, play
from tests.threaded.helpers import Process, wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 15.0
SERVER = """
import sys, time
from linkbox import Lines, ServerP2M, Text
server = ServerP2M(sys.argv[1], Text, framing=Lines(), store=sys.argv[2]).start()
print(server.address, flush=True)
taken = 0
while taken < int(sys.argv[3]):
    print(server.data_get(), flush=True)
    taken += 1
while server.data_count() < int(sys.argv[4]):
    time.sleep(0.005)
print("stored", flush=True)
time.sleep(60)
"""


def test_what_is_in_the_mailbox_survives_a_kill(tmp_path: Path) -> None:
    store, sent = str(tmp_path / "inbox"), [f"reading {number}" for number in range(200)]
    with Process(SERVER, "tcp://127.0.0.1:0", store, "50", "150") as child:
        host, port = child.line().removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as device:
            device.sendall("".join(f"{line}\n" for line in sent).encode())
            assert [child.line() for _ in range(50)] == sent[:50]
            assert child.line() == "stored"
            child.popen.kill()
    with linkbox.ServerP2M("tcp://127.0.0.1:0", Text, framing=Lines(), store=store) as server:
        assert not server.peers()
        wait_until(lambda: server.data_count() >= 150)
        messages = [server.message_get(PATIENCE) for _ in range(server.data_count())]
        assert all(message.redelivered for message in messages)
        left = [message.data for message in messages]
        assert left == sent[-len(left) :]  # Marks of what was taken may be 10 ms late.


@pytest.mark.parametrize("front", FRONTS)
def test_a_restart(front: str, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        store = tmp_path / "inbox"
        options: dict[str, Any] = {"format": Text, "framing": Lines(), "store": store}
        async with (
            world.server("P2P", **options, half_close=0) as server,
            world.client("P2P", server.address, Text, framing=Lines()) as client,
        ):
            await client.send("one")
            await client.send("two")
            assert await server.data_get(PATIENCE) == "one"
            await server.send("answer")
            assert await client.data_get(PATIENCE) == "answer"
            message = await server.message_get(PATIENCE, ack=False)
            assert message.data == "two"
        async with world.server("P2P", **options) as server:
            message = await server.message_get(PATIENCE)
            assert (message.data, message.redelivered) == ("two", True)
            assert server.data_empty()
        with pytest.raises(StoreError, match="framing"):
            await world.server("P2P", **{**options, "store": linked(tmp_path)}).start()

    play(scenario, World(front, front, "tcp://127.0.0.1:0"))


def linked(folder: Path) -> Path:
    """The store of a server of another framing."""
    with linkbox.ServerP2P("tcp://127.0.0.1:0", Text, store=folder / "linked"):
        return folder / "linked"


@pytest.mark.parametrize("module", [linkbox, aio], ids=FRONTS)
def test_a_client_of_a_plain_framing_has_no_store(module: Any, tmp_path: Path) -> None:
    for kind in ("ClientP2P", "ClientP2M"):
        with pytest.raises(ValueError, match="store= of a client needs framing=Linked"):
            getattr(module, kind)("tcp://127.0.0.1:1", framing=Lines(), store=tmp_path / "x")

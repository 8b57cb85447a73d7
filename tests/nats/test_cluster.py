"""A cluster of three nodes on loopback that loses a node under load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from linkbox import Backoff, Json, ListenFailed, Nats
from tests.conformance.fronts import play
from tests.nats.servers import MISSING, NatsServer, binary, free_port
from tests.nats.world import NatsWorld, world_of

NOW = Backoff(initial=0.02, maximum=0.2)


@pytest.fixture
def nodes() -> Iterator[list[NatsServer]]:
    if binary() is None:
        pytest.skip(MISSING)
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                NatsServer(
                    f"server_name: n{number}\n"
                    f'cluster {{ name: tests, listen: "127.0.0.1:{port}", routes: [ {routes} ] }}\n'
                )
            )
            for number, port in enumerate(ports)
        ]


def test_a_cluster_loses_a_node_and_no_message(nodes: list[NatsServer]) -> None:
    settings = Nats(replicas=3)

    async def scenario(world: NatsWorld) -> None:
        found: list[tuple[int, bool]] = []
        progress = asyncio.Event()

        async def work() -> None:
            while len({number for number, _ in found}) < 600:
                message = await server.message_get(100)
                found.append((message.data, message.redelivered))
                progress.set()

        while True:
            server = world.server("P2M", Json, broker=settings)
            try:
                await server.start()
                break
            except ListenFailed:  # the nodes elect their leader
                continue
        client = world.client(
            "P2M", world.address, Json, blocking=False, linger=60.0, reconnect=NOW, broker=settings
        )
        worker = asyncio.create_task(work())
        async with client:
            for number in range(600):
                await client.send(number)
                if number % 50 == 0:
                    while len(found) < number - 200:  # an election takes seconds
                        progress.clear()
                        await progress.wait()
                if number == 300:
                    await asyncio.to_thread(nodes[1].kill)
            await client.flush(100)
            await worker
        await server.stop()
        unmarked = [number for number, is_again in found if not is_again]
        assert len(unmarked) == len(set(unmarked))

    hosts = ",".join(node.host for node in nodes)
    play(scenario, world_of("aio", f"nats://{hosts}/x"))

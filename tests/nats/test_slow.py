"""Something is slow: the way to the broker, a server that reads nothing, a server that takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from linkbox import Backoff, Bytes, EventKind, Json, Limits
from linkbox.testing import FaultyProxy
from tests.conformance.fronts import FRONTS, Ear, play, until
from tests.nats.servers import MISSING, NatsServer, binary
from tests.nats.world import NatsWorld, world_of

NOW = Backoff(initial=0.01, maximum=0.05)


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def impatient() -> Iterator[NatsServer]:
    """A broker that soon cuts off whoever does not read."""
    if binary() is None:
        pytest.skip(MISSING)
    with NatsServer('write_deadline: "500ms"\n') as server:
        yield server


def test_a_slow_way_to_the_broker_is_only_slow(front: str, shared_broker: NatsServer) -> None:
    async def scenario(world: NatsWorld) -> None:
        async with world.server("P2P", Json) as server, world.client("P2P", world.address, Json) as client:
            for number in range(30):
                await client.send(number)
                await server.send(number)
            assert [await server.data_get(20) for _ in range(30)] == list(range(30))
            assert [await client.data_get(20) for _ in range(30)] == list(range(30))
        world.address += "-ar"
        async with world.server("AR", handler=world.handler(lambda r: r.data)):
            client = world.client("AR", world.address)
            bodies = [b"%d" % number for number in range(30)]
            assert await asyncio.gather(*(client.ask(each, 20) for each in bodies)) == bodies
            await client.stop()
        world.address += "-p2m"
        async with world.server("P2M", Json) as server, world.client("P2M", world.address, Json) as client:
            await client.send_many(range(300))
            found = [await server.message_get(20) for _ in range(300)]
            assert [(each.data, each.redelivered) for each in found] == [(n, False) for n in range(300)]

    target = f"tcp://{shared_broker.host}"
    with FaultyProxy(target, latency=0.005, jitter=0.005, seed=1, bandwidth=500_000) as proxy:
        play(scenario, world_of(front, f"{proxy.address.replace('tcp', 'nats')}/slow-{front}"))


def test_a_server_that_the_broker_cuts_off_as_it_does_not_read(front: str, impatient: NatsServer) -> None:
    """NATS calls it a slow consumer. The conversation resumes, and nothing is lost."""

    async def scenario(world: NatsWorld) -> None:
        address, relay = world.address, await world.relay(world.address)
        world.address = relay.address
        limits = Limits(window_bytes=32 << 20, mailbox_bytes=32 << 20)  # more than the sockets hold
        ear = Ear()
        async with world.server("P2P", limits=limits) as server:
            client = world.client("P2P", address, Bytes, limits=limits, reconnect=NOW)
            client.add_callback(ear, EventKind.RESUMED)
            async with client:
                await client.send(b"first")
                assert await server.data_get(20) == b"first"
                relay.hold()
                for number in range(200):
                    await client.send(b"%6d" % number + bytes(60_000))
                await until(lambda: "Slow Consumer" in impatient.log())
                await client.send(b"%6d" % 200)  # Then it notices at once, and not after 5 s of silence.
                relay.release()
                found = [int((await server.data_get(30))[:6]) for _ in range(201)]
                assert found == list(range(201))
                await ear.wait(EventKind.RESUMED)
        await relay.close()

    play(scenario, world_of(front, impatient.url(f"deaf-{front}")))


def test_a_slow_server_of_a_shared_name_keeps_only_what_it_has(front: str, url: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        client = world.client("P2M", world.address, Json)
        slow = world.server("P2M", Json, limits=Limits(mailbox_messages=5))
        async with world.server("P2M", Json) as quick:
            async with slow:
                for number in range(105):
                    await client.send(number)
                await until(lambda: slow.data_count() + quick.data_count() == 105)
                assert slow.data_count() <= 5
            found = [await quick.data_get(10) for _ in range(105)]
        assert sorted(found) == list(range(105))
        await client.stop()

    play(scenario, world_of(front, url))


def test_requests_at_a_slow_server_wait_and_the_others_do_not(front: str, url: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        async with world.server("AR", Json) as slow, world.server("AR", Json, handler=quick):
            client = world.client("AR", world.address, Json)
            asked: list[asyncio.Task[Any]] = [
                asyncio.create_task(client.ask(number, 60)) for number in range(40)
            ]
            await until(lambda: slow.data_count() + sum(each.done() for each in asked) == 40)
            requests = [await slow.data_get(10) for _ in range(slow.data_count())]
            assert requests, "the broker shares them by chance: 40 are enough"
            assert not any(each.done() and each.exception() for each in asked)
            for request in requests:
                request.answer(request.data)
            assert await asyncio.gather(*asked) == list(range(40))
            await client.stop()

    world = world_of(front, url)
    quick = world.handler(lambda request: request.data)
    play(scenario, world)

"""P2M over a real broker: exactly once or marked, shared servers, absent ends, packs, a full stream."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from linkbox import (
    Backoff,
    Bytes,
    DeadlineExceeded,
    EndOfData,
    EventKind,
    Json,
    MailboxEmpty,
    MailboxFull,
    Nats,
    Stage,
    TooLarge,
)
from tests.conformance.fronts import FRONTS, Ear, play, until
from tests.nats.servers import NatsServer
from tests.nats.world import NatsWorld, world_of

NOW = Backoff(initial=0.01, maximum=0.05)


@pytest.fixture(params=FRONTS)
def world(request: pytest.FixtureRequest, url: str) -> NatsWorld:
    return world_of(str(request.param), url)


async def take(server: Any, count: int) -> list[Any]:
    return [await server.data_get(10) for _ in range(count)]


def test_a_blocking_send_returns_when_the_stream_has_it(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        async with world.server("P2M", Json) as server:
            client = world.client("P2M", server.address, Json, name="pump")
            for number in range(10):
                assert (await client.send(number)).stage >= Stage.RECEIVED
            found = [await server.message_get(10) for _ in range(10)]
            assert [each.data for each in found] == list(range(10))
            assert {each.peer.name for each in found} == {"pump"}
            assert not any(each.redelivered for each in found)
            await client.stop()

    play(scenario, world)


def test_sends_that_do_not_wait_arrive_in_order_and_are_reported_when_they_are_taken(
    world: NatsWorld,
) -> None:
    async def scenario(world: NatsWorld) -> None:
        client = world.client("P2M", world.address, Json, blocking=False, linger=5.0)
        async with world.server("P2M", Json) as server, client:
            receipts = [await client.send(number) for number in range(3000)]
            await client.flush(10)
            assert all(each.stage >= Stage.RECEIVED for each in receipts)
            assert await take(server, 3000) == list(range(3000))
            assert await receipts[-1].wait(Stage.TAKEN, 10) is Stage.TAKEN

    play(scenario, world)


def test_what_is_sent_with_nobody_there_arrives_when_somebody_comes(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        client = world.client("P2M", world.address, Json)
        assert await client.send_many(range(1000)) == 1000
        assert await client.stop()
        async with world.server("P2M", Json) as server:
            assert await take(server, 1000) == list(range(1000))

    play(scenario, world)


def test_several_servers_share_a_name_and_each_message_comes_once(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        found: list[tuple[str, int, bool]] = []

        async def work(name: str, server: Any) -> None:
            with contextlib.suppress(EndOfData):
                while True:
                    message = await server.message_get()
                    found.append((name, message.data, message.redelivered))

        async def join(name: str) -> Any:
            server = await world.server("P2M", Json, name=name).start()
            workers.append(asyncio.create_task(work(name, server)))
            return server

        def had(name: str) -> int:
            return sum(each == name for each, _, _ in found)

        workers: list[asyncio.Task[None]] = []
        servers = [await join("first"), await join("second")]
        sent = 0
        async with world.client("P2M", world.address, Json, linger=10.0) as client:
            for name in ("first", "second", "guest", "first"):
                if name == "guest":
                    servers.append(await join("guest"))
                before = had(name)
                while had(name) < before + 20:
                    await client.send(sent)
                    sent += 1
                if name == "guest":
                    await servers.pop().stop()
        await until(lambda: len({data for _, data, _ in found}) == sent)
        for server in servers:
            await server.stop()
        await asyncio.gather(*workers)
        first = [data for _, data, is_again in found if not is_again]
        assert len(first) == len(set(first)), "what comes twice is marked"

    play(scenario, world)


def test_what_a_stopping_server_has_not_given_away_goes_to_the_next_in_order(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        first = await world.server("P2M", Json).start()
        client = world.client("P2M", world.address, Json)
        for number in range(20):
            await client.send(number)
        await until(lambda: first.data_count() == 20)
        assert await take(first, 5) == list(range(5))
        held = await first.message_get(10, ack=False)
        assert held.data == 5
        assert await first.stop()
        with pytest.raises(EndOfData):
            await first.data_get()
        async with world.server("P2M", Json) as second:
            found = [await second.message_get(10) for _ in range(15)]
            assert [each.data for each in found] == list(range(5, 20))
            assert all(each.redelivered for each in found)
            with pytest.raises(MailboxEmpty):
                await second.data_get(0.05)
        await client.stop()

    play(scenario, world)


def test_a_server_takes_no_more_than_its_mailbox_holds(world: NatsWorld) -> None:
    from linkbox import Limits

    async def scenario(world: NatsWorld) -> None:
        client = world.client("P2M", world.address, Json)
        for number in range(30):
            await client.send(number)
        async with world.server("P2M", Json, limits=Limits(mailbox_messages=10)) as small:
            await until(lambda: small.data_count() == 10)
            async with world.server("P2M", Json) as large:
                assert await take(large, 20) == list(range(10, 30))
            assert await take(small, 10) == list(range(10))
        await client.stop()

    play(scenario, world)


def test_a_client_with_a_store_may_be_offline(world: NatsWorld, broker: NatsServer, tmp_path: Path) -> None:
    async def scenario(world: NatsWorld) -> None:
        broker.kill()
        client = world.client("P2M", world.address, Json, store=tmp_path / "x.db", reconnect=NOW)
        async with client:
            for number in range(100):
                await client.send(number)
            with pytest.raises(DeadlineExceeded):
                await client.flush(0.05)
        again = world.client("P2M", world.address, Json, store=tmp_path / "x.db", reconnect=NOW)
        async with again:
            await asyncio.to_thread(broker.start)
            await again.flush(15)
        async with world.server("P2M", Json) as server:
            found = [await server.message_get(10) for _ in range(100)]
            assert [each.data for each in found] == list(range(100))
            assert not any(each.redelivered for each in found), "nothing was in doubt"

    world.address = broker.url()
    play(scenario, world)


def test_a_full_stream_is_a_full_mailbox(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        client = world.client("P2M", world.address, Json, blocking=False, linger=5.0)
        ear = Ear()
        client.add_callback(ear, EventKind.ERROR)
        async with client:
            assert await (await client.send(0)).wait(timeout=10) >= Stage.RECEIVED
            await limit_stream(world.address, 3)
            for number in range(1, 3):  # one by one: several at once are a pack, which is one in the stream
                assert await (await client.send(number)).wait(timeout=10) >= Stage.RECEIVED
            for number in range(3, 6):
                with pytest.raises(MailboxFull, match="the stream of the broker is full"):
                    await (await client.send(number)).wait(timeout=10)
            await ear.wait(EventKind.ERROR, 3)
            async with world.server("P2M", Json) as server:
                assert await take(server, 3) == [0, 1, 2]
                while True:  # there is room once the broker has processed that these were taken
                    with contextlib.suppress(MailboxFull):
                        await (await client.send("room again")).wait(timeout=10)
                        break
                assert await take(server, 1) == ["room again"]

    play(scenario, world)


async def limit_stream(url: str, messages: int) -> None:
    """As an operator does: the stream takes that many messages."""
    import json

    import nats

    host, _, name = url.removeprefix("nats://").partition("/")
    stream = f"LB_{name.replace('_', '__').replace('.', '_')}"
    nc = await nats.connect(f"nats://{host}")
    info = json.loads((await nc.request(f"$JS.API.STREAM.INFO.{stream}", b"{}")).data)
    config = info["config"] | {"max_msgs": messages}
    answer = json.loads(
        (await nc.request(f"$JS.API.STREAM.UPDATE.{stream}", json.dumps(config).encode())).data
    )
    await nc.close()
    assert "error" not in answer, answer


def test_what_the_broker_does_not_take_is_too_large(world: NatsWorld, tmp_path: Path) -> None:
    async def scenario(world: NatsWorld) -> None:
        body = b"x" * 1_100_000
        client = world.client("P2M", world.address)
        with pytest.raises(TooLarge, match="takes messages of at most"):
            await client.send(body)
        await client.send(b"fits")
        await client.stop()
        stored = world.client("P2M", world.address, store=tmp_path / "x.db")
        async with stored:
            receipt = await stored.send(body)
            await stored.send(b"fits too")
            with pytest.raises(TooLarge, match="raise max_payload"):
                await receipt.wait(timeout=10)
            await stored.flush(10)
        async with world.server("P2M", Bytes) as server:
            assert await take(server, 2) == [b"fits", b"fits too"]

    play(scenario, world)


def test_a_message_that_cannot_be_decoded_is_not_given_away_again(world: NatsWorld) -> None:
    class Looks(Json):
        def encode(self, value: Any, /) -> bytes:
            return b"{bad" if value == "bad" else super().encode(value)

    async def scenario(world: NatsWorld) -> None:
        client = world.client("P2M", world.address, Looks())
        for value in ("good", "bad", "fine"):
            await client.send(value)
        await client.stop()
        async with world.server("P2M", Json) as server:
            assert await take(server, 2) == ["good", "fine"]
            assert server.statistics().rejected == 1
        async with world.server("P2M", Json) as next_one:
            with pytest.raises(MailboxEmpty):
                await next_one.data_get(0.1)

    play(scenario, world)


def test_other_settings_of_the_name_are_other_messages(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        mine = Nats(prefix="mine")
        async with world.server("P2M", Json) as server, world.server("P2M", Json, broker=mine) as other:
            await world.client("P2M", world.address, Json, broker=mine).send("other")
            assert await other.data_get(10) == "other"
            assert server.data_empty()

    play(scenario, world)

"""AR over a real broker: shared servers, lost servers, refusals, foreign clients, limits."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import textwrap
import time
from collections import Counter
from typing import Any

import pytest

from linkbox import (
    AnswerError,
    Bytes,
    ConnectFailed,
    DeadlineExceeded,
    EventKind,
    Json,
    Limits,
    PeerLost,
    Refused,
    TooLarge,
)
from linkbox.core.broker.request_link import HERE_AFTER
from tests.conformance.fronts import FRONTS, Ear, play, until
from tests.nats.servers import NatsServer
from tests.nats.world import NatsWorld, world_of


@pytest.fixture(params=FRONTS)
def world(request: pytest.FixtureRequest, url: str) -> NatsWorld:
    return world_of(str(request.param), url)


def test_several_servers_share_the_requests_and_each_is_handled_once(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        handled: list[tuple[str, int]] = []

        def server(name: str) -> Any:
            def handle(request: Any) -> Any:
                handled.append((name, request.data))
                return request.data

            return world.server("AR", Json, name=name, handler=world.handler(handle))

        def had(name: str) -> int:
            return Counter(each for each, _ in handled)[name]

        asked = 0
        async with server("first"), server("second"), world.client("AR", world.address, Json) as client:
            for name in ("first", "second", "guest", "second"):
                guest = await server("guest").start() if name == "guest" else None
                before = had(name)
                while had(name) < before + 20:
                    batch = range(asked, asked + 10)
                    assert await asyncio.gather(*(client.ask(each, 10) for each in batch)) == list(batch)
                    asked += 10
                if guest is not None:
                    leaving = asyncio.create_task(guest.stop())
                    while not leaving.done():  # no request is lost while it leaves
                        assert await client.ask(asked, 10) == asked
                        asked += 1
        assert sorted(data for _, data in handled) == list(range(asked))

    play(scenario, world)


def test_nobody_there_fails_at_once_and_a_server_that_starts_later_does_not(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        hasty = world.client("AR", world.address, Json, reconnect=None)
        with pytest.raises(ConnectFailed, match="no server serves"):
            await hasty.ask(1, 10)
        await hasty.stop()
        patient = world.client("AR", world.address, Json)
        asked = asyncio.create_task(patient.ask(1, 10))
        await asyncio.sleep(0.1)  # it fails to connect first; either way it must be answered
        async with world.server("AR", Json, handler=world.handler(lambda request: -request.data)):
            assert await asked == -1
        await patient.stop()

    play(scenario, world)


def test_a_kept_client_goes_on_when_the_server_is_back(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        server = world.server("AR", Json, handler=world.handler(lambda request: request.data))
        async with world.client("AR", world.address, Json, keep_alive=True) as client:
            for number in range(3):
                async with server:
                    assert await client.ask(number, 10) == number
                with pytest.raises(ConnectFailed):
                    await client.ask("nobody", 10)

    play(scenario, world)


DYING = """
import sys
from linkbox import ServerAR, Json
def handle(request):
    print("begun", flush=True)
    sys.stdin.read()
with ServerAR(sys.argv[1], Json, handler=handle):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("knows", [True, False], ids=["after the note", "before the note"])
def test_a_killed_server_is_found_out_within_three_seconds(world: NatsWorld, knows: bool) -> None:
    async def scenario(world: NatsWorld) -> None:
        process = subprocess.Popen(  # noqa: ASYNC220  it starts at once
            [sys.executable, "-c", textwrap.dedent(DYING), world.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "up\n"
            async with world.client("AR", world.address, Json) as client:
                asked = asyncio.create_task(client.ask("?", 60))
                assert await asyncio.to_thread(process.stdout.readline) == "begun\n"
                if knows:
                    await asyncio.sleep(1.2)  # the note has come, and a first probe was answered
                    assert not asked.done()
                process.kill()
                began = time.monotonic()
                with pytest.raises(PeerLost, match="is gone"):
                    await asked
                assert time.monotonic() - began < 20, "a few seconds, also on a busy machine; not the timeout"
        finally:
            process.kill()
            process.communicate()

    play(scenario, world)


def test_a_slow_answer_is_waited_for(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        async with (
            world.server("AR", Json) as server,
            world.client("AR", world.address, Json, keep_alive=True) as client,
        ):
            asked = asyncio.create_task(client.ask("slow", 30))
            request = await server.data_get(10)
            assert 25 < request.deadline - time.monotonic() <= 30
            await asyncio.sleep(2.2)  # two probes have found the request
            assert not asked.done()
            request.answer("done")
            assert await asked == "done"

    play(scenario, world)


def test_who_gives_up_is_not_worked_for(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        async with world.server("AR", Json) as server, world.client("AR", world.address, Json) as client:
            with pytest.raises(DeadlineExceeded):
                await client.ask("late", 0.3)
            request = asyncio.create_task(client.ask("next", 30))
            found = await server.data_get(10)
            if found.data == "late":  # By the server's clock its time ends a moment later.
                found = await server.data_get(10)
            assert found.data == "next"
            found.answer("yes")
            assert await request == "yes"
            asked = asyncio.create_task(client.ask("cancelled", 30))
            found = await server.data_get(10)
            await asyncio.sleep(0.1)  # with or without the note: it must be cancelled
            asked.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asked
            if world.is_all_aio:  # a thread in `ask` cannot be cancelled
                await until(found.cancelled)

    play(scenario, world)


async def first_call(pattern: str, client: Any) -> None:
    if pattern == "P2P":
        await client.start()
    elif pattern == "P2M":
        await client.send(b"")
    else:
        await client.ask(b"")


def test_wrong_patterns_and_formats_are_refused_from_everywhere(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        for pattern in ("P2P", "P2M", "AR"):
            world.address += "-next"
            async with world.server(pattern, Json):
                for other in ("P2P", "P2M", "AR"):
                    for format, code in ((Json, "pattern"), (Bytes, "format")):
                        if (other == pattern) is (code == "pattern"):
                            continue
                        client = world.client(other, world.address, format)
                        with pytest.raises(Refused) as caught:
                            await first_call(other, client)
                        assert caught.value.code == code
                        await client.stop()
                        with pytest.raises(Refused) as caught:
                            await world.server(other, format).start()
                        assert caught.value.code == code

    play(scenario, world)


def test_any_client_of_the_broker_can_ask(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        import nats

        def handle(request: Any) -> Any:
            if request.data == 0:
                raise LookupError("no zero")
            if request.data == 1:
                time.sleep(2 * HERE_AFTER)  # longer than after which a client of linkbox gets a note
            return 2 * request.data

        host, _, name = world.address.removeprefix("nats://").partition("/")
        async with world.server("AR", Json, handler=world.handler(handle)):
            nc = await nats.connect(f"nats://{host}")
            answer = await nc.request(f"lb.{name}.ar", b"21", timeout=10)
            assert answer.data == b"42"
            assert (await nc.request(f"lb.{name}.ar", b"1", timeout=10)).data == b"2"
            answer = await nc.request(f"lb.{name}.ar", b"0", timeout=10)
            assert answer.headers == {"Lb-Status": "fail", "Lb-Type": "LookupError"}
            answer = await nc.request(f"lb.{name}.ar", b"21", timeout=10, headers={"Lb-Format": "bytes"})
            assert answer.headers == {"Lb-Status": "refused", "Lb-Code": "format"}
            answer = await nc.request(f"lb.{name}.ar", b"21", timeout=10, headers={"Lb-Parts": "1"})
            assert answer.headers == {"Lb-Status": "refused", "Lb-Code": "protocol"}
            await nc.close()

    play(scenario, world)


def test_what_the_broker_does_not_take_is_too_large(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        large = b"x" * 1_100_000
        handler = world.handler(lambda request: large if request.data == b"much" else b"ok")
        async with world.server("AR", handler=handler), world.client("AR", world.address) as client:
            with pytest.raises(TooLarge):
                await client.ask(large, 10)
            with pytest.raises(TooLarge):
                await client.ask_many(iter([large[:600_000]] * 2), 10)
            with pytest.raises(TooLarge):
                await client.ask(b"much", 10)
            assert await client.ask(b"little", 10) == b"ok"

    play(scenario, world)


def test_too_many_requests_of_one_client_fail(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        client = world.client("AR", world.address, Json, keep_alive=True)
        async with world.server("AR", Json, limits=Limits(asks=3)) as server, client:
            asked = [asyncio.create_task(client.ask(number, 30)) for number in range(4)]
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            with pytest.raises(AnswerError, match="at once"):
                await done.pop()
            for _ in range(3):
                (await server.data_get(10)).answer("yes")
            others = await asyncio.gather(*asked, return_exceptions=True)
            assert others.count("yes") == 3

    play(scenario, world)


def test_open_requests_fail_with_the_broker_and_the_next_works(world: NatsWorld, broker: NatsServer) -> None:
    async def scenario(world: NatsWorld) -> None:
        handled = []
        async with (
            world.server("AR", Json) as server,
            world.client("AR", world.address, Json, keep_alive=True) as client,
        ):
            asked = asyncio.create_task(client.ask("first", 30))
            handled.append((await server.data_get(10)).data)
            await asyncio.to_thread(broker.kill)
            with pytest.raises(PeerLost):
                await asked
            await asyncio.to_thread(broker.start)
            again = asyncio.create_task(client.ask("second", 30))
            request = await server.data_get(20)
            handled.append(request.data)
            request.answer("answer")
            assert await again == "answer"
        assert handled == ["first", "second"], "a request is never sent twice"

    world.address = broker.url()
    play(scenario, world)


def test_who_asks_is_no_peer(world: NatsWorld) -> None:
    async def scenario(world: NatsWorld) -> None:
        ear = Ear()
        server = world.server("AR", Json)
        server.add_callback(ear, EventKind.CONNECTED, EventKind.END, EventKind.DISCONNECTED)
        async with server, world.client("AR", world.address, Json, name="pump") as client:
            asked = asyncio.create_task(client.ask(1, 10))
            request = await server.data_get(10)
            assert request.peer.name == "pump"
            assert server.peers() == ()
            request.answer(2)
            await asked
        assert ear.events == []

    play(scenario, world)

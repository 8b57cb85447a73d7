"""Cancelling: a call that is cancelled has done all of what it does, or nothing; and nobody hangs."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

import pytest

from linkbox import ConnectFailed, DeadlineExceeded, EndOfData, Json, Limits, PeerLost, Stage
from linkbox.aio import ClientAR, ClientP2M, ClientP2P, ServerAR, ServerP2M, ServerP2P
from linkbox.aio.driver import Driver
from linkbox.core.wait_queue import WaitQueue
from tests.conformance.fronts import until
from tests.threaded.helpers import core_of

ANY = "tcp://127.0.0.1:0"


def run(main: Any) -> None:
    asyncio.run(main())


async def cancelled(task: asyncio.Task[Any]) -> bool:
    """Cancel a task; was it still at it?"""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    except Exception:
        return False
    return False


def test_takers_cancelled_at_any_moment_take_nothing() -> None:
    count, seed = 3000, 7
    dice = random.Random(seed)

    async def main() -> None:
        async with ServerP2P(ANY, Json) as server, ClientP2P(server.address, Json) as client:
            found: list[int] = []

            async def push() -> None:
                for number in range(count):
                    await client.send(number)
                    if number % 7 == 0:
                        await asyncio.sleep(0)

            async def take() -> None:
                found.append(await server.data_get())

            pushing = asyncio.create_task(push())
            strikes = 0
            while len(found) < count:
                taker = asyncio.create_task(take())
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
                strikes += await cancelled(taker)
            await pushing
            assert found == list(range(count))
            assert strikes > 100, "else nothing was shown"

    run(main)


@pytest.mark.patches
def test_a_taker_that_was_rung_and_cancelled_passes_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    victims: list[asyncio.Task[Any]] = []
    ring = Driver.ring

    def ring_and_strike(driver: Driver, queue: WaitQueue) -> None:
        ring(driver, queue)
        if victims and any(isinstance(each, asyncio.Future) and each.done() for each in queue.waiters):
            victims.pop().cancel()  # after it was rung, and before it runs

    async def main() -> None:
        async with ServerP2P(ANY, Json) as server, ClientP2P(server.address, Json) as client:
            for number in range(200):
                first, second = (asyncio.create_task(server.data_get(5)) for _ in range(2))
                await asyncio.sleep(0)
                victims.append(first)
                receipt = await client.send(number)
                assert await second == number
                assert first.cancelled()
                assert await receipt.wait(Stage.TAKEN, 5) is Stage.TAKEN

    monkeypatch.setattr(Driver, "ring", ring_and_strike)

    run(main)


@pytest.mark.patches
def test_a_taker_that_was_cancelled_and_has_not_run_is_not_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take nothing, and the one behind it would wait for ever."""
    victims: list[asyncio.Task[Any]] = []
    ring = Driver.ring

    def strike_and_ring(driver: Driver, queue: WaitQueue) -> None:
        if victims and any(isinstance(each, asyncio.Future) for each in queue.waiters):
            victims.pop().cancel()
        ring(driver, queue)

    async def main() -> None:
        async with ServerP2P(ANY, Json) as server, ClientP2P(server.address, Json) as client:
            await server.wait_connected()
            first, second = (asyncio.create_task(server.data_get()) for _ in range(2))
            await asyncio.sleep(0)
            victims.append(first)
            await client.send("there")
            assert await asyncio.wait_for(second, 20) == "there"
            assert first.cancelled()

    monkeypatch.setattr(Driver, "ring", strike_and_ring)

    run(main)


def test_timeouts_of_asyncio_work_around_everything() -> None:
    async def main() -> None:
        async with ServerP2P(ANY, Json) as server, ClientP2P(server.address, Json) as client:
            calls: list[Any] = [
                server.data_get,
                server.message_get,
                lambda: server.data_get_count(3),
                lambda: server.wait_connected(2),
                lambda: anext(aiter(server)),
            ]
            for call in calls:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await call()
            await client.send("still works")
            assert await server.data_get(5) == "still works"

    run(main)


def test_a_cancelled_send_has_sent_all_or_nothing() -> None:
    limits = Limits(window_messages=10, mailbox_messages=10)

    async def main() -> None:
        async with (
            ServerP2P(ANY, Json, limits=limits) as server,
            ClientP2P(server.address, Json, limits=limits) as client,
        ):
            sent: list[int] = []

            async def send(number: int) -> None:
                await client.send(number)
                sent.append(number)

            waited = 0
            for number in range(60):
                task = asyncio.create_task(send(number))
                await asyncio.sleep(0)
                waited += await cancelled(task)
            assert waited > 10
            found: list[int] = []
            while len(found) < len(sent):
                found.append(await server.data_get(5))
            assert found == sent
            assert server.data_empty()

    run(main)


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_cancelled_ask_is_cancelled_at_the_server(keep_alive: bool) -> None:
    async def main() -> None:
        server = await ServerAR(ANY, Json).start()
        client = ClientAR(server.address, Json, keep_alive=keep_alive)
        async with server, client:
            asking = asyncio.create_task(client.ask("?"))
            request = await server.data_get(5)
            assert not request.cancelled()
            assert await cancelled(asking)
            await until(request.cancelled)
            request.answer("too late, and no harm")
            again = asyncio.create_task(client.ask("and now?"))
            (await server.data_get(5)).answer("yes")
            assert await again == "yes"

    run(main)


def test_a_cancelled_push_ends_its_connection() -> None:
    limits = Limits(mailbox_messages=5)

    async def main() -> None:
        async with ServerP2M(ANY, Json, limits=limits) as server:
            client = ClientP2M(server.address, Json)
            pushing = asyncio.create_task(client.send_many(range(200_000)))
            await until(lambda: server.data_count() >= 5)
            assert await cancelled(pushing)
            await until(lambda: not server.peers())
            server.data_get_all()
            await client.send("the next one works", timeout=5)
            # Numbers that had arrived, but had no room to be decoded, come first.
            while isinstance(found := await server.data_get(5), int):
                pass
            assert found == "the next one works"
            await client.stop()

    run(main)


def test_a_cancelled_stop_has_closed_everything() -> None:
    async def main() -> None:
        server = await ServerP2P(ANY, Json).start()
        client = await ClientP2P(server.address, Json).start()
        waiting = asyncio.create_task(client.data_get())
        stopping = asyncio.create_task(client.stop())
        await asyncio.sleep(0)
        assert await cancelled(stopping)
        with pytest.raises((EndOfData, PeerLost)):
            await waiting
        await until(lambda: not server.peers())
        assert await client.stop()
        assert await server.stop()

    run(main)


def test_a_cancelled_start_leaves_nothing_behind() -> None:
    async def main() -> None:
        silent = socket.create_server(("127.0.0.1", 0))
        client = ClientP2P(silent.getsockname())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.start()  # connects, and is never welcomed
        assert core_of(client) is None
        silent.close()
        with pytest.raises(ConnectFailed):
            await ClientP2P("tcp://127.0.0.1:1", reconnect=None).start()

    run(main)


def test_waiting_for_a_receipt_may_be_given_up() -> None:
    async def main() -> None:
        async with ServerP2P(ANY, Json) as server, ClientP2P(server.address, Json) as client:
            receipt = await client.send(1)
            with pytest.raises(DeadlineExceeded):
                await receipt.wait(Stage.TAKEN, 0.02)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await receipt.wait(Stage.TAKEN)
            assert await server.data_get(5) == 1
            assert await receipt.wait(Stage.TAKEN, 5) is Stage.TAKEN
            assert await receipt is Stage.TAKEN

    run(main)

"""What stores promise, on both front ends: nothing that was accepted is lost, over any restart."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

import linkbox
from linkbox import EventKind, Limits, Lines, SessionLost, Stage, StateError, aio
from linkbox.core.durable.entries import Spool
from linkbox.core.durable.journal import Batch
from linkbox.formats import Bytes, Json
from linkbox.store.sqlite import Store
from linkbox.testing import FaultyProxy
from tests.conformance.fronts import FRONTS, Ear, World, play, until
from tests.store.children import Child
from tests.store.disks import NOW, nowhere
from tests.threaded.helpers import PROMPT

SCENARIOS: list[Any] = []


def scenario(function: Any) -> Any:
    SCENARIOS.append(function)
    return function


class Place(World):
    """Where it plays, and where the stores are."""

    def __init__(self, front: str, folder: Path) -> None:
        super().__init__(front, front, nowhere())
        self.front = front
        self.folder = folder
        self.spooled: list[int] = []
        """For each commit with messages to be sent: how many sends shared it."""

    def server(self, pattern: str, *args: Any, store: str | None = "server", **how: Any) -> Any:
        return super().server(pattern, *args, store=self._path(store), **how)

    def pusher(self, *args: Any, store: str | None = "client", **how: Any) -> Any:
        how = {"reconnect": NOW} | how
        return super().client("P2M", self.address, *args, store=self._path(store), **how)

    def talker(self, *args: Any, store: str | None = "client", **how: Any) -> Any:
        how = {"reconnect": NOW} | how
        return super().client("P2P", self.address, *args, store=self._path(store), **how)

    def _path(self, store: str | None) -> Path | None:
        return None if store is None else self.folder / store


@pytest.fixture(params=FRONTS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(str(request.param), tmp_path)
    apply = Store.apply

    def counted(store: Store, batch: Batch) -> None:
        apply(store, batch)
        if entries := sum(isinstance(each, Spool) for each in batch.entries):
            place.spooled.append(entries)

    monkeypatch.setattr(Store, "apply", counted)
    return place


async def messages(endpoint: Any, count: int) -> list[Any]:
    return [await endpoint.message_get(10) for _ in range(count)]


async def values(endpoint: Any, count: int) -> list[Any]:
    return [await endpoint.data_get(10) for _ in range(count)]


@scenario
async def what_is_sent_while_the_server_is_away_goes_out_when_it_comes(place: Place) -> None:
    async with place.pusher(Json) as client:
        receipts = [await client.send(number) for number in range(10)]
        assert {receipt.stage for receipt in receipts} == {Stage.QUEUED}
        async with place.server("P2M", Json, store=None) as server:
            assert await values(server, 10) == list(range(10))
            assert await receipts[-1].wait(Stage.TAKEN, 10) is Stage.TAKEN
            await client.flush(10)


@scenario
async def another_life_of_the_client_delivers_what_the_first_accepted(place: Place) -> None:
    for life in range(3):
        async with place.pusher(Json) as client:
            assert await client.send_many([life * 10 + each for each in range(10)]) == 10
    async with place.server("P2M", Json) as server, place.pusher(Json) as client:
        await client.send(30)
        assert await values(server, 31) == list(range(31))


@scenario
async def unread_messages_are_there_after_a_restart_and_taken_ones_are_not(place: Place) -> None:
    async with place.pusher(Json) as client:
        async with place.server("P2M", Json) as server:
            await client.send_many(range(10))
            taken = await messages(server, 4)
            assert not any(each.redelivered for each in taken)
        async with place.server("P2M", Json) as server:
            await client.send(10)
            rest = await messages(server, 7)
            assert [each.data for each in rest] == list(range(4, 11))
            assert [each.redelivered for each in rest] == [True] * 6 + [False]
            await client.flush(10)


@scenario
async def what_was_not_acknowledged_comes_again(place: Place) -> None:
    async with place.pusher(Json) as client:
        async with place.server("P2M", Json) as server:
            await client.send_many(range(5))
            kept = [await server.message_get(10, ack=False) for _ in range(5)]
            kept[1].ack()
            kept[3].ack()
        async with place.server("P2M", Json) as server:
            again = await messages(server, 3)
            assert [(each.data, each.redelivered) for each in again] == [(0, True), (2, True), (4, True)]
            assert server.data_empty()


@scenario
async def half_a_message_is_still_half_after_a_restart(place: Place) -> None:
    async with place.pusher() as client:
        async with place.server("P2M") as server:
            await client.send(b"0123456789")
            await client.send(b"abcdefghij")
            assert await server.data_get_count(13, 10) == b"0123456789abc"
        async with place.server("P2M") as server:
            assert server.data_count() == 7
            assert await server.data_get_count(2) == b"de"
        async with place.server("P2M") as server:
            assert await server.data_get() == b"fghij"
            await client.send(b"next")
            assert await server.data_get(10) == b"next"


@scenario
async def a_callback_may_send(place: Place) -> None:
    async with place.server("P2P", Json) as server, place.talker(Json) as client:
        if place.front == "aio":

            async def echo(event: Any) -> None:
                await server.send(await server.data_get())
        else:

            def echo(event: Any) -> None:  # type: ignore[misc]
                server.real.send(server.real.data_get())

        server.add_callback(echo)
        for number in range(30):
            await client.send(number)
        assert await values(client, 30) == list(range(30))


@scenario
async def both_ways_over_restarts_of_both_ends(place: Place) -> None:
    for life in range(4):
        async with place.server("P2P", Json) as server, place.talker(Json) as client:
            await server.wait_connected(1, 10)
            for number in range(10):
                await client.send(life * 10 + number)
                await server.send(life * 10 + number)
            if life % 2:  # what two lives have sent
                for end in (server, client):
                    assert await values(end, 20) == list(range(life * 10 - 10, life * 10 + 10))


@scenario
async def a_server_without_a_store_that_was_killed_leaves_messages_in_doubt(place: Place) -> None:
    """What was sent and not acknowledged is named, and never sent again; the rest goes on."""
    ear = Ear()
    loop = asyncio.get_running_loop()
    with FaultyProxy(place.address, eat_acks=True) as proxy, Child("forget", place.address) as child:
        assert await loop.run_in_executor(None, child.line) == "ready"
        async with place.client(
            "P2M", proxy.address, Json, store=place.folder / "c", reconnect=NOW
        ) as client:
            client.add_callback(ear, EventKind.ERROR)
            receipts = [await client.send(number) for number in range(5)]
            await until(lambda: len(child.lines) == 6)  # it has taken them, and nobody knows
            await loop.run_in_executor(None, child.kill)
            receipts += [await client.send(number) for number in range(5, 10)]
            proxy.change(eat_acks=False)
            async with place.server("P2M", Json, store=None) as server:
                error = await until(lambda: next((e.error for e in ear.events if e.receipt is None), None))
                assert isinstance(error, SessionLost)
                assert all(not e.error.in_doubt for e in ear.events if e.receipt is not None)
                assert [each.payload for each in error.in_doubt] == [b"0", b"1", b"2", b"3", b"4"]
                assert await values(server, 5) == [5, 6, 7, 8, 9]
                for receipt in receipts[:5]:
                    with pytest.raises(SessionLost):
                        await receipt.wait(timeout=5)
                assert await receipts[9].wait(timeout=5) >= Stage.RECEIVED
                assert server.data_empty()


@scenario
async def a_spool_may_be_longer_than_the_send_window(place: Place) -> None:
    count = 100_000
    async with place.pusher(Json, limits=Limits(window_messages=100)) as client:
        assert await client.send_many(range(count)) == count
    async with (
        place.server("P2M", Json, store=None) as server,
        place.pusher(Json, limits=Limits(window_messages=10_000)) as client,
    ):
        found: list[int] = []
        while len(found) < count:
            found.append(await server.data_get(20))
            found += server.data_get_all()
        assert found == list(range(count))
        await client.flush(20)


@scenario
async def stop_does_not_wait_for_a_server_that_is_away(place: Place) -> None:
    client = await place.pusher(Json).start()
    await client.send_many(range(100))
    began = time.monotonic()
    assert await client.stop() is False
    assert time.monotonic() - began < PROMPT
    talker = await place.talker(Json, store="talker").start(wait=False)
    await talker.send("x")
    began = time.monotonic()
    assert await talker.stop() is False
    assert time.monotonic() - began < PROMPT
    async with place.server("P2M", Json) as server, place.pusher(Json):
        assert await values(server, 100) == list(range(100))


@scenario
async def the_same_object_may_be_started_again_and_has_the_rest(place: Place) -> None:
    server = place.server("P2M", Json)
    client = place.pusher(Json)
    taken: list[Any] = []
    for life in range(3):
        async with server, client:
            await client.send_many(range(life * 10, life * 10 + 10))
            await client.flush(10)
            taken += await values(server, 3)
        assert server.data_get_all() == []  # it is in the store, for the next start
    async with server:
        assert taken == list(range(9))
        assert [await server.data_get(0) for _ in range(21)] == list(range(9, 30))
        assert server.data_empty()


@scenario
async def a_large_message_goes_through_stores(place: Place) -> None:
    limits = Limits(message=30_000_000, mailbox_bytes=64_000_000, window_bytes=64_000_000)
    body = bytes(range(256)) * 80_000
    async with place.pusher(limits=limits) as client:
        await client.send(body)
    async with place.server("P2M", limits=limits) as server, place.pusher(limits=limits) as client:
        await client.flush(30)
        await until(lambda: server.data_count() == len(body))
    async with place.server("P2M", limits=limits) as server:
        assert await server.data_get(10) == body


@scenario
async def numbers_are_counted_as_without_a_store(place: Place) -> None:
    async with place.server("P2M", Json) as server, place.pusher(Json) as client:
        for number in range(7):
            await client.send(number)
        await client.flush(10)
        assert client.statistics().messages_sent == 7
        assert server.statistics().messages_received == server.statistics().waiting == 7
        assert len(server.data_get_all()) == 7


@scenario
async def two_tasks_that_send_at_once_share_the_store(place: Place) -> None:
    async with place.pusher(Json) as client:
        await asyncio.gather(*(client.send(number) for number in range(30)))
        async with place.server("P2M", Json) as server:
            assert sorted(await values(server, 30)) == list(range(30))


@scenario
async def a_broadcast_is_one_commit_for_all_peers(place: Place) -> None:
    commits = place.spooled
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(place.server("P2P", Json, max_peers=3))
        place.address = server.address
        clients = [place.talker(Json, store=None, name=f"talker {number}") for number in range(3)]
        for client in clients:
            await stack.enter_async_context(client)
        receipts = await server.broadcast("all")
        assert {peer.name for peer in receipts} == {f"talker {number}" for number in range(3)}
        assert commits == [3]
        assert [await values(client, 1) for client in clients] == [["all"]] * 3
        for receipt in receipts.values():
            assert await receipt.wait(Stage.TAKEN, 10) is Stage.TAKEN


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.__name__) for each in SCENARIOS])
def test_durable(scenario: Any, place: Place) -> None:
    play(scenario, place)


@pytest.mark.parametrize("module", [linkbox, aio], ids=FRONTS)
def test_what_a_store_cannot_be_combined_with_is_said(module: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for make, word in [
        (lambda: module.ServerAR("tcp://127.0.0.1:0", store=store), "never executed twice"),
        (lambda: module.ClientAR("tcp://127.0.0.1:1", store=store), "never executed twice"),
        (lambda: module.ServerP2P("tcp://127.0.0.1:0", overflow="drop_oldest", store=store), "block"),
        (lambda: module.ClientP2P("tcp://127.0.0.1:1", overflow="drop_newest", store=store), "block"),
        (lambda: module.ClientP2M("tcp://127.0.0.1:1", reconnect=None, store=store), "reconnect"),
        (lambda: module.ClientP2P("tcp://127.0.0.1:1", framing=Lines(), store=store), "framing"),
        (lambda: module.ClientP2M("tcp://127.0.0.1:1", framing=Lines(), store=store), "framing"),
    ]:
        with pytest.raises(ValueError, match=word):
            make()
    for wrong in (7, "", b""):
        with pytest.raises(TypeError, match="path of a file"):
            module.ClientP2M("tcp://127.0.0.1:1", store=wrong)
    assert not store.exists()


def test_send_after_stop_is_a_state_error_and_not_in_the_store(tmp_path: Path) -> None:
    client = linkbox.ClientP2P(nowhere(), Bytes, store=tmp_path / "store", reconnect=NOW)
    client.start(wait=False)
    client.stop()
    with pytest.raises(StateError):
        client.send(b"x")

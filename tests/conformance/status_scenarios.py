"""State, statistics and log lines, on every pair of front ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from linkbox import (
    Backoff,
    Bytes,
    ConnectFailed,
    EndpointState,
    EventKind,
    Json,
    Limits,
    Lines,
    LinkError,
    PeerLost,
    Refused,
    Text,
)
from tests.conformance.fronts import Ear, World, until

STATUS_SCENARIOS: list[Any] = []
FORGED = "x\n2026 CRITICAL forged \x1b[31m\u202e"
"""A name that would write a line of its own, in red and backwards."""


def scenario(function: Any) -> Any:
    STATUS_SCENARIOS.append(function)
    return function


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, event: str, endpoint: str = "") -> list[Any]:
        """The records about this, of endpoints whose class begins like that."""
        return [
            each
            for each in self.records
            if each.__dict__["event"] == event and each.__dict__["endpoint"].startswith(f"<{endpoint}")
        ]


@contextmanager
def logged(level: int = logging.DEBUG) -> Iterator[Records]:
    log, handler = logging.getLogger("linkbox"), Records()
    before, is_passed_on = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    try:
        yield handler
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
        log.propagate = is_passed_on


@scenario
async def the_state_says_what_an_endpoint_is_doing(world: World) -> None:
    server = world.server("P2P", Bytes())
    assert server.state is EndpointState.NEW
    assert (server.connected, server.ended, server.retry_at) == (False, False, None)
    async with server:
        assert server.state is EndpointState.LISTENING
        client = world.client("P2P", server.address, Bytes())
        assert client.state is EndpointState.NEW
        async with client:
            await server.wait_connected()
            assert (client.state, client.connected) == (EndpointState.CONNECTED, True)
            assert server.connected
            await server.send(b"last")
            await server.end()
            await until(lambda: client.ended)
            assert not client.data_empty(), "ended means: nothing more arrives, not: nothing is there"
            assert await client.data_get() == b"last"
            await client.end()
            await until(lambda: client.state is EndpointState.ENDED)
            assert not client.connected
            assert client.last_error is None
        assert (client.state, client.ended) == (EndpointState.STOPPED, True)
        assert not server.ended
    assert (server.state, server.ended) == (EndpointState.STOPPED, True)


@scenario
async def a_loop_that_polls_can_see_the_end(world: World) -> None:
    async with world.server("P2P", Json()) as server, world.client("P2P", server.address, Json()) as client:
        await server.wait_connected()
        for number in range(20):
            await server.send(number)
        await server.end()
        found = []
        while not (client.ended and client.data_empty()):
            if client.data_empty():
                await asyncio.sleep(0)
            else:
                found.append(await client.data_get(timeout=0))
        assert found == list(range(20))


@scenario
async def a_client_that_cannot_connect_says_why_and_when_it_tries_again(world: World) -> None:
    server = world.server("P2P", Bytes())
    async with server:
        pass
    backoff = Backoff(initial=30.0, maximum=30.0, jitter=0.0)
    client = world.client("P2P", server.address, Bytes(), reconnect=backoff, connect_timeout=60.0)
    await client.start(wait=False)
    try:
        await until(lambda: client.retry_at is not None and client.retry_at > time.time() + 1)
        assert client.state is EndpointState.CONNECTING
        assert client.retry_at < time.time() + 31
        numbers = client.statistics()
        assert numbers.attempts == 2
        assert numbers.last_error is client.last_error is not None
        assert numbers.errors_by_kind == {type(client.last_error).__name__: 2}
        assert numbers.last_error_at is not None
        assert abs(time.time() - numbers.last_error_at) < 30
        assert "2 attempts in a row have failed, the next attempt is in" in numbers.waits_for
    finally:
        await client.stop(0.0)
    assert client.retry_at is None


@scenario
async def idle_clients_connect_with_the_first_message(world: World) -> None:
    async with world.server("AR", Bytes(), handler=world.handler(lambda request: request.data)) as server:
        client = world.client("AR", server.address, Bytes())
        async with client:
            assert client.state is EndpointState.IDLE
            assert await client.ask(b"x") == b"x"
            await until(lambda: client.state is EndpointState.IDLE)
            times = client.statistics().answer_times
            assert times is not None
            assert times.count == 1
            assert 0 < times.p50 <= times.p99


@scenario
async def connections_are_logged_with_their_peers(world: World) -> None:
    with logged(logging.INFO) as log:
        async with world.server("P2P", Bytes(), name="the server") as server:
            (listening,) = log.of("listening")
            assert listening.name == "linkbox.server"
            assert server.address in listening.getMessage()
            async with world.client("P2P", server.address, Bytes(), name="the client"):
                await server.wait_connected()
            await until(lambda: log.of("disconnected", "ServerP2P"))
        (up,) = log.of("connected", "ServerP2P")
        assert (up.levelno, up.peer) == (logging.INFO, "the client")
        assert "the client" in up.getMessage()
        (down,) = log.of("disconnected", "ServerP2P")
        assert down.reason == "the conversation has ended"
        (up,) = log.of("connected", "ClientP2P")
        assert (up.name, up.peer) == ("linkbox.client", "the server")
        assert {each.endpoint.split(" ")[0] for each in log.of("stopped")} == {"<ServerP2P", "<ClientP2P"}


@scenario
async def a_cut_connection_is_logged_with_what_it_has_cost(world: World) -> None:
    async with world.server("P2P", Bytes()) as server:
        relay = await world.relay(server.address)
        try:
            with logged(logging.INFO) as log:
                async with world.client("P2P", relay.address, Bytes()) as client:
                    await server.wait_connected()
                    for _ in range(5):
                        await client.send(b"x")
                    await relay.cut()
                    await until(lambda: log.of("resumed", "ClientP2P"))
                    for _ in range(5):
                        await server.data_get()
                    assert client.statistics().errors_by_kind == {"PeerLost": 1}
                (resumed,) = log.of("resumed", "ClientP2P")
                assert 0 <= resumed.sent_again <= 5
                assert resumed.gone >= 0
                assert f"{resumed.sent_again} messages are sent again" in resumed.getMessage()
                down, _ = log.of("disconnected", "ClientP2P")
                assert "the connection broke" in down.reason or "closed" in down.reason
        finally:
            await relay.close()


@scenario
async def refusals_are_logged_and_counted_by_their_codes(world: World) -> None:
    with logged(logging.INFO) as log:
        async with world.server("P2P", Json()) as server:
            client = world.client("P2P", server.address, Bytes())
            with pytest.raises(Refused, match="json"):
                await client.start()
            (refused,) = log.of("refused", "ClientP2P")
            assert "the format here is json" in refused.reason
            assert client.statistics().errors_by_kind == {"Refused: format": 1}
            assert server.statistics().errors_by_kind == {"Refused: format": 1}
            (line,) = log.of("refused", "ServerP2P")
            assert line.levelno == logging.WARNING


@scenario
async def the_name_of_a_peer_cannot_forge_a_line(world: World) -> None:
    with logged() as log:
        server = world.server("P2P", Bytes())
        async with server, world.client("P2P", server.address, Bytes(), name=FORGED):
            await server.wait_connected()
            (peer,) = server.peers()
            assert peer.name == FORGED, "the attribute is the original"
        texts = [each.getMessage() for each in log.records]
        texts += [str(each.__dict__.get("peer", "")) for each in log.records]
        texts += [str(each.__dict__.get("reason", "")) for each in log.records]
        assert any("forged" in text for text in texts)
        assert all(text.isprintable() for text in texts)


@scenario
async def details_are_logged_for_who_wants_them(world: World) -> None:
    limits = Limits(heartbeat=0.05)
    with logged() as log:
        server = world.server("P2P", Bytes(), limits=limits)
        async with server, world.client("P2P", server.address, Bytes(), limits=limits) as client:
            await until(lambda: client.statistics().round_trips is not None)
        assert log.of("connecting", "ClientP2P")
        assert log.of("handshake", "ClientP2P")
        assert log.of("handshake", "ServerP2P")
        beats = log.of("heartbeat", "ClientP2P")
        assert any("round_trip" in each.__dict__ for each in beats)
        assert {each.levelno for each in beats} == {logging.DEBUG}


@scenario
async def a_full_mailbox_is_seen_on_both_sides(world: World) -> None:
    limits = Limits(mailbox_messages=10, window_messages=20)
    server = world.server("P2P", Bytes(), limits=limits)
    async with server, world.client("P2P", server.address, Bytes(), limits=limits) as client:
        await server.wait_connected()
        for number in range(20):
            await client.send(b"%d" % number)
        await until(lambda: server.statistics().mailbox_share >= 1.0)
        assert client.statistics().window_share > 0
        await until(lambda: "messages fill the mailbox" in server.statistics().waits_for)
        await until(lambda: "credit" in client.statistics().waits_for)
        (of_peer,) = server.statistics().peers.values()
        assert of_peer.mailbox_share >= 1.0
        for number in range(20):
            assert await server.data_get() == b"%d" % number
        await until(lambda: not server.statistics().waits_for and not client.statistics().waits_for)
        assert server.statistics().mailbox_share < 1.0


SLOW = Backoff(initial=600.0, maximum=600.0, jitter=0.0)


@scenario
async def a_request_after_an_outage_connects_at_once(world: World) -> None:
    """The pause before the next attempt is for clients that nobody waits for."""
    server = await world.server("AR", Bytes(), handler=world.handler(lambda request: request.data)).start()
    address = server.address
    options = {"keep_alive": True, "connect_timeout": 600.0, "reconnect": SLOW}
    client = world.client("AR", address, Bytes(), **options)
    async with client:
        assert await client.ask(b"before", timeout=60) == b"before"
        assert await server.stop()
        with pytest.raises(LinkError):
            await client.ask(b"x", timeout=0.2)
        with pytest.raises(ConnectFailed):
            await client.ask(b"x", timeout=0.2)
        assert client.retry_at is not None, "it waits, and would wait for minutes"
        await server.start()
        assert server.address == address
        assert await client.ask(b"after", timeout=60) == b"after"
        assert await client.stop(), "requests whose callers know that they failed do not count"
    await server.stop()


@scenario
async def a_start_ends_the_pause_of_a_client_that_could_not_connect(world: World) -> None:
    server = world.server("P2P", Bytes())
    async with server:
        pass
    client = world.client("P2P", server.address, Bytes(), reconnect=SLOW, connect_timeout=3600.0)
    await client.start(wait=False)
    await until(lambda: client.retry_at is not None and client.retry_at > time.time() + 60)
    async with server:
        await client.start()
        assert client.connected
        await client.stop()


@scenario
async def a_client_that_gives_up_says_so_where_nobody_waits(world: World) -> None:
    server = world.server("P2P", Bytes())
    async with server:
        pass
    quick = Backoff(initial=0.01, maximum=0.02)
    client = world.client("P2P", server.address, Bytes(), reconnect=quick, connect_timeout=0.2)
    with logged(logging.WARNING) as log:
        with pytest.raises(ConnectFailed):
            await client.start()
        assert log.of("gave_up") == [], "the exception has said it"
        await client.start(wait=False)
        await until(lambda: client.state is EndpointState.ENDED)
        assert isinstance(client.last_error, ConnectFailed)
        await client.stop()
        (line,) = log.of("gave_up", "ClientP2P")
    assert "gave up after 0." in line.getMessage()
    assert "s without a connection: " in line.getMessage()
    assert line.reason in line.getMessage()


@scenario
async def a_device_that_hangs_up_is_lost_until_the_client_has_connected_again(world: World) -> None:
    options: Any = {"framing": Lines(), "format": Text()}
    device = await world.server("P2P", **options).start()
    ear = Ear()
    client = world.client("P2P", device.address, **options, reconnect=Backoff(initial=0.01, maximum=0.05))
    client.add_callback(ear, EventKind.CONNECTED, EventKind.DISCONNECTED)
    with logged(logging.INFO) as log:
        await client.start()
        await device.wait_connected(timeout=60)
        await device.stop()
        error = (await ear.wait(EventKind.DISCONNECTED)).error
        assert isinstance(error, PeerLost)
        assert "closed the connection; connecting again" in str(error)
        await device.start()
        await ear.wait(EventKind.CONNECTED, 2)
        (line, *_) = log.of("disconnected", "ClientP2P")
        assert line.reason == str(error)
    await client.stop(0.0)
    await device.stop(0.0)

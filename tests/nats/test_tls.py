"""TLS to the broker, from the first byte: a password is never sent in the clear."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from linkbox import ConnectFailed, Nats
from tests.conformance.fronts import FRONTS, play
from tests.nats.servers import MISSING, NatsServer, binary
from tests.nats.world import NatsWorld, world_of
from tests.tls.certificates import Authority

SECRET = "s3cret-word"


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_all_goes_through_tls(front: str, authority: Authority) -> None:
    issued = authority.issue("broker", "127.0.0.1")
    tls = f'tls {{ cert_file: "{issued.cert}", key_file: "{issued.key}", handshake_first: true }}\n'
    account = f'authorization {{ users: [{{ user: joe, password: "{SECRET}" }}] }}\n'

    async def scenario(world: NatsWorld) -> None:
        settings = Nats(user="joe", password=SECRET)
        handler = world.handler(lambda request: request.data)
        trusting = authority.client()
        async with world.server("AR", handler=handler, ssl=trusting, broker=settings) as server:
            assert server.address.startswith("nats+tls://")
            client = world.client("AR", server.address, ssl=trusting, broker=settings)
            assert await client.ask(b"x", 10) == b"x"
            await client.stop()
            distrusting = world.client("AR", server.address, broker=settings, reconnect=None)
            with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
                await distrusting.ask(b"x", 10)
            await distrusting.stop()

    if binary() is None:
        pytest.skip(MISSING)
    with NatsServer(tls + account) as broker:
        play(scenario, world_of(front, broker.url()))


def test_a_broker_without_tls_gets_no_password(front: str, authority: Authority) -> None:
    received = bytearray()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b'INFO {"server_id": "x", "version": "2.15.1", "max_payload": 1000, "headers": true}\r\n'
        )
        try:
            while data := await reader.read(4096):
                received.extend(data)
        except OSError:
            pass
        writer.close()

    async def scenario(world: NatsWorld) -> None:
        listening = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        client: Any = world.client(
            "AR",
            f"nats+tls://joe:{SECRET}@127.0.0.1:{port}/x",
            ssl=authority.client(),
            reconnect=None,
            connect_timeout=3.0,
        )
        with pytest.raises(ConnectFailed):
            await client.ask(b"x", 10)
        await client.stop()
        listening.close()
        assert received, "it has tried"
        assert SECRET.encode() not in received

    play(scenario, world_of(front, "nats://127.0.0.1/x"))

"""accept= on the aio servers: a function or a coroutine function; only newcomers wait for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from linkbox import Json, Limits, PeerInfo, Refused
from linkbox.aio import ClientP2P, ServerP2P


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_by_name(is_coroutine: bool, caplog: pytest.LogCaptureFixture) -> None:
    def decide(info: PeerInfo) -> bool:
        return {"pump": True, "valve": False}[info.name]

    async def decide_later(info: PeerInfo) -> bool:
        await asyncio.sleep(0)
        return decide(info)

    async def main() -> None:
        accept: Any = decide_later if is_coroutine else decide
        async with ServerP2P("tcp://127.0.0.1:0", Json, accept=accept) as server:
            async with ClientP2P(server.address, Json, name="pump") as client:
                await client.send(1)
                assert await server.data_get(5) == 1
            for name in ("valve", "raises"):
                with pytest.raises(Refused, match="rejected by the server's accept=") as caught:
                    await ClientP2P(server.address, Json, name=name).start()
                assert caught.value.code == "denied"

    asyncio.run(main())
    assert "KeyError: 'raises'" in caplog.text


def test_one_that_takes_for_ever_does_not_shut_the_door(caplog: pytest.LogCaptureFixture) -> None:
    async def accept(info: PeerInfo) -> bool:
        if info.name == "slow":
            await asyncio.sleep(3600)
        return True

    async def main() -> None:
        limits = Limits(handshake=0.3)
        async with ServerP2P("tcp://127.0.0.1:0", Json, accept=accept, limits=limits) as server:
            with pytest.raises(ConnectionError):
                await ClientP2P(server.address, Json, name="slow", reconnect=None).start()
            async with ClientP2P(server.address, Json, name="quick") as client:
                await client.send(1)
                assert await server.data_get(5) == 1

    asyncio.run(main())
    assert "accept= of" in caplog.text


def test_stop_while_it_waits() -> None:
    async def main() -> None:
        began = asyncio.Event()

        async def accept(info: PeerInfo) -> bool:
            began.set()
            await asyncio.sleep(3600)
            return True

        server = await ServerP2P("tcp://127.0.0.1:0", accept=accept).start()
        client = await ClientP2P(server.address, reconnect=None).start(wait=False)
        await asyncio.wait_for(began.wait(), 5)
        await asyncio.wait_for(server.stop(timeout=0.5), 5)
        await client.stop(timeout=0.5)

    asyncio.run(main())

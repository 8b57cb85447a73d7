"""linkbox.aio, on asyncio's own loop; `ours_aio_uvloop` is the same on uvloop."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from benchmarks.checks import bodies, check, time_each_async
from benchmarks.measure import Stage
from benchmarks.peers.streams import crowd
from linkbox.aio import ClientAR, ClientP2M, ClientP2P, ServerAR, ServerP2M, ServerP2P

ANY = "tcp://127.0.0.1:0"


def _run(main: Any) -> Any:
    return asyncio.run(main)


async def _time_each(ask: Any, stage: Stage) -> list[float]:
    return await time_each_async(ask, bodies(stage.params["count"], stage.params["size"]))


def echo_server(stage: Stage) -> None:
    async def main() -> None:
        async with ServerP2P(ANY) as server:
            stage.ready(server.address)
            while True:
                await server.send(await server.data_get())

    _run(main())


def echo_client(stage: Stage) -> list[float]:
    async def main() -> list[float]:
        async with ClientP2P(stage.address) as client:

            async def ask(payload: bytes) -> bytes:
                await client.send(payload)
                return await client.data_get()

            return await _time_each(ask, stage)

    times: list[float] = _run(main())
    return times


def ask_server(stage: Stage) -> None:
    async def main() -> None:
        async with ServerAR(ANY, handler=lambda request: request.data) as server:
            stage.ready(server.address)
            await asyncio.to_thread(stage.wait_for_end)

    _run(main())


def ask_client(stage: Stage) -> list[float]:
    async def main() -> list[float]:
        async with ClientAR(stage.address, keep_alive=True) as client:
            return await _time_each(client.ask, stage)

    times: list[float] = _run(main())
    return times


crowd_server = ask_server


def crowd_client(stage: Stage) -> float:
    """All tasks ask through one client."""

    async def main() -> float:
        async with ClientAR(stage.address, keep_alive=True) as client:

            async def asker() -> Any:
                return client.ask

            return await crowd(asker, stage)

    rate: float = _run(main())
    return rate


connect_server = ask_server


def connect_client(stage: Stage) -> list[float]:
    async def main() -> list[float]:
        async with ClientAR(stage.address) as client:
            return await _time_each(client.ask, stage)

    times: list[float] = _run(main())
    return times


def push_server(stage: Stage) -> float:
    count, size = stage.params["count"], stage.params["size"]

    async def main() -> tuple[list[bytes], float]:
        async with ServerP2M(ANY) as server:
            stage.ready(server.address)
            get = server.data_get
            found = [await get()]
            start = perf_counter()
            found += [await get() for _ in range(count - 1)]
            return found, perf_counter() - start

    found, elapsed = _run(main())
    check(found, count, size)
    return float(count / elapsed)


def push_client(stage: Stage) -> None:
    async def main() -> None:
        messages = bodies(stage.params["count"], stage.params["size"])
        assert await ClientP2M(stage.address).send_many(messages) == len(messages)
        await asyncio.to_thread(stage.wait_for_end)

    _run(main())

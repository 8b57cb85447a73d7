"""linkbox.aio over NATS, on asyncio's own loop."""

from __future__ import annotations

import asyncio
from time import perf_counter

from benchmarks import broker
from benchmarks.checks import bodies, check
from benchmarks.measure import Stage
from benchmarks.peers import ours_aio
from linkbox.aio import ClientP2M, ServerAR, ServerP2M, ServerP2P


def echo_server(stage: Stage) -> None:
    async def main() -> None:
        async with ServerP2P(broker.address()) as server:
            stage.ready(server.address)
            while True:
                await server.send(await server.data_get())

    asyncio.run(main())


echo_client = ours_aio.echo_client


def ask_server(stage: Stage) -> None:
    async def main() -> None:
        async with ServerAR(broker.address(), handler=lambda request: request.data) as server:
            stage.ready(server.address)
            await asyncio.to_thread(stage.wait_for_end)

    asyncio.run(main())


ask_client = ours_aio.ask_client


def kept_server(stage: Stage) -> None:
    count, size = stage.params["count"], stage.params["size"]

    async def main() -> None:
        async with ServerP2M(broker.address()) as server:
            stage.ready(server.address)
            check([await server.data_get() for _ in range(count)], count, size)
            await asyncio.to_thread(stage.wait_for_end)

    asyncio.run(main())


def kept_client(stage: Stage) -> float:
    messages = bodies(stage.params["count"], stage.params["size"])

    async def main() -> float:
        async with ClientP2M(stage.address) as client:
            start = perf_counter()
            assert await client.send_many(messages) == len(messages)
            return len(messages) / (perf_counter() - start)

    return asyncio.run(main())

"""nats-py without linkbox: request and reply, messages both ways, JetStream."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import nats
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig

from benchmarks import broker
from benchmarks.checks import bodies, check, time_each_async
from benchmarks.measure import Stage

FETCHED = 256
"""Messages of the stream that are fetched, and published, at a time."""


def ask_server(stage: Stage) -> None:
    async def main() -> None:
        nc = await nats.connect(broker.url())
        subject = broker.name()

        async def answer(message: Any) -> None:
            await message.respond(message.data)

        await nc.subscribe(subject, queue="servers", cb=answer)
        await nc.flush()
        stage.ready(subject)
        await asyncio.to_thread(stage.wait_for_end)
        await nc.close()

    asyncio.run(main())


def ask_client(stage: Stage) -> list[float]:
    async def main() -> list[float]:
        nc = await nats.connect(broker.url())

        async def ask(payload: bytes) -> bytes:
            return bytes((await nc.request(stage.address, payload, timeout=10)).data)

        times = await time_each_async(ask, bodies(stage.params["count"], stage.params["size"]))
        await nc.close()
        return times

    return asyncio.run(main())


echo_server = ask_server


def echo_client(stage: Stage) -> list[float]:
    """Published, and published back to a subject of the client."""

    async def main() -> list[float]:
        nc = await nats.connect(broker.url())
        inbox = nc.new_inbox()
        found: asyncio.Queue[bytes] = asyncio.Queue()

        async def arrived(message: Any) -> None:
            found.put_nowait(message.data)

        await nc.subscribe(inbox, cb=arrived)

        async def ask(payload: bytes) -> bytes:
            await nc.publish(stage.address, payload, reply=inbox)
            return await found.get()

        times = await time_each_async(ask, bodies(stage.params["count"], stage.params["size"]))
        await nc.close()
        return times

    return asyncio.run(main())


def kept_server(stage: Stage) -> None:
    """A work queue in a file; a pull consumer that acknowledges each message."""
    count, size = stage.params["count"], stage.params["size"]

    async def main() -> None:
        nc = await nats.connect(broker.url())
        js, subject = nc.jetstream(), broker.name()
        config = StreamConfig(name=subject, subjects=[subject], retention=RetentionPolicy.WORK_QUEUE)
        await js.add_stream(config)
        consumer = await js.pull_subscribe(subject, "servers", config=ConsumerConfig(max_ack_pending=-1))
        stage.ready(subject)
        found: list[bytes] = []
        while len(found) < count:
            for message in await consumer.fetch(min(FETCHED, count - len(found)), timeout=60):
                found.append(message.data)
                await message.ack()
        check(found, count, size)
        await asyncio.to_thread(stage.wait_for_end)
        await nc.close()

    asyncio.run(main())


def kept_client(stage: Stage) -> float:
    """Published without waiting, but for so many at a time, until all is acknowledged."""
    messages = bodies(stage.params["count"], stage.params["size"])

    async def main() -> float:
        nc = await nats.connect(broker.url())
        js = nc.jetstream(publish_async_max_pending=FETCHED)
        start = perf_counter()
        acknowledged = [await js.publish_async(stage.address, message) for message in messages]
        await asyncio.gather(*acknowledged)
        elapsed = perf_counter() - start
        await nc.close()
        return len(messages) / elapsed

    return asyncio.run(main())

"""asyncio: sensors that push, requests for their values, and a P2P connection, all in one event loop."""

import asyncio

from linkbox import Json
from linkbox.aio import ClientAR, ClientP2M, ClientP2P, ServerAR, ServerP2M, ServerP2P

latest: dict[str, float] = {}


async def collect(server: ServerP2M) -> None:
    """Keep the newest value of each sensor, until the server stops."""
    async for reading in server:
        latest[reading["sensor"]] = reading["value"]


async def sense(address: str, name: str) -> None:
    """A sensor: a few readings over one connection."""
    client = ClientP2M(address, Json)
    await client.send_many({"sensor": name, "value": float(number)} for number in range(100))
    await client.stop()


async def main() -> None:
    async def answer(request):
        return latest.get(request.data)

    async with (
        ServerP2M("tcp://127.0.0.1:0", Json) as readings,
        ServerAR("tcp://127.0.0.1:0", Json, handler=answer) as questions,
        ServerP2P("tcp://127.0.0.1:0", Json) as console,
    ):
        collecting = asyncio.create_task(collect(readings))
        await asyncio.gather(*(sense(readings.address, f"pump {number}") for number in range(5)))
        async with ClientAR(questions.address, Json) as client:
            print("pump 3 says", await client.ask("pump 3"))
        async with ClientP2P(console.address, Json) as operator:
            receipt = await operator.send("all well?")
            await receipt  # waits until it is in the console's mailbox
            print("asked:", await console.data_get())
            await console.send("yes")
            print("answer:", await operator.data_get())
        await readings.stop()
        await collecting


asyncio.run(main())

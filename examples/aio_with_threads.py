"""Threads and asyncio in one program: threaded endpoints from coroutines, and an aio endpoint beside them."""

import asyncio

from linkbox import ClientP2P, Json, aio


def converse(address: str) -> list[str]:
    """A blocking part of the program, without asyncio."""
    with ClientP2P(address, Json) as client:
        client.send("hello from a thread")
        return [client.data_get(5), client.data_get(5)]


async def main() -> None:
    async with aio.ServerP2P("tcp://127.0.0.1:0", Json) as server:
        conversation = asyncio.create_task(asyncio.to_thread(converse, server.address))
        print(await server.data_get())
        await server.send("hello from the loop")
        await server.send("good bye")
        print(await conversation)

    # The reverse: a threaded endpoint in a coroutine. Each call that may wait runs in a thread.
    async with aio.ServerAR(
        "tcp://127.0.0.1:0", Json, handler=lambda request: request.data.upper()
    ) as server:
        from linkbox import ClientAR

        client = ClientAR(server.address, Json, keep_alive=True)
        print(
            await asyncio.gather(*(asyncio.to_thread(client.ask, word) for word in ("one", "two", "three")))
        )
        await asyncio.to_thread(client.stop)


asyncio.run(main())

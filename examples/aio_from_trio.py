"""From Trio: threaded endpoints need no bridge; linkbox.aio runs behind anyio's blocking portal.

Needs trio and anyio.
"""

from linkbox import ClientAR, Json
from linkbox.aio import ServerAR

try:
    import trio
    from anyio.from_thread import start_blocking_portal
except ImportError:
    raise SystemExit("this example needs: pip install trio anyio") from None


async def main() -> None:
    # An asyncio loop in a separate thread, for code that needs asyncio.
    with start_blocking_portal(backend="asyncio") as portal:
        server = ServerAR("tcp://127.0.0.1:0", Json, handler=lambda request: request.data[::-1])
        await trio.to_thread.run_sync(portal.call, server.start)

        # The threaded client, from Trio: each call that may wait runs in a thread.
        client = ClientAR(server.address, Json, keep_alive=True)

        async def ask(word: str) -> None:
            print(word, await trio.to_thread.run_sync(client.ask, word))

        async with trio.open_nursery() as nursery:
            for word in ("stressed", "drawer", "live"):
                nursery.start_soon(ask, word)
        await trio.to_thread.run_sync(client.stop)
        await trio.to_thread.run_sync(portal.call, server.stop)


trio.run(main)

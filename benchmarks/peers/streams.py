"""asyncio streams with frames written by hand: a length and the body, buffered writes, one drain a batch."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

from benchmarks.checks import bodies, check
from benchmarks.measure import Stage

_length = struct.Struct("!I")
LIMIT = 1 << 20


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


async def _read(reader: asyncio.StreamReader) -> bytes:
    length = _length.unpack(await reader.readexactly(4))[0]
    return await reader.readexactly(length)


def _frame(payload: bytes) -> bytes:
    return _length.pack(len(payload)) + payload


async def _serve(stage: Stage, handle: Any) -> asyncio.Server:
    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=LIMIT)
    stage.ready(server.sockets[0].getsockname())
    return server


def echo_server(stage: Stage) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(_frame(await _read(reader)))
        except asyncio.IncompleteReadError:
            writer.close()

    async def main() -> None:
        server = await _serve(stage, handle)
        await server.serve_forever()

    _run(main())


def echo_client(stage: Stage) -> list[float]:
    async def main() -> list[float]:
        reader, writer = await asyncio.open_connection(*stage.address, limit=LIMIT)
        times = []
        for payload in bodies(stage.params["count"], stage.params["size"]):
            start = perf_counter()
            writer.write(_frame(payload))
            answer = await _read(reader)
            times.append(perf_counter() - start)
            if answer != payload:
                raise AssertionError("the echo is not what was sent")
        writer.close()
        return times[50:]

    times: list[float] = _run(main())
    return times


def push_server(stage: Stage) -> float:
    count, size = stage.params["count"], stage.params["size"]
    done: asyncio.Future[float]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = [await _read(reader)]
        start = perf_counter()
        found += [await _read(reader) for _ in range(count - 1)]
        elapsed = perf_counter() - start
        check(found, count, size)
        done.set_result(count / elapsed)
        writer.close()

    async def main() -> float:
        nonlocal done
        done = asyncio.get_running_loop().create_future()
        await _serve(stage, handle)
        return await done

    rate: float = _run(main())
    return rate


def push_client(stage: Stage) -> None:
    async def main() -> None:
        _, writer = await asyncio.open_connection(*stage.address)
        for number, body in enumerate(bodies(stage.params["count"], stage.params["size"])):
            writer.write(_frame(body))
            if number % 512 == 0:
                await writer.drain()
        await writer.drain()
        await asyncio.to_thread(stage.wait_for_end)

    _run(main())


large_server, large_client = push_server, push_client

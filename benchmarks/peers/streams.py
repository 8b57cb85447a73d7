"""asyncio streams with frames written by hand: a length and the body, buffered writes, one drain a batch."""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

from benchmarks import certificates
from benchmarks.checks import bodies, check, time_each_async
from benchmarks.idle import Crowd, rss
from benchmarks.measure import Stage
from benchmarks.peers.bare import _connect

_length = struct.Struct("!I")
LIMIT = 1 << 20


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


async def _read(reader: asyncio.StreamReader) -> bytes:
    length = _length.unpack(await reader.readexactly(4))[0]
    return await reader.readexactly(length)


def _frame(payload: bytes) -> bytes:
    return _length.pack(len(payload)) + payload


async def _serve(stage: Stage, handle: Any, context: ssl.SSLContext | None = None) -> asyncio.Server:
    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=LIMIT, ssl=context, backlog=1024)
    stage.ready(server.sockets[0].getsockname())
    return server


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(_frame(await _read(reader)))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def echo_server(stage: Stage, context: ssl.SSLContext | None = None) -> None:
    async def main() -> None:
        server = await _serve(stage, _echo, context)
        await server.serve_forever()

    _run(main())


async def _asker(stage: Stage, context: ssl.SSLContext | None = None) -> tuple[Any, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*stage.address, limit=LIMIT, ssl=context)

    async def ask(payload: bytes) -> bytes:
        writer.write(_frame(payload))
        return await _read(reader)

    return ask, writer


def echo_client(stage: Stage, context: ssl.SSLContext | None = None) -> list[float]:
    async def main() -> list[float]:
        ask, writer = await _asker(stage, context)
        times = await time_each_async(ask, bodies(stage.params["count"], stage.params["size"]))
        writer.close()
        return times

    times: list[float] = _run(main())
    return times


def tls_echo_server(stage: Stage) -> None:
    echo_server(stage, certificates.server_context())


def tls_echo_client(stage: Stage) -> list[float]:
    return echo_client(stage, certificates.client_context())


crowd_server = echo_server


def crowd_client(stage: Stage) -> float:
    """A connection for each task."""
    writers = []

    async def asker() -> Any:
        ask, writer = await _asker(stage)
        writers.append(writer)
        return ask

    rate: float = _run(crowd(asker, stage))
    return rate


async def crowd(asker: Any, stage: Stage) -> float:
    """So many tasks ask as fast as they can, each with an asker of its own; returns asks per second."""
    tasks, count, size = stage.params["tasks"], stage.params["count"], stage.params["size"]
    askers = [await asker() for _ in range(tasks)]
    for ask in askers:
        await ask(bytes(size))
    payloads = [bodies(count, size) for _ in askers]
    start = perf_counter()
    each = zip(askers, payloads, strict=True)
    answered = await asyncio.gather(*(time_each_async(ask, some, 0) for ask, some in each))
    return sum(map(len, answered)) / (perf_counter() - start)


def push_server(stage: Stage, context: ssl.SSLContext | None = None) -> float:
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
        await _serve(stage, handle, context)
        return await done

    rate: float = _run(main())
    return rate


def push_client(stage: Stage, context: ssl.SSLContext | None = None) -> None:
    async def main() -> None:
        _, writer = await asyncio.open_connection(*stage.address, ssl=context)
        for number, body in enumerate(bodies(stage.params["count"], stage.params["size"])):
            writer.write(_frame(body))
            if number % 512 == 0:
                await writer.drain()
        await writer.drain()
        await asyncio.to_thread(stage.wait_for_end)

    _run(main())


large_server, large_client = push_server, push_client


def tls_push_server(stage: Stage) -> float:
    return push_server(stage, certificates.server_context())


def tls_push_client(stage: Stage) -> None:
    push_client(stage, certificates.client_context())


def memory_server(stage: Stage) -> None:
    """Holds what comes; whoever says something is told what it takes."""
    writers = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while True:
                await reader.readexactly(1)
                writer.write(b"%15d %15d\n" % (rss(), len(writers)))
        except (asyncio.IncompleteReadError, ConnectionError):
            writers.discard(writer)
            writer.close()

    async def main() -> None:
        server = await _serve(stage, handle)
        await server.serve_forever()

    _run(main())


def memory_client(stage: Stage) -> float:
    """Bytes for each idle connection."""
    count = stage.params["count"]
    link = _connect(stage.address)

    def memory() -> tuple[int, int]:
        link.sendall(b"?")
        found = b""
        while not found.endswith(b"\n"):
            found += link.recv(64)
        taken, connections = found.split()
        return int(taken), int(connections)

    before, _ = memory()
    host, port = stage.address
    with Crowd(f"{host}:{port}", count) as links:
        while (found := memory())[1] < count + 1:
            links.check()
            time.sleep(0.05)  # the crowd is still coming in
    return (found[0] - before) / count

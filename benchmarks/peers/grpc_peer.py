"""gRPC with generic handlers: bytes in, bytes out, no protobuf in the way."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else it writes lines of its own between ours

import grpc
import grpc.aio

from benchmarks.checks import bodies, time_each
from benchmarks.measure import Stage
from benchmarks.peers.streams import crowd


class _Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda payload, context: payload)


def ask_server(stage: Stage) -> None:
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([_Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stage.ready(f"127.0.0.1:{port}")
    stage.wait_for_end()
    server.stop(None)


def ask_client(stage: Stage) -> list[float]:
    with grpc.insecure_channel(stage.address) as channel:
        return time_each(channel.unary_unary("/echo"), bodies(stage.params["count"], stage.params["size"]))


class _EchoAsync(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, details: Any) -> Any:
        async def echo(payload: bytes, context: Any) -> bytes:
            return payload

        return grpc.unary_unary_rpc_method_handler(echo)


def crowd_server(stage: Stage) -> None:
    """With asyncio."""

    async def main() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([_EchoAsync()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stage.ready(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    asyncio.run(main())


def crowd_client(stage: Stage) -> float:
    """All tasks ask through one channel, with asyncio."""

    async def main() -> float:
        async with grpc.aio.insecure_channel(stage.address) as channel:
            ask = channel.unary_unary("/echo")

            async def asker() -> Any:
                return ask

            return await crowd(asker, stage)

    return asyncio.run(main())

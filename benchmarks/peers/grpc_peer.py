"""gRPC with generic handlers: bytes in, bytes out, no protobuf in the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.checks import bodies, time_each
from benchmarks.measure import Stage


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

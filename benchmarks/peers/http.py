"""HTTP: uvicorn with a bare ASGI application; http.client on the other side."""

from __future__ import annotations

import http.client
import socket
from typing import Any

import uvicorn

from benchmarks.checks import bodies, time_each
from benchmarks.measure import Stage


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


def ask_server(stage: Stage) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    stage.ready(listener.getsockname())
    config = uvicorn.Config(_echo, log_level="error", lifespan="off", loop="uvloop", http="auto")
    uvicorn.Server(config).run([listener])


def ask_client(stage: Stage) -> list[float]:
    """One connection, kept."""
    link = http.client.HTTPConnection(*stage.address)
    return time_each(_asker(link), bodies(stage.params["count"], stage.params["size"]))


def _asker(link: http.client.HTTPConnection) -> Any:
    def ask(payload: bytes) -> bytes:
        link.request("POST", "/", payload)
        return link.getresponse().read()

    return ask


connect_server = ask_server


def connect_client(stage: Stage) -> list[float]:
    """A connection for each."""

    def ask(payload: bytes) -> bytes:
        link = http.client.HTTPConnection(*stage.address)
        try:
            return bytes(_asker(link)(payload))
        finally:
            link.close()

    return time_each(ask, bodies(stage.params["count"], stage.params["size"]))

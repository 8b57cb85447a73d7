"""A broker for tests of programs that use ``nats://`` addresses: no nats-server has to be there."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Final, TypeVar

from linkbox.core.broker.subjects import Subjects
from linkbox.errors import StateError
from linkbox.testing._nats_protocol import FakeClient, FakeRouter, ProtocolError

R = TypeVar("R")
TICK: Final = 0.1
"""Seconds between two looks at what is due."""


class _Connection(asyncio.Protocol):
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.transport: Any = None
        self._client: FakeClient | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._broker._connections.add(self)
        self._client = FakeClient(self._broker._router, self.transport.write)

    def data_received(self, data: bytes) -> None:
        assert self._client is not None
        try:
            self._client.receive(data)
        except ProtocolError as error:
            self.transport.write(f"-ERR '{error}'\r\n".encode())
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._broker._connections.discard(self)
        if self._client is not None:
            self._broker._router.forget(self._client)
        self.lost.set_result(None)

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class FakeBroker:
    """Acts as a nats-server towards linkbox, on a free port of 127.0.0.1, while the ``with`` block runs.

    For all six endpoints, threaded and asyncio, also in other processes: queue groups, replies that nobody
    receives, and of JetStream what P2M uses. Nothing is on a disk. With ``token``, or with ``user`` and
    ``password``, it takes nobody else. It needs no nats-server; the endpoints need ``linkbox[nats]``. What it
    does not have: TLS, nkeys, permissions, clusters, and the rest of NATS.
    """

    def __init__(self, *, token: str = "", user: str = "", password: str = "") -> None:
        self._router = FakeRouter(monotonic, user, password, token)
        self._connections: set[_Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self.port: int = 0
        """Where it listens; the same again after `kill`."""

    def __enter__(self) -> FakeBroker:
        if self._loop is not None:
            raise StateError("this FakeBroker runs already")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake broker", daemon=True)
        self._thread.start()
        self._call(self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, thread = self._loop, self._thread
        assert loop is not None and thread is not None
        self._call(self._stop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        self._loop = None

    def address(self, name: str) -> str:
        """The address of a name, for endpoints."""
        return f"nats://127.0.0.1:{self.port}/{name}"

    @property
    def connections(self) -> int:
        """How many endpoints are connected."""
        return len(self._connections)

    def waiting(self, name: str, prefix: str = "lb") -> int:
        """P2M: how many messages (or packs of small ones) of a name nobody has taken."""

        async def count() -> int:
            stream = self._router.jetstream.streams.get(Subjects(prefix, name).stream)
            return 0 if stream is None else len(stream.messages.kept)

        return int(self._call(count))

    def cut(self) -> int:
        """Reset every connection; returns how many there were. What was on its way is lost."""

        async def cut() -> int:
            connections = list(self._connections)
            for each in connections:
                each.reset()
            return len(connections)

        return int(self._call(cut))

    def kill(self) -> None:
        """As if nats-server was killed: nobody can connect, until `start`. Its streams are on its disk."""

        async def kill() -> None:
            await self._stop()
            self._router.kill()

        self._call(kill)

    def start(self) -> None:
        """Let endpoints connect again, after `kill`."""
        self._call(self._start)

    # -- on its loop -----------------------------------------------------------------------------------

    def _call(self, work: Callable[[], Any]) -> Any:
        if self._loop is None:
            raise StateError("a FakeBroker runs in a `with` block")
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        loop.call_later(TICK, self._tick, self._server)

    def _tick(self, server: asyncio.Server) -> None:
        if server is self._server:
            self._router.jetstream.look_at_time()
            asyncio.get_running_loop().call_later(TICK, self._tick, server)

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        connections = list(self._connections)
        for each in connections:
            each.reset()
        await asyncio.gather(*(each.lost for each in connections))

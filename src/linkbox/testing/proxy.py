"""A proxy between a client and a server that simulates the faults of a bad network.

How to think about it. Each connection has two directions, *up* (client to server) and *down*. In each
direction the proxy reads bytes, delays them, and writes them in the order in which they arrived: it never
reorders. The `Faults` of a direction say what happens to its bytes; they may be replaced at any time. The
proxy runs in an event loop on a separate thread, so it works with threads, asyncio and other processes
alike.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, TypeVar

from linkbox.address import Address
from linkbox.errors import StateError
from linkbox.testing.acks import AckEater

R = TypeVar("R")
Way = Literal["up", "down", "both"]
CHUNK = 64 * 1024
REMEMBERED = 1 << 20
"""Bytes of one connection that are recorded for `FaultyProxy.replay`, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What happens to the bytes of one direction. The default: nothing."""

    latency: float = 0.0
    """Delay of all bytes, in seconds."""
    jitter: float = 0.0
    """Random additional delay of up to this many seconds; the order of the bytes is kept."""
    bandwidth: float | None = None
    """Maximum number of bytes per second."""
    slice: int | None = None
    """Maximum size of one write, in bytes: with 1, the receiver sees every possible split of the data."""
    cut_after: int | None = None
    """Reset the connection after this many bytes (0: at once)."""
    black_hole: bool = False
    """Discard all bytes without an error, like an unplugged cable."""
    hold: bool = False
    """Hold all bytes back until this is False again."""
    eat_acks: bool = False
    """Discard acknowledgements of the linkbox protocol; pass everything else."""

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "bandwidth", "cut_after"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"Faults({name}={value!r}): it must be a number, 0 or more")
        if self.bandwidth == 0:
            raise ValueError("Faults(bandwidth=0): use hold=True to stop all bytes")
        if self.slice is not None and self.slice < 1:
            raise ValueError(f"Faults(slice={self.slice!r}): it must be a whole number, 1 or more")


class _Connection:
    """The connection of one client, and the proxy's connection to the server for it."""

    def __init__(self, number: int, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.number = number
        self.near = near
        self.far = far
        self.sent = bytearray()
        """The bytes that the client has sent, up to `REMEMBERED`."""
        self.is_cut = False

    def cut(self, reset: bool) -> None:
        """Close both sides, with RST or with FIN."""
        self.is_cut = True
        for writer in (self.near, self.far):
            sock = writer.get_extra_info("socket")
            if reset and sock is not None:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except OSError:
                    pass  # It is closed already.
            writer.transport.abort()


class FaultyProxy:
    """Listens, and forwards all bytes to ``target`` and back, with the given `Faults`.

    Use it as a context manager, and let clients connect to its ``address``::

        with FaultyProxy(server.address, latency=0.05, slice=1) as proxy:
            client = ClientP2P(proxy.address)

    ``faults`` are the fields of `Faults`, for both directions; `change` changes them at run time, also for
    one direction only. ``seed`` makes the jitter reproducible.
    """

    def __init__(
        self,
        target: str | tuple[str, int],
        listen: str | tuple[str, int] = "tcp://127.0.0.1:0",
        *,
        seed: int | None = None,
        **faults: Any,
    ) -> None:
        self._target = Address.parse(target)
        self._listen = Address.parse(listen, server=True)
        self._dice = random.Random(seed)
        self._faults = dict.fromkeys(("up", "down"), Faults(**faults))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._changed = asyncio.Event()
        self._live: set[_Connection] = set()
        self._past: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: int = 0
        """Number of connections since the start."""
        self.passed: dict[str, int] = {"up": 0, "down": 0}
        """Number of bytes forwarded in each direction."""

    @property
    def address(self) -> str:
        """The URL of the proxy, with the actual port after `start`."""
        return str(self._listen)

    # -- starting and stopping
    # ---------------------------------------------------------------------------------------

    def start(self) -> FaultyProxy:
        """Listen, and forward in the background. Returns self. OSError if the address is not available."""
        if self._thread is not None:
            raise StateError("this proxy is already started")
        ready: list[BaseException | None] = []
        is_ready = threading.Event()

        async def main() -> None:
            try:
                server = await self._serve()
            except BaseException as error:
                ready.append(error)
                is_ready.set()
                return
            self._loop = asyncio.get_running_loop()
            self._end = asyncio.Event()
            ready.append(None)
            is_ready.set()
            await self._end.wait()
            server.close()
            self._cut_all(True)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._thread = threading.Thread(target=lambda: asyncio.run(main()), name="faulty proxy", daemon=True)
        self._thread.start()
        is_ready.wait()
        if ready[0] is not None:
            self._thread.join()
            self._thread = None
            raise ready[0]
        return self

    def stop(self) -> None:
        """Reset all connections and stop listening."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._call(self._end.set)
            thread.join()
            self._loop = None

    def __enter__(self) -> FaultyProxy:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _call(self, function: Callable[[], R]) -> R:
        """Run a function in the event loop and return its result. For any thread."""
        loop = self._loop
        if loop is None:
            raise StateError("this proxy is not started: call start(), or use a with block")

        async def run() -> R:
            return function()

        work = run()
        try:
            return asyncio.run_coroutine_threadsafe(work, loop).result()
        except (RuntimeError, CancelledError) as error:  # another thread stops it: its loop has ended
            work.close()
            raise StateError("this proxy was stopped") from error

    # -- for tests ------------------------------------------------------------------------------

    def faults(self, way: Literal["up", "down"]) -> Faults:
        """The current faults of a direction."""
        return self._faults[way]

    def change(self, way: Way = "both", **changes: Any) -> None:
        """Change some of the faults from now on, also for existing connections."""
        for each in ("up", "down") if way == "both" else (way,):
            self._faults[each] = replace(self._faults[each], **changes)
        if self._loop is not None:
            self._call(self._changed.set)

    def heal(self) -> None:
        """Remove all faults."""
        self._faults = dict.fromkeys(("up", "down"), Faults())
        if self._loop is not None:
            self._call(self._changed.set)

    def cut(self, reset: bool = True) -> int:
        """Break all connections, with RST or (``reset=False``) with FIN. Returns how many there were."""
        return self._call(lambda: self._cut_all(reset))

    def replay(self, number: int) -> None:
        """Send the client's bytes of connection ``number`` (from 0) again, on a new connection."""
        sent = self._call(lambda: bytes(self._past[number].sent))
        loop = self._loop
        assert loop is not None
        asyncio.run_coroutine_threadsafe(self._send(sent), loop).result()

    # -- in the event loop
    # -------------------------------------------------------------------------------------

    async def _serve(self) -> asyncio.Server:
        address = self._listen
        if address.scheme == "unix":
            return await asyncio.start_unix_server(self._on_connected, str(address.sockaddr))
        server = await asyncio.start_server(self._on_connected, address.host, address.port)
        host, port = server.sockets[0].getsockname()[:2]
        self._listen = Address.parse((host, port), server=True)
        return server

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = self._target
        if target.scheme == "unix":
            return await asyncio.open_unix_connection(str(target.sockaddr))
        return await asyncio.open_connection(target.host, target.port)

    def _on_connected(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        # A task of our own: before Python 3.12, asyncio logs the cancellation of one that it has made.
        task = self._spawn(self._accept(reader, near))
        task.add_done_callback(lambda task: near.transport.abort() if task.cancelled() else None)

    async def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await self._reach()
        except OSError:
            near.transport.abort()
            return
        connection = _Connection(self.connections, near, far)
        self.connections += 1
        self._live.add(connection)
        self._past.append(connection)
        ways = [self._carry(connection, reader, far, "up"), self._carry(connection, far_reader, near, "down")]
        tasks = [self._spawn(way) for way in ways]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            pass  # It stops; asyncio would log that.
        self._live.discard(connection)
        near.close()
        far.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _cut_all(self, reset: bool) -> int:
        live, self._live = self._live, set()
        for connection in live:
            connection.cut(reset)
        return len(live)

    async def _send(self, sent: bytes) -> None:
        reader, writer = await self._reach()
        writer.write(sent)
        try:
            await writer.drain()
            await asyncio.wait_for(reader.read(), 0.5)  # the response is discarded
        except (OSError, TimeoutError):
            pass
        writer.close()

    async def _carry(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        """Forward one direction of one connection."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        reading = self._spawn(self._read(connection, reader, waiting, way))
        try:
            await self._write(connection, writer, waiting, way)
        except OSError:
            connection.cut(True)
        finally:
            reading.cancel()

    async def _read(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        waiting: asyncio.Queue[tuple[float, bytes]],
        way: str,
    ) -> None:
        now, due = asyncio.get_running_loop().time, 0.0
        eater = AckEater()
        while True:
            faults = self._faults[way]
            try:
                data = await reader.read(self._size(faults))
            except OSError:
                connection.cut(True)
                return
            if way == "up" and len(connection.sent) < REMEMBERED:
                connection.sent += data
            passed = eater.feed(data, faults.eat_acks)
            if passed or not data:
                due = max(due, now() + faults.latency + self._dice.uniform(0, faults.jitter))
                await waiting.put((due, passed if data else b""))
            if not data:
                return

    def _size(self, faults: Faults) -> int:
        """How much to read at a time: one slice, or the bytes of 1/20 s at the given bandwidth."""
        size = faults.slice or CHUNK
        return size if faults.bandwidth is None else max(1, min(size, int(faults.bandwidth / 20)))

    async def _write(
        self,
        connection: _Connection,
        writer: asyncio.StreamWriter,
        waiting: asyncio.Queue[tuple[float, bytes]],
        way: str,
    ) -> None:
        now, free, passed = asyncio.get_running_loop().time, 0.0, 0
        while not connection.is_cut:
            if self._faults[way].cut_after == passed:
                connection.cut(True)
                return
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - now()))
            while self._faults[way].hold and not connection.is_cut:
                self._changed.clear()
                await self._changed.wait()
            faults = self._faults[way]
            if not data:
                if not faults.black_hole:
                    writer.write_eof()
                return
            if faults.black_hole:
                continue
            if faults.cut_after is not None:
                data = data[: max(0, faults.cut_after - passed)]
            if faults.bandwidth is not None:
                free = max(free, now()) + len(data) / faults.bandwidth
                await asyncio.sleep(max(0.0, free - now()))
            writer.write(data)
            await writer.drain()
            passed += len(data)
            self.passed[way] += len(data)

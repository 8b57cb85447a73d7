"""A proxy that stands between a client and a server, and does to their bytes what networks do.

How to think about it. Each connection has two ways, *up* (client to server) and *down*. On each way bytes are
read, wait until their time has come, and are written in the order they came: nothing is ever reordered. What
happens to them meanwhile is said by the `Faults` of that way, which may be replaced at any moment. It all
runs in an event loop on a thread of its own: so it works the same for threads, asyncio, other processes.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
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
"""Most bytes of one connection that are kept for `FaultyProxy.replay`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What happens to the bytes of one way. The default: nothing."""

    latency: float = 0.0
    """Seconds that all bytes are late."""
    jitter: float = 0.0
    """Up to so many seconds more, by chance; never so that bytes overtake each other."""
    bandwidth: float | None = None
    """At most so many bytes a second."""
    slice: int | None = None
    """At most so many bytes in one write: 1 shows each possible border of a `recv`."""
    cut_after: int | None = None
    """Reset the connection when so many of its bytes have passed (0: at once)."""
    black_hole: bool = False
    """Bytes vanish, and nobody is told: a cable that was pulled."""
    hold: bool = False
    """Bytes wait until this is False again."""
    eat_acks: bool = False
    """Acknowledgements of the linkbox protocol vanish; everything else passes."""

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "bandwidth", "cut_after"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"Faults({name}={value!r}): a number from 0 is needed")
        if self.bandwidth == 0:
            raise ValueError("Faults(bandwidth=0): use hold=True to let nothing through")
        if self.slice is not None and self.slice < 1:
            raise ValueError(f"Faults(slice={self.slice!r}): a whole number from 1 is needed")


class _Connection:
    """One client's connection, and ours to the server for it."""

    def __init__(self, number: int, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.number = number
        self.near = near
        self.far = far
        self.said = bytearray()
        """What the client said, as far as it is remembered."""
        self.is_cut = False

    def cut(self, reset: bool) -> None:
        """Break both halves, with RST or with FIN."""
        self.is_cut = True
        for writer in (self.near, self.far):
            sock = writer.get_extra_info("socket")
            if reset and sock is not None:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except OSError:
                    pass  # It is gone already.
            writer.transport.abort()


class FaultyProxy:
    """Listens, and passes everything on to ``target``, with the `Faults` you give it.

    Use it as a context manager, and let clients connect to its ``address``::

        with FaultyProxy(server.address, latency=0.05, slice=1) as proxy:
            client = ClientP2P(proxy.address)

    ``faults`` are those of `Faults`, for both ways; `change` changes them while it runs, also for one way
    only. ``seed`` makes the jitter the same each time.
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
        self.connections = 0
        """Connections that were made, since it was started."""
        self.passed = {"up": 0, "down": 0}
        """Bytes that were passed on."""

    @property
    def address(self) -> str:
        """Where it listens, as a URL; with the real port once it was started."""
        return str(self._listen)

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> FaultyProxy:
        """Listen, and pass on. Returns self. OSError when the address cannot be had."""
        if self._thread is not None:
            raise StateError("this proxy is started already")
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
        """Cut everything, and listen no more."""
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
        """Run something in the loop; from any thread."""
        loop = self._loop
        if loop is None:
            raise StateError("this proxy is not started: call start(), or use it in a with block")

        async def run() -> R:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    # -- what a test does ------------------------------------------------------------------------------

    def faults(self, way: Literal["up", "down"]) -> Faults:
        """What happens to the bytes of that way now."""
        return self._faults[way]

    def change(self, way: Way = "both", **changes: Any) -> None:
        """Change some of the faults from now on, also of connections that are there."""
        for each in ("up", "down") if way == "both" else (way,):
            self._faults[each] = replace(self._faults[each], **changes)
        if self._loop is not None:
            self._call(self._changed.set)

    def heal(self) -> None:
        """From now on all is well."""
        self._faults = dict.fromkeys(("up", "down"), Faults())
        if self._loop is not None:
            self._call(self._changed.set)

    def cut(self, reset: bool = True) -> int:
        """Break all connections, with RST (or just close them); returns how many there were."""
        return self._call(lambda: self._cut_all(reset))

    def replay(self, number: int) -> None:
        """Say to the server, on a new connection, what the client said on connection ``number`` (from 0)."""
        said = self._call(lambda: bytes(self._past[number].said))
        loop = self._loop
        assert loop is not None
        asyncio.run_coroutine_threadsafe(self._say(said), loop).result()

    # -- in the loop -------------------------------------------------------------------------------------

    async def _serve(self) -> asyncio.Server:
        address = self._listen
        if address.scheme == "unix":
            return await asyncio.start_unix_server(self._accept, str(address.sockaddr))
        server = await asyncio.start_server(self._accept, address.host, address.port)
        host, port = server.sockets[0].getsockname()[:2]
        self._listen = Address.parse((host, port), server=True)
        return server

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = self._target
        if target.scheme == "unix":
            return await asyncio.open_unix_connection(str(target.sockaddr))
        return await asyncio.open_connection(target.host, target.port)

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
        await asyncio.wait(tasks)
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

    async def _say(self, said: bytes) -> None:
        reader, writer = await self._reach()
        writer.write(said)
        try:
            await writer.drain()
            await asyncio.wait_for(reader.read(), 0.5)  # whatever it answers is nobody's
        except (OSError, TimeoutError):
            pass
        writer.close()

    async def _carry(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        """One way of one connection."""
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
            if way == "up" and len(connection.said) < REMEMBERED:
                connection.said += data
            passed = eater.feed(data, faults.eat_acks)
            if passed or not data:
                due = max(due, now() + faults.latency + self._dice.uniform(0, faults.jitter))
                await waiting.put((due, passed if data else b""))
            if not data:
                return

    def _size(self, faults: Faults) -> int:
        """How much to take at a time: what may be written at once, or in a twentieth of a second."""
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

"""An event loop on a thread of its own, and streams at addresses, for servers in tests."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from linkbox.address import Address
from linkbox.errors import AddressError, ConnectFailed, ListenFailed, StateError

CHUNK = 64 * 1024
Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Background:
    """Runs a coroutine in an event loop on a thread, until it returns or `stop` cancels it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None
        self.ended = threading.Event()
        """Set when the coroutine has returned, or failed."""

    def start(self, main: Callable[[Callable[[], None]], Coroutine[Any, Any, None]]) -> None:
        """Run ``main(started)``, and return when it calls ``started``. Raises what it raises before that."""
        if self._thread is not None:
            raise StateError(f"this {self._name} is already started")
        started = threading.Event()
        self.ended.clear()
        self._error = None

        async def body() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            try:
                await main(started.set)
            finally:
                for _ in range(3):
                    await asyncio.sleep(0)  # Transports that were aborted close their sockets now.

        def run() -> None:
            try:
                asyncio.run(body())
            except asyncio.CancelledError:
                pass  # by `stop`
            except BaseException as error:
                self._error = _single(error)
            finally:
                self.ended.set()
                started.set()

        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()
        started.wait()
        if self._error is not None:
            self.stop()

    def stop(self) -> None:
        """Cancel the coroutine and wait for its end. Raises what it raised, once."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if not self.ended.is_set() and self._loop is not None and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                pass  # It has ended at this moment.
        thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error


def _single(error: BaseException) -> BaseException:
    """The first error of a group of tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def without_tls(address: object, what: str, server: bool = False) -> Address:
    """An address whose bytes can be read. AddressError for tls:// and memory://."""
    parsed = Address.parse(address, server=server)
    if parsed.scheme == "tls":
        raise AddressError(
            f"{parsed}: {what} needs bytes that are not encrypted; use tcp://, for example behind the "
            "program that ends TLS"
        )
    if parsed.scheme == "memory":
        raise AddressError(f"{parsed}: {what} needs sockets; use tcp:// or unix://")
    return parsed


async def serve(address: Address, handle: Handle, started: Callable[[Address], None]) -> None:
    """Listen until cancelled, with a task for each connection; their errors end it. ListenFailed.

    ``started`` is called with the address and its actual port. A connection is closed when its task ends.
    """
    async with asyncio.TaskGroup() as tasks:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = tasks.create_task(handle(reader, writer))
            # Also of a task that is cancelled before it begins.
            task.add_done_callback(lambda _: writer.transport.abort())

        server, bound = await _listen_at(address, accept)
        started(bound)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()


async def _listen_at(address: Address, accept: Accept) -> tuple[asyncio.Server, Address]:
    try:
        if address.scheme == "unix":
            return await asyncio.start_unix_server(accept, str(address.sockaddr)), address
        server = await asyncio.start_server(accept, address.host, address.port)
    except OSError as error:
        raise ListenFailed(f"cannot listen at {address}: {error.strerror or error}") from error
    host, port = server.sockets[0].getsockname()[:2]
    return server, Address.parse((host, port), server=True)


async def connect_to(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect. ConnectFailed if that fails."""
    try:
        if address.scheme == "unix":
            return await asyncio.open_unix_connection(str(address.sockaddr))
        return await asyncio.open_connection(address.host, address.port)
    except OSError as error:
        _not_connected(address, error)


def _not_connected(address: Address, error: OSError) -> NoReturn:
    why = (
        "nobody listens there" if isinstance(error, ConnectionRefusedError) else error.strerror or str(error)
    )
    raise ConnectFailed(f"cannot connect to {address}: {why}") from error


def peer_of(writer: asyncio.StreamWriter) -> str:
    """The address of the other end, as it is shown."""
    name = writer.get_extra_info("peername")
    return str(Address.parse(name[:2], server=True)) if isinstance(name, tuple) else "unix"


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # It is closed already.
    writer.transport.abort()


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, and wait until everything is written; a cancelled task aborts it."""
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass  # The peer was faster.
    except asyncio.CancelledError:
        writer.transport.abort()
        raise

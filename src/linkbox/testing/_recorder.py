"""Records what passes between clients and a server: it listens, forwards, and writes both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Literal

from msgspec import UNSET, UnsetType

from linkbox.address import Address
from linkbox.errors import ConnectFailed
from linkbox.testing._steps import Sender
from linkbox.testing._streams import (
    CHUNK,
    Background,
    close,
    connect_to,
    peer_of,
    reset,
    serve,
    without_tls,
)
from linkbox.testing.recording import Line, RecordingWriter, data_line

HALF_CLOSED = 60.0
"""Seconds without a byte after which a connection is closed whose one side has ended. A device that does not
notice the end of its client would keep two descriptors for ever."""


class Recorder:
    """Listens, forwards each connection to the target, and writes what passes to a recording.

    Without a target it receives only. A recording that cannot be written ends it: see `wait`.
    """

    def __init__(self, listen: object, target: object | None, writer: RecordingWriter) -> None:
        self._listen = without_tls(listen, "a recording", server=True)
        self._target = None if target is None else without_tls(target, "a recording")
        self._writer = writer
        self._began = monotonic()
        self._background = Background("recorder")
        self.connections = 0
        """Number of connections since the start."""
        self.passed: dict[Sender, int] = {"client": 0, "server": 0}
        """Number of bytes recorded, by sender."""
        self.on_unreachable: Callable[[ConnectFailed], None] = lambda error: None
        """Called when the target cannot be reached, in the thread of the recorder."""

    @property
    def address(self) -> str:
        """Where it listens, with the actual port once it is started."""
        return str(self._listen)

    def start(self) -> Recorder:
        """Listen, and record in the background. Returns self. ListenFailed if that is not possible."""
        self._background.start(self._main)
        return self

    def wait(self) -> None:
        """Wait until it fails."""
        self._background.ended.wait()

    def stop(self) -> None:
        """Reset all connections, and stop listening. StoreError if the recording could not be written."""
        self._background.stop()

    async def _main(self, started: Callable[[], None]) -> None:
        def listening(address: Address) -> None:
            self._listen = address
            started()

        await serve(self._listen, self._carry, listening)

    def _event(
        self,
        number: int,
        event: Literal["open", "unreachable", "end", "reset"],
        sender: Sender | UnsetType,
        **more: str,
    ) -> None:
        at = round(monotonic() - self._began, 6)
        self._writer.write(Line(at, number, sender, event, **more))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        self.connections += 1
        number = self._writer.connections = self._writer.connections + 1
        self._event(number, "open", UNSET, peer=peer_of(writer))
        if self._target is None:
            await self._sink(number, reader, writer)
            return
        try:
            far_reader, far = await connect_to(self._target)
        except ConnectFailed as error:
            self._event(number, "unreachable", UNSET, error=str(error))
            self.on_unreachable(error)
            reset(writer)
            return
        connection = _Connection(self, number, writer, far)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(connection.copy("client", reader, far))
                ways.create_task(connection.copy("server", far_reader, writer))
            await close(writer)
            await close(far)
        except BaseException:
            connection.reset()
            raise
        finally:
            connection.stop_timer()

    async def _sink(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Receive only."""
        await _Connection(self, number, writer, None).copy("client", reader, None)
        await close(writer)

    def note(self, number: int, sender: Sender, data: bytes) -> None:
        """Write what was received."""
        self.passed[sender] += len(data)
        self._writer.write(data_line(monotonic() - self._began, number, sender, data))

    def note_event(self, number: int, sender: Sender, event: Literal["end", "reset"]) -> None:
        """Write that a side has closed its half, or the connection."""
        self._event(number, event, sender)


class _Connection:
    """One connection: both of its ends."""

    def __init__(
        self, recorder: Recorder, number: int, near: asyncio.StreamWriter, far: asyncio.StreamWriter | None
    ) -> None:
        self._recorder = recorder
        self._number = number
        self._both = [near] if far is None else [near, far]
        self._is_reset = False
        self._ended: set[Sender] = set()
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None

    def reset(self) -> None:
        """Close both ends with RST."""
        self._is_reset = True
        for writer in self._both:
            reset(writer)

    async def copy(
        self, sender: Sender, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None
    ) -> None:
        """Record one direction, and forward it, until its sender closes it."""
        while True:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = None
            if self._is_reset:
                return  # The end of this direction is our own doing.
            if data is None:
                self._gone(sender)
                return
            if data:
                self._received += len(data)
                self._recorder.note(self._number, sender, data)
            else:
                self._ended.add(sender)
                self._recorder.note_event(self._number, sender, "end")
                self._start_timer()
            if writer is not None and not await _forward(writer, data) and data:
                if not self._is_reset:
                    self._gone("server" if sender == "client" else "client")
                return
            if not data:
                return

    def _gone(self, sender: Sender) -> None:
        """A side has closed its connection: nothing reaches it any more, so nobody waits for the other."""
        if sender not in self._ended:
            self._recorder.note_event(self._number, sender, "reset")
        self.reset()

    # -- the time of a connection whose one side has ended ---------------------------------------------

    def _start_timer(self) -> None:
        if self._timer is None and len(self._both) > 1:
            self._check(None)

    def _check(self, before: list[int] | None) -> None:
        """Close both ends if nothing has moved since the last check."""
        now = [self._received, *(each.transport.get_write_buffer_size() for each in self._both)]
        if now == before:
            self.reset()
        else:
            self._timer = asyncio.get_running_loop().call_later(HALF_CLOSED, self._check, now)

    def stop_timer(self) -> None:
        """The connection is closed."""
        if self._timer is not None:
            self._timer.cancel()


async def _forward(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Forward bytes, or (empty) the end. False if the connection is closed."""
    if writer.transport.is_closing():  # asyncio writes a line to the log for each attempt.
        return False
    try:
        if data:
            writer.write(data)
            await writer.drain()
        else:
            writer.write_eof()
    except OSError:
        return False
    return True

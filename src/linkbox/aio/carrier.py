"""One connection: carries a link's bytes over an asyncio transport. Nothing is decided here."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from linkbox.core.link import Link
from linkbox.front.sockets import JOIN_SIZE, reset_on_close

if TYPE_CHECKING:
    from linkbox.front.secured import Secured

HIGH, LOW = 64 * 1024, 48 * 1024
"""Bytes in asyncio's own buffer: above HIGH we write no more, until LOW are left."""


class Carrier(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(self, driver: Any, link: Link, sock: socket.socket, tls: Secured | None) -> None:
        self._driver = driver
        self.link = link
        self.sock = sock
        self.tls = tls
        """What stands between the link and the socket."""
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self._is_paused = False
        self._is_closing = False
        self.is_waiting = False
        """Was there something to write before there was a connection?"""

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = found = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        found.set_write_buffer_limits(HIGH, LOW)
        self._driver.opened(self)

    def data_received(self, data: bytes) -> None:
        if not self.link.closed:
            self._driver.received(self, data)

    def eof_received(self) -> bool:
        if not self.link.closed:
            self._driver.ended(self)
        return True  # The other half stays open: we close it when everything is said.

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._driver.lost(self, error)

    def pause_writing(self) -> None:
        self._is_full = True
        self.link.write_stalled(monotonic())
        self._follow()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self.link.write_moved()
        if self._transport.get_write_buffer_size() > LOW:
            self._follow()  # which pauses again
            return
        self._is_full = False
        self._transport.set_write_buffer_limits(HIGH, LOW)
        self._driver.writable(self.link)

    def _follow(self) -> None:
        """Let the low mark follow the buffer: so we hear of each byte that a slow peer takes."""
        assert self._transport is not None
        mark = max(LOW, self._transport.get_write_buffer_size() - 1)
        self._transport.set_write_buffer_limits(mark, mark)

    # What the driver calls.

    def flush(self) -> None:
        """Write what the link has to say, then do what it says of its life."""
        link, transport = self.link, self._transport
        if transport is None or self._is_closing:
            self.is_waiting = True
            return
        # A write that failed closes the transport; we hear of it only when the loop runs next.
        while not (self._is_full or link.shut or link.closed or transport.is_closing()):
            now = monotonic()
            buffers = link.data_to_send(now) if self.tls is None else self.tls.data_to_send(link, now)
            if buffers:
                _write(transport, buffers)
            if not (buffers and link.more):
                break
        if link.half_close and not (link.shut or link.closed or self._is_full):
            self._take_leave(transport)
            try:
                transport.write_eof()
            except OSError:
                pass  # The peer is gone already; we are told when the loop runs next.
            link.finish_writing()
        if link.closed:
            self.close()
        elif link.paused is not self._is_paused and not link.eof:
            self._is_paused = link.paused
            (transport.pause_reading if link.paused else transport.resume_reading)()

    def close(self) -> None:
        """Close the connection: what was said in order is still written, for a while."""
        transport = self._transport
        if transport is None or self._is_closing:
            return
        self._is_closing = True
        if self.link.is_abortive:
            reset_on_close(self.sock)
            transport.abort()
        else:
            self._take_leave(transport)
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(self.link.limits.close, transport.abort)

    def _take_leave(self, transport: asyncio.Transport) -> None:
        """Say what TLS says at the end."""
        if self.tls is not None and (last := self.tls.farewell()) and not transport.is_closing():
            transport.write(last)

    def abort(self) -> None:
        """Close it now, whatever is still unwritten."""
        if self._transport is not None:
            self._transport.abort()


def _write(transport: asyncio.Transport, buffers: list[Any]) -> None:
    if len(buffers) == 1:
        transport.write(buffers[0])
    elif sum(map(len, buffers)) <= JOIN_SIZE:
        transport.write(b"".join(buffers))
    else:
        transport.writelines(buffers)
        if transport.get_write_buffer_size() > HIGH:
            # From Python 3.12 on writelines() itself forgets to call pause_writing(); this looks again.
            transport.set_write_buffer_limits(HIGH, LOW)

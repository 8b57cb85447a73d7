"""Sockets for the core: accept, connect, read, write, close. Nothing is decided here.

A `Transport` is one life of an endpoint, from ``start()`` to ``stop()``. It is what the engine drives:
a leader calls `work`, and whoever called into the hub calls `settle` afterwards, under the lock.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from linkbox.core.client import ClientHub
from linkbox.core.decoding import decode_all
from linkbox.core.hub import Hub
from linkbox.core.link import Arrival, Link
from linkbox.core.mailbox import Box
from linkbox.core.server import ServerHub
from linkbox.core.session import NEVER, Session
from linkbox.front.base import log_notes
from linkbox.front.listening import accept_some
from linkbox.front.sockets import reset_on_close, write_buffers
from linkbox.operations.runtime import Driver
from linkbox.threaded.dialer import Dialer
from linkbox.threaded.engine import Engine
from linkbox.threaded.poller import BROKEN, READ, WRITE

if TYPE_CHECKING:
    from linkbox.front.secured import Secured

READ_SIZE = 16 * 1024
LARGE_READ = 256 * 1024
"""Bytes read from one link in one turn, at most: a flood holds nobody up."""


class Channel:
    """One socket and its link."""

    __slots__ = ("again", "fd", "is_writing", "link", "mask", "read_size", "sock", "tls", "unsent")

    def __init__(self, sock: socket.socket, link: Link, tls: Secured | None) -> None:
        self.sock = sock
        self.tls = tls
        """What stands between the two; only under the lock."""
        self.fd = sock.fileno()
        self.link = link
        self.again = False
        """Has somebody left something to whoever is writing?"""
        self.mask = READ
        self.read_size = READ_SIZE
        self.unsent: list[Any] = []
        """What the kernel did not take."""
        self.is_writing = False


class Pause:
    """The listener rests for a while."""

    __slots__ = ("timer_at", "transport", "until")

    def __init__(self, transport: Transport, until: float) -> None:
        self.transport = transport
        self.until = until
        self.timer_at = NEVER

    def next_timer(self) -> float:
        """When to try again."""
        return self.until

    def handle_timer(self, now: float) -> None:
        """Accept again."""
        self.until = NEVER
        self.transport.resume_listener()


class Transport(Driver):
    """All sockets of an endpoint, and the engine that moves them."""

    def __init__(
        self, hub: Hub, lock: threading.RLock, decode: Callable[[bytes], Any] | None, name: str
    ) -> None:
        self.hub = hub
        self.lock = lock
        self.engine = Engine(lock, self, name, hub.ack_delay)
        self._decode = decode
        """None: messages are the bytes themselves."""
        self.decode_later = False
        """Is it user code? Then a thread of its own decodes (see `undecoded`)."""
        self.undecoded: deque[Arrival] = deque()
        self.undecoded_box = Box()
        self.tls: Callable[[], Secured] | None = None
        """Makes the TLS of a connection, if there is to be one."""
        self._channels: dict[int, Channel] = {}
        self._listener: socket.socket | None = None
        self._lazy: list[Session] = []
        self._arrivals: deque[Arrival] = deque()
        """Received, and not delivered yet."""
        self._reading: Channel | None = None
        """The channel that is being read just now."""
        self._dialer: Any = None
        self._dials: list[Session] = []
        if isinstance(hub, ClientHub):
            self._dialer, self._dials = Dialer(self, hub), hub.dials
        self.next_timer = hub.next_timer
        """When there is something to do even if nothing arrives."""

    # -- the leader's turn ----------------------------------------------------------------------------

    def work(self, ready: list[tuple[int, int]]) -> None:
        """Handle what a poll has found. Called without the lock, by one thread at a time."""
        received: deque[tuple[Channel, bytes | OSError]] = deque()
        try:
            others = self._read_all(ready, received)
            with self.lock:
                self._work(received, others)
            if self._arrivals:
                self._decode_and_deliver()
        except BaseException:
            # Ctrl-C, most likely. What was read and not understood is gone: those links must not go on.
            with self.lock:
                for channel in {self._reading, *(each[0] for each in received)}:
                    if channel is not None:
                        self.hub.interrupted(channel.link)
                self._reading = None
                self.hub.rescue(monotonic())
                self.engine.kick()
            raise

    def _read_all(
        self, ready: list[tuple[int, int]], received: deque[tuple[Channel, bytes | OSError]]
    ) -> list[tuple[int, int]]:
        """Receive from everything that can be read; returns what else is ready."""
        others: list[tuple[int, int]] = []
        for fd, events in ready:
            channel = self._channels.get(fd)
            if channel is None or not events & (READ | BROKEN):
                others.append((fd, events))
                continue
            if not channel.link.eof:
                self._reading = channel
                try:
                    data = channel.sock.recv(channel.read_size)
                    received.append((channel, data))
                except (BlockingIOError, InterruptedError):
                    pass
                except OSError as error:
                    received.append((channel, error))
                else:
                    if len(data) == channel.read_size:
                        channel.read_size = LARGE_READ
                self._reading = None
            elif events & BROKEN:
                received.append((channel, ConnectionResetError("the connection was reset")))
            if events & WRITE:
                others.append((fd, events))
        return others

    def _work(self, received: deque[tuple[Channel, bytes | OSError]], others: list[tuple[int, int]]) -> None:
        """The part of a turn that is done under the lock."""
        now = monotonic()
        hub, arrivals = self.hub, self._arrivals
        while self._lazy:
            hub.flush_soon(self._lazy.pop())
        while received:
            channel, data = received[0]
            self._feed(channel, data, now)
            received.popleft()
        for fd, events in others:
            self._handle_other(fd, events, now)
        if now >= hub.next_timer():
            hub.handle_timers(now)
        while hub.unread:
            hub.receive(hub.unread.pop(), b"", now, arrivals)
        if self._decode is None:
            while arrivals:
                hub.deliver(arrivals[0], arrivals[0].payloads, now)
                arrivals.popleft()
        elif self.decode_later and arrivals:
            self.undecoded += arrivals
            arrivals.clear()
            self.engine.ring(self.undecoded_box)
        if hub.dirty or hub.changed or self._dials or hub.notes:
            self.settle()

    def _feed(self, channel: Channel, data: bytes | OSError, now: float) -> None:
        link, tls = channel.link, channel.tls
        if link.closed:
            return
        if isinstance(data, OSError):
            self.hub.broken(link, data, now)
        elif tls is None:
            if data:
                self.hub.receive(link, data, now, self._arrivals)
            else:
                self.hub.receive_eof(link, now, self._arrivals)
        elif data:
            tls.receive(link, data, now, self._arrivals)
        else:
            tls.receive_eof(link, now, self._arrivals)

    def _decode_and_deliver(self) -> None:
        """Decode with one of our own formats, outside the lock: it may take its time."""
        arrivals, decode = self._arrivals, self._decode
        assert decode is not None
        decoded = [decode_all(decode, arrival) for arrival in arrivals]
        now = monotonic()
        with self.lock:
            for values in decoded:
                self.hub.deliver(arrivals[0], values, now)
                arrivals.popleft()
            self.settle()

    def decode(self, arrivals: list[Arrival]) -> None:
        """Decode with a format that is user code, and deliver. For the thread that is there for it."""
        decode = self._decode
        assert decode is not None
        for arrival in arrivals:
            values = decode_all(decode, arrival)
            with self.lock:
                self.hub.deliver(arrival, values, monotonic())
                self.settle()

    # -- after every call into the hub ------------------------------------------------------------------

    def settle(self) -> None:
        """Do what the hub has left to be done. Under the lock."""
        hub = self.hub
        link: Link | None = None
        changed: list[Box] = []
        try:
            while True:
                while hub.dirty:
                    link = hub.dirty.pop()
                    if link.carrier is not None:
                        self._flush(link.carrier)
                if self._dials:
                    link = None
                    self._dialer.dial_all()
                elif hub.changed:
                    link = None
                    changed, hub.changed = hub.changed, []
                    for box in changed:
                        if box.waiters:
                            self.engine.ring(box)
                    changed = []
                elif not hub.dirty:
                    break
        except BaseException:  # Ctrl-C: what was begun is to be done in the next turn
            hub.changed += changed
            if link is not None:
                hub.dirty.append(link)
            hub.rescue(monotonic())
            self.engine.kick()
            raise
        if hub.unread:
            self.engine.kick()
        if hub.notes:
            log_notes(hub)

    def write_later(self, session: Session) -> None:
        """Let whoever takes the next turn write what the session has: many messages at once."""
        if session not in self._lazy:
            self._lazy.append(session)
            self.engine.kick()

    def update(self) -> None:
        """Settle, and see to it that a new timer is met. For threads that called into the hub."""
        self.settle()
        self.engine.timers_changed()

    def _flush(self, channel: Channel) -> None:
        """Write what the link has to say, if nobody is at it already."""
        if channel.is_writing:
            channel.again = True  # Whoever writes comes back for the rest.
            return
        link = channel.link
        if not channel.unsent and not link.shut and not link.closed:
            self._write_all(channel)
        if link.closed:
            self._close(channel)
            return
        if link.half_close and not link.shut and not channel.unsent:
            self._shut(channel)
        if channel.unsent or link.eof or link.paused or channel.mask != READ:
            self._set_mask(channel)

    def _write_all(self, channel: Channel) -> None:
        """Write until there is nothing more, or the kernel is full. The lock is open while it writes."""
        link, tls = channel.link, channel.tls
        channel.is_writing = True
        try:
            while True:
                channel.again = False
                if channel.unsent:
                    buffers, channel.unsent = channel.unsent, []
                elif tls is None:
                    buffers = link.data_to_send(monotonic())
                else:
                    buffers = tls.data_to_send(link, monotonic())
                if not buffers:
                    return
                rest = self._write(channel, buffers)
                if rest:
                    self._not_written(channel, rest)
                    return
                if link.closed or not (link.more or channel.again):
                    return
        except BaseException:
            self.hub.interrupted(link)
            raise
        finally:
            channel.is_writing = False

    def _not_written(self, channel: Channel, rest: list[Any] | OSError) -> None:
        link = channel.link
        if isinstance(rest, OSError):
            if link.eof or link.paused:
                self.hub.broken(link, rest, monotonic())
            # What the peer said before the connection broke is still to be read; then reading fails too.
            link.shut = True
        else:
            channel.unsent = rest
            link.write_stalled(monotonic())
            self.engine.timers_changed()

    def _write(self, channel: Channel, buffers: list[Any]) -> list[Any] | OSError:
        """What the kernel did not take, or why it takes nothing."""
        sock = channel.sock
        try:
            self.lock.release()
            return write_buffers(sock, buffers)
        except OSError as error:
            return error
        finally:
            try:
                self.lock.acquire()
            except BaseException:  # Ctrl-C while it waited for the lock
                if not self.lock._is_owned():  # type: ignore[attr-defined]
                    self.lock.acquire()
                raise

    def _shut(self, channel: Channel) -> None:
        try:
            if channel.tls is not None and (last := channel.tls.farewell()):
                channel.unsent = write_buffers(channel.sock, [last])
                if channel.unsent:
                    return
            channel.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The peer is gone already; reading will tell.
        channel.link.finish_writing()
        if channel.link.closed:
            self._close(channel)

    def _set_mask(self, channel: Channel) -> None:
        link = channel.link
        if link.closed:
            return
        mask = 0 if link.eof or link.paused else READ
        if channel.unsent:
            mask |= WRITE
        if mask != channel.mask:
            channel.mask = mask
            self.engine.poller.watch(channel.fd, mask, True)

    def _close(self, channel: Channel) -> None:
        if self._channels.pop(channel.fd, None) is None:
            return
        self.engine.poller.forget(channel.fd)
        channel.link.carrier = None
        if channel.link.is_abortive:
            reset_on_close(channel.sock)
        elif channel.tls is not None and not (channel.unsent or channel.is_writing):
            try:
                write_buffers(channel.sock, [channel.tls.farewell()])
            except OSError:
                pass  # The peer is gone already.
        channel.unsent = []
        channel.sock.close()

    # -- connections ---------------------------------------------------------------------------------------

    def _handle_other(self, fd: int, events: int, now: float) -> None:
        channel = self._channels.get(fd)
        if channel is not None:
            self._continue_writing(channel)
        elif self._dialer is not None and (connecting := self._dialer.owner_of(fd)) is not None:
            self._dialer.finish(connecting, now)
        elif self._listener is not None and fd == self._listener.fileno():
            self._accept(now)

    def _continue_writing(self, channel: Channel) -> None:
        if not channel.is_writing and not channel.link.closed:
            channel.link.write_moved()
            self._write_all(channel)
            self.hub.dirty.append(channel.link)

    def open_channel(self, sock: socket.socket, link: Link) -> None:
        """Carry a link's bytes over this socket from now on."""
        channel = Channel(sock, link, None if self.tls is None else self.tls())
        link.carrier = channel
        self._channels[channel.fd] = channel
        self.engine.poller.watch(channel.fd, READ, False)

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        self._listener = listener
        self.engine.poller.watch(listener.fileno(), READ, False)

    def resume_listener(self) -> None:
        """There may be descriptors again."""
        if self._listener is not None:
            self.engine.poller.watch(self._listener.fileno(), READ, True)

    def _pause_listener(self, now: float, seconds: float) -> None:
        assert self._listener is not None
        self.engine.poller.watch(self._listener.fileno(), 0, True)
        pause = Pause(self, now + seconds)
        self.hub.schedule(pause, pause.until)

    def _accept(self, now: float) -> None:
        assert isinstance(self.hub, ServerHub) and self._listener is not None
        accepted, pause = accept_some(self.hub, self._listener, now)
        for sock, link in accepted:
            self.open_channel(sock, link)
        if pause:
            self._pause_listener(now, pause)

    # -- the end ---------------------------------------------------------------------------------------------

    def stop_listening(self) -> None:
        """Accept nobody any more. Under the lock."""
        if self._listener is not None and isinstance(self.hub, ServerHub):
            # Who is in the queue already may have written its first messages: a refusal tells it that
            # they were not taken. Closing the listener right away would leave it in doubt.
            self._listener.listen(0)
            self._accept(monotonic())
        listener, self._listener = self._listener, None
        if listener is not None:
            self.engine.poller.forget(listener.fileno())
            listener.close()

    def close(self) -> None:
        """Close every socket. Under the lock."""
        if self._dialer is not None:
            self._dialer.close()
        for channel in list(self._channels.values()):
            self._close(channel)
        self.stop_listening()
        self.engine.close()

    def close_copies(self) -> None:
        """In a forked child: give back the descriptors; the connections are the parent's."""
        for channel in self._channels.values():
            channel.sock.close()
        if self._dialer is not None:
            self._dialer.close_copies()
        if self._listener is not None:
            self._listener.close()
        self.engine.poller.close()

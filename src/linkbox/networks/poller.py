"""Lets two threads wait for the same sockets: the leader and the background thread.

The leader calls `poll`. The background thread calls `sleep`, which also returns when a socket is ready, but
only while the poller is *armed*: sockets must not wake the background thread while another thread leads. With
epoll, the background thread waits on a second epoll that contains the first. On other platforms it polls the
same selector, and is woken when the poller is disarmed.
"""

from __future__ import annotations

import select
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any

LONGEST = 1e6
"""Most seconds of one call of the system, which counts milliseconds in an int. The caller calls again."""
READ = 1
WRITE = 4
# The same bits as EPOLLIN and EPOLLOUT.
BROKEN = 8 | 16
"""EPOLLERR, EPOLLHUP."""


class Poller:
    """For every platform: a selector, and socket pairs to wake the waiting threads."""

    poll: Callable[[float | None], list[tuple[int, int]]]
    """Wait until something is ready, for at most `LONGEST`; return (descriptor, events) for each. Only the
    leader calls this. An attribute: with epoll it is the method of the kernel's object itself."""

    def __init__(self) -> None:
        self.armed: bool = False
        self.poll = self._select
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()
        self._kick_in, self._kick_out = _pair()
        self._wake_in, self._wake_out = _pair()
        self._selector.register(self._wake_in, selectors.EVENT_READ)

    def watch(self, fd: int, mask: int, known: bool) -> None:
        """Watch ``fd`` for these events; ``known``: it is watched already."""
        events = (selectors.EVENT_READ if mask & READ else 0) | (selectors.EVENT_WRITE if mask & WRITE else 0)
        if known and fd in self._selector.get_map():
            self._selector.unregister(fd)
        if events:
            self._selector.register(fd, events)
        self.wake()

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``. Call this before closing the descriptor."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def _select(self, timeout: float | None) -> list[tuple[int, int]]:
        ready = []
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._wake_in:
                _drain(self._wake_in)
            else:
                mask = (READ if events & selectors.EVENT_READ else 0) | (
                    WRITE if events & selectors.EVENT_WRITE else 0
                )
                ready.append((key.fd, mask))
        return ready

    def drain(self, fd: int) -> bool:
        """Empty a descriptor that `poll` has returned, if it is the poller's own, else return False."""
        return False

    def wake(self) -> None:
        """Make `poll` return now."""
        _poke(self._wake_out)

    def sleep(self, timeout: float | None) -> None:
        """Wait until kicked, or until something is ready while armed. For the background thread only.

        `LONGEST` seconds at most.
        """
        readers: list[Any] = [self._kick_in]
        writers: list[Any] = []
        try:
            if self.armed:
                keys = list(self._selector.get_map().values())
                readers += [key.fileobj for key in keys if key.events & selectors.EVENT_READ]
                writers += [key.fileobj for key in keys if key.events & selectors.EVENT_WRITE]
            ready, _, _ = select.select(readers, writers, [], timeout)
        except (OSError, ValueError, RuntimeError):
            return  # A descriptor was just added or removed: poll again.
        if self._kick_in in ready:
            _drain(self._kick_in)

    def kick(self) -> None:
        """Make `sleep` return now."""
        _poke(self._kick_out)

    def arm(self) -> None:
        """Let sockets wake the background thread from now on."""
        if not self.armed:
            self.armed = True
            self.kick()

    def disarm(self) -> None:
        """Keep sockets from waking the background thread from now on."""
        if self.armed:
            self.armed = False
            self.kick()

    def close(self) -> None:
        """Close the descriptors."""
        self._selector.close()
        for each in (self._kick_in, self._kick_out, self._wake_in, self._wake_out):
            each.close()


class EpollPoller(Poller):
    """For Linux: the background thread waits on an epoll that contains the leader's."""

    def __init__(self) -> None:
        self.armed: bool = False
        self._inner = select.epoll()
        self.poll: Callable[[float | None], list[tuple[int, int]]] = self._inner.poll
        self._outer = select.epoll()
        self._kick_in, self._kick_out = _pair()
        self._wake_in, self._wake_out = _pair()
        self._wake_fd = self._wake_in.fileno()
        self._inner.register(self._wake_fd, READ)
        self._inner_fd = self._inner.fileno()
        self._outer.register(self._inner_fd, 0)
        self._outer.register(self._kick_in.fileno(), READ)

    def watch(self, fd: int, mask: int, known: bool) -> None:
        if known:
            self._inner.modify(fd, mask)
        else:
            self._inner.register(fd, mask)

    def forget(self, fd: int) -> None:
        try:
            self._inner.unregister(fd)
        except (OSError, ValueError):
            pass  # Never registered, or the poller is closed.

    def drain(self, fd: int) -> bool:
        if fd != self._wake_fd:
            return False
        _drain(self._wake_in)
        return True

    def sleep(self, timeout: float | None) -> None:
        for fd, _ in self._outer.poll(timeout):
            if fd != self._inner_fd:
                _drain(self._kick_in)

    def arm(self) -> None:
        if not self.armed:
            self.armed = True
            self._outer.modify(self._inner_fd, READ)

    def disarm(self) -> None:
        if self.armed:
            self.armed = False
            self._outer.modify(self._inner_fd, 0)

    def close(self) -> None:
        self._inner.close()
        self._outer.close()
        for each in (self._kick_in, self._kick_out, self._wake_in, self._wake_out):
            each.close()


class MemoryPoller(Poller):
    """For the memory network: no sockets; two locks to wake the waiting threads."""

    def __init__(self, has_manual_clock: bool) -> None:
        self.armed: bool = False
        self.poll: Callable[[float | None], list[tuple[int, int]]] = self._wait
        self._sleeps_on = has_manual_clock
        """With a manual clock, only `wake` and `kick` end a wait, when the clock is advanced."""
        self._bell, self._kick_bell = threading.Lock(), threading.Lock()
        self._bell.acquire()
        self._kick_bell.acquire()

    def ring(self) -> None:
        """Something is ready. From any thread."""
        _release(self._bell)
        if self.armed:
            _release(self._kick_bell)

    def _wait(self, timeout: float | None) -> list[tuple[int, int]]:
        self._bell.acquire(timeout=self._patience(timeout))
        return []

    def wake(self) -> None:
        self.ring()

    def sleep(self, timeout: float | None) -> None:
        self._kick_bell.acquire(timeout=self._patience(timeout))

    def _patience(self, timeout: float | None) -> float:
        if timeout is None or (self._sleeps_on and timeout > 0):
            return -1
        return min(timeout, threading.TIMEOUT_MAX)

    def kick(self) -> None:
        _release(self._kick_bell)

    def arm(self) -> None:
        if not self.armed:
            self.armed = True
            if not self._bell.locked():
                _release(self._kick_bell)

    def disarm(self) -> None:
        self.armed = False

    def close(self) -> None:
        pass  # There are no descriptors.


def _release(bell: threading.Lock) -> None:
    try:
        bell.release()
    except RuntimeError:
        pass  # It is released already.


def make_poller() -> Poller:
    """The best poller for this platform."""
    return EpollPoller() if hasattr(select, "epoll") else Poller()


def _pair() -> tuple[socket.socket, socket.socket]:
    first, second = socket.socketpair()
    first.setblocking(False)
    second.setblocking(False)
    return first, second


def _poke(out: socket.socket) -> None:
    try:
        out.send(b"\0")
    except OSError:
        pass  # If it is full, the reader will wake anyway; if it is closed, no thread is waiting.


def _drain(end: socket.socket) -> None:
    try:
        while len(end.recv(4096)) == 4096:
            pass
    except OSError:
        pass  # Empty already, or closed.

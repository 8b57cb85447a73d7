"""Connections of a server that come by way of a proxy, until its PROXY protocol header has arrived.

Only then is there a link: the limits per address, ``accept=`` and `Peer` get the address of the client. The
header is peeked at and then taken from the kernel's buffer: what follows it, perhaps TLS, is left there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from linkbox.core.connection import Connection as Link
from linkbox.core.timers import NEVER
from linkbox.errors import ProtocolViolation
from linkbox.networks.network import NetworkEvents
from linkbox.networks.sockets import AF_UNIX, describe
from linkbox.proxy_header import PEEK, ProxyHeader, TrustedProxies


class ProxiedSocket:
    """An accepted socket whose header has not arrived."""

    __slots__ = ("address", "fd", "header", "owner", "sock", "timer_at", "until", "url")

    def __init__(
        self, owner: ProxiedSockets, sock: socket.socket, address: Any, url: str, until: float
    ) -> None:
        self.owner: ProxiedSockets = owner
        self.sock: socket.socket = sock
        self.fd: int = sock.fileno()
        self.address: Any = address
        self.url: str = url
        """The address of the proxy."""
        self.header: ProxyHeader = ProxyHeader()
        self.until: float = until
        self.timer_at: float = NEVER

    def next_timer(self) -> float:
        """When the header must be complete."""
        return self.until

    def handle_timer(self, now: float) -> None:
        """The header is late."""
        if now >= self.until:
            self.owner.reject(self, "no PROXY protocol header has arrived in time", now)


class ProxiedSockets:
    """All of them of one server."""

    def __init__(
        self,
        events: NetworkEvents,
        proxies: TrustedProxies,
        is_secure: bool,
        watch: Callable[[int], None],
        forget: Callable[[int], object],
        carry: Callable[[socket.socket, Link], None],
    ) -> None:
        self._events = events
        self._proxies = proxies
        self._is_secure = is_secure
        self._watch = watch
        """Have `on_readable` called for this descriptor."""
        self._forget = forget
        self._carry = carry
        """Begin to carry the bytes of a link over this socket."""
        self.waiting: dict[int, ProxiedSocket] = {}

    def add(self, sock: socket.socket, address: Any, now: float) -> None:
        """A connection was accepted: wait for its header."""
        url, _ = describe(sock.family, address, self._is_secure)
        limits = self._events.limits
        each = ProxiedSocket(self, sock, address, url, now + limits.handshake)
        if sock.family != AF_UNIX and not self._proxies.trust(address[0]):
            self.reject(each, "it is not one of the proxies in proxy_protocol=", now)
            return
        if len(self.waiting) >= limits.unwelcomed:
            oldest = next(iter(self.waiting.values()))
            self.reject(oldest, "too many connections wait for a PROXY protocol header", now)
        self.waiting[each.fd] = each
        self._events.schedule(each, each.until)
        self._watch(each.fd)

    def on_readable(self, fd: int, now: float) -> bool:
        """Read what has arrived. False if the descriptor is none of these."""
        each = self.waiting.get(fd)
        if each is None:
            return False
        try:
            data = each.sock.recv(PEEK, socket.MSG_PEEK)
            if not data:
                raise ProtocolViolation("it was closed before its PROXY protocol header was complete")
            each.sock.recv(each.header.take(data))
        except (BlockingIOError, InterruptedError):
            return True
        except (OSError, ProtocolViolation) as error:
            self.reject(each, str(error), now)
            return True
        if each.header.is_complete:
            self._admit(each, now)
        return True

    def _admit(self, each: ProxiedSocket, now: float) -> None:
        """The header is complete: go on as with every other connection."""
        self._remove(each)
        source, link = each.header.source, None
        if source is None:
            url, origin = describe(each.sock.family, each.address, self._is_secure)
        else:
            url, origin = describe(socket.AF_INET, source, self._is_secure)
        try:
            link = self._events.accept(url, origin, now)
        except BaseException as error:
            self._events.accept_failed(error)
        if link is None:
            each.sock.close()
            return
        try:
            self._carry(each.sock, link)
        except BaseException as error:
            each.sock.close()
            self._events.link_failed(link, error)

    def reject(self, each: ProxiedSocket, reason: str, now: float) -> None:
        """Close the connection, and log why."""
        self._remove(each)
        each.sock.close()
        self._events.reject(each.url, reason, now)

    def _remove(self, each: ProxiedSocket) -> None:
        each.until = NEVER
        if self.waiting.pop(each.fd, None) is not None:
            self._forget(each.fd)

    def close(self) -> None:
        """Close all of them."""
        for each in list(self.waiting.values()):
            self._remove(each)
            each.sock.close()

    def sockets(self) -> list[socket.socket]:
        """The sockets, for a forked child, which closes its copies."""
        return [each.sock for each in self.waiting.values()]

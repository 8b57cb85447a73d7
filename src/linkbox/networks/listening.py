"""Listening sockets: bind, accept connections, remove the socket file."""

from __future__ import annotations

import errno
import os
import socket
import stat

import msgspec

from linkbox import logs
from linkbox.address import Address, address_of
from linkbox.core.connection import Connection as Link
from linkbox.errors import ListenFailed
from linkbox.limits import Limits
from linkbox.networks.network import Listener, NetworkEvents
from linkbox.networks.proxied import ProxiedSockets
from linkbox.networks.sockets import HANDS_DOWN, OUT_OF, describe, prepare, set_options
from linkbox.proxy_header import TrustedProxies

BACKLOG = 4096
"""Connections that the kernel accepts ahead of us, as far as it permits (on Linux ``net.core.somaxconn``). A
connection beyond them waits a second or longer, until its client's kernel tries again."""
ACCEPTS = 64
"""Connections accepted in one turn, at most."""
ACCEPT_PAUSE = 0.2
"""Seconds without accepting after the process ran out of descriptors."""
CROWD_PAUSE = 0.01
"""The same while every connection in its handshake waits for a decision of this server."""
_AF_UNIX = getattr(socket, "AF_UNIX", None)


class SocketListener(Listener):
    """A listening socket."""

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        file: tuple[int, int] | None,
        proxies: TrustedProxies | None = None,
        is_given: bool = False,
    ) -> None:
        self.sock = sock
        self.is_given = is_given
        """Was the socket handed in? Then what is queued in it waits for the next one that accepts from it."""
        self.accepts: int = min(ACCEPTS, max(1, descriptor_bound(20 * ACCEPTS) // 16))
        """Connections accepted in one turn. What makes room for them is closed after it: a process with few
        descriptors would run out of them."""
        self.proxies = proxies
        """None: connections do not come by way of a proxy that names their clients."""
        self._address = address
        self._file = file
        """Identifies the socket file of this server: see `socket_file`."""

    def close(self) -> None:
        self.sock.close()
        release(self._address, self._file)

    def close_copy(self) -> None:
        self.sock.close()


def bind(
    address: Address,
    given: socket.socket | None,
    proxies: TrustedProxies | None,
    limits: Limits,
    is_plain: bool,
) -> tuple[SocketListener, Address]:
    """Make a listening socket; return it with its actual address. Raises `ListenFailed`."""
    try:
        listener = given.dup() if given is not None else _listen(address, limits, is_plain)
    except OSError as error:
        raise ListenFailed(f"cannot listen at {address}: {_hint(error, address)}") from error
    listener.setblocking(False)
    found = address_of(listener)
    if address.scheme == "tls":
        found = msgspec.structs.replace(found, scheme="tls")
    return SocketListener(listener, found, socket_file(found, given), proxies, given is not None), found


def _listen(address: Address, limits: Limits, is_plain: bool) -> socket.socket:
    if address.scheme == "unix":
        return _listen_unix(address)
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, target = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # A restarted server must not wait for old connections to time out.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        set_options(listener, family, limits, is_plain)  # before the first connection: see HANDS_DOWN
        listener.bind(target)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_unix(address: Address) -> socket.socket:
    assert _AF_UNIX is not None
    path = address.sockaddr
    assert isinstance(path, str)
    if not path.startswith("\0"):
        _remove_stale(path)
    listener = socket.socket(_AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket file that was left by a dead server, so that no process listens at it."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    assert _AF_UNIX is not None
    with socket.socket(_AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)


def socket_file(address: Address, given: socket.socket | None) -> tuple[int, int] | None:
    """Device and inode of a server's socket file, which identify it if another server replaces the file."""
    path = address.sockaddr
    if address.scheme != "unix" or given is not None or not isinstance(path, str) or path.startswith("\0"):
        return None
    found = os.stat(path)
    return found.st_dev, found.st_ino


def release(address: Address, file: tuple[int, int] | None) -> None:
    """Remove the socket file of a stopped server, unless another server has replaced it."""
    path = address.sockaddr
    if file is None or not isinstance(path, str):
        return
    try:
        found = os.stat(path)
        if (found.st_dev, found.st_ino) == file:
            os.unlink(path)
    except FileNotFoundError:
        pass


def _hint(error: OSError, address: Address) -> str:
    hints = {
        errno.EADDRINUSE: "the address is in use, by another program or another server",
        errno.EACCES: "not permitted (ports below 1024 and some folders need rights)",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.ENOENT: "there is no such folder",
    }
    if isinstance(error, socket.gaierror):
        what = "network interface" if "%" in address.host else "host name"
        return f"there is no such {what} ({error.strerror})"
    hint = hints.get(error.errno or 0)
    return f"{hint} ({error})" if hint else str(error)


def descriptor_bound(limit: int) -> int:
    """The most connections of a server: the limit, or fewer if the process has too few descriptors."""
    try:
        import resource
    except ImportError:  # pragma: no cover  (Windows has no such limit)
        return limit
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit if soft == resource.RLIM_INFINITY else min(limit, max(1, soft * 8 // 10))


def accept_some(
    events: NetworkEvents,
    listener: SocketListener,
    is_secure: bool,
    now: float,
    proxied: ProxiedSockets | None = None,
) -> tuple[list[tuple[socket.socket, Link]], float]:
    """Accept the queued connections. Return them with their links, and the seconds to pause after that."""
    accepted: list[tuple[socket.socket, Link]] = []
    family = int(listener.sock.family)
    is_prepared = HANDS_DOWN and not listener.is_given
    for _ in range(listener.accepts):
        if events.is_crowded(now):
            return accepted, 0.0 if accepted else CROWD_PAUSE
        try:
            sock, address = listener.sock.accept()
        except (BlockingIOError, InterruptedError):
            break
        except OSError as error:
            if error.errno in OUT_OF:
                logs.write(logs.WARNING, f"cannot accept connections for now: {error}")
                return accepted, ACCEPT_PAUSE
            continue  # This connection was closed before it was accepted.
        link = None
        try:
            if is_prepared:
                sock.setblocking(False)
            else:
                prepare(sock, family, events.limits, events.hub.context.is_plain)
            if proxied is not None:
                proxied.add(sock, address, now)
                continue
            url, origin = describe(family, address, is_secure)
            link = events.accept(url, origin, now)
        except OSError:
            pass  # It was closed again before this.
        except BaseException as error:
            events.accept_failed(error)
        if link is None:
            sock.close()
        else:
            accepted.append((sock, link))
    return accepted, 0.0

"""Functions for sockets: options, writing lists of buffers, names, error messages. They keep no state."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import Any

from linkbox.address import Address, host_of, origin_of, peer_host
from linkbox.errors import ConnectFailed
from linkbox.limits import Limits

AF_UNIX = getattr(socket, "AF_UNIX", -1)
JOIN_SIZE = 32 * 1024
"""Up to this many bytes, joining buffers costs less than passing a list of them to the kernel."""
LARGE_READ = 256 * 1024
"""Bytes that one read takes at most."""
TURN_SIZE = 128 * 1024
"""Once so much was read in one turn, the connections that come later in it are read in pieces of `FAIR_READ`:
the messages of many busy peers must not keep all others waiting."""
FAIR_READ = 1024
OUT_OF: set[int] = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    getattr(errno, "WSAEMFILE", errno.EMFILE),
}
"""Errors if the process or the machine has no descriptors or buffers left."""
IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)
"""What `connect_now` returns while the socket connects."""
HANDS_DOWN: bool = sys.platform == "linux"
"""Does a listening socket hand its options down to the connections that it accepts?"""
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")


def write_buffers(sock: socket.socket, buffers: list[Any]) -> list[Any]:
    """Write as much as the kernel accepts; return the rest."""
    total = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
    try:
        if len(buffers) == 1:
            sent = sock.send(buffers[0])
        elif total <= JOIN_SIZE or not _HAS_SENDMSG:
            buffers = [b"".join(buffers)]
            sent = sock.send(buffers[0])
        else:
            sent = sock.sendmsg(buffers[:512])
    except (BlockingIOError, InterruptedError):
        sent = 0
    if sent == total:
        return []
    rest = []
    for buffer in buffers:
        size = len(buffer)
        if sent >= size:
            sent -= size
        else:
            rest.append(memoryview(buffer)[sent:] if sent else buffer)
            sent = 0
    return rest


def prepare(sock: socket.socket, family: int, limits: Limits, is_plain: bool) -> None:
    """Set a socket non-blocking, and its options."""
    sock.setblocking(False)
    set_options(sock, family, limits, is_plain)


def set_options(sock: socket.socket, family: int, limits: Limits, is_plain: bool) -> None:
    """No Nagle's algorithm, and our timeouts in the kernel."""
    if family != AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if is_plain:
            keep_alive(sock, limits)
        if _USER_TIMEOUT is not None:
            patience = max(limits.heartbeat + limits.peer_timeout, limits.stalled_write)
            sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, min(int(patience * 1000) + 1, 2**31 - 1))


def keep_alive(sock: socket.socket, limits: Limits) -> None:
    """Let the kernel find out that a silent peer is gone, for a plain framing has no heartbeat of its own."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probes = 3
    for name, value in (
        ("TCP_KEEPIDLE", limits.heartbeat),
        ("TCP_KEEPINTVL", limits.peer_timeout / probes),
        ("TCP_KEEPCNT", probes),
    ):
        option: int | None = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, max(1, round(min(value, 32767))))


def is_connected(sock: socket.socket) -> bool:
    """Is the socket connected already? Local connections are, although the kernel reports progress."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def has_ended(sock: socket.socket) -> bool:
    """Has the peer closed the connection, or at least its half, and sent nothing before?"""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True


def reset_on_close(sock: socket.socket) -> None:
    """Make closing the socket send RST instead of FIN."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # The connection is broken already.


def describe(family: int, address: Any, secure: bool = False) -> tuple[str, str | None]:
    """A peer's URL, and what it counts for in the limits per address (None: this machine, exempt)."""
    if family == AF_UNIX:
        return "unix:", None
    host, port = host_of(address), address[1]
    shown = peer_host(host)
    if ":" in shown:
        shown = f"[{shown}]"
    return f"{'tls' if secure else 'tcp'}://{shown}:{port}", origin_of(host)


Target = tuple[int, Any]
"""What to connect to: an address family, and an address of it as the socket module takes it."""


def resolve(address: Address) -> list[Target]:
    """The targets of an address. Blocks while a name server is asked."""
    if address.scheme == "unix":
        return [(AF_UNIX, address.sockaddr)]
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return [(family, target) for family, _, _, _, target in found]


class KnownTargets:
    """The targets of addresses. Those of a name, and of an interface, are looked up for each connection."""

    def __init__(self) -> None:
        self._known: dict[Address, list[Target]] = {}

    def asks_name_server(self, address: Address) -> bool:
        """May `find` block, because a name server is asked?"""
        return address not in self._known and address.host_kind == "name"

    def find(self, address: Address) -> list[Target]:
        """The targets of an address."""
        found = self._known.get(address)
        if found is None:
            found = resolve(address)
            if address.host_kind != "name" and "%" not in address.host:
                self._known[address] = found
        return found


def connect_now(sock: socket.socket, target: Any) -> int:
    """Begin to connect a non-blocking socket. 0 if it is connected already, else an error number."""
    code = sock.connect_ex(target)
    return 0 if code == errno.EINPROGRESS and is_connected(sock) else code


def checked_socket(found: Any) -> socket.socket:
    """What the user's ``connect=`` has returned, if it is a socket."""
    if not isinstance(found, socket.socket):
        raise TypeError(f"connect= returned {found!r:.80}, not a connected socket.socket")
    return found


def as_os_error(error: Exception) -> OSError:
    """The error of an attempt to connect by the user's ``connect=``."""
    return (
        error if isinstance(error, OSError) else OSError(f"connect= failed: {type(error).__name__}: {error}")
    )


def connect_error(address: str, error: OSError) -> ConnectFailed:
    """The error of a failed attempt, with a hint at the remedy."""
    hints = {
        errno.ECONNREFUSED: "nobody listens there; is the server started?",
        errno.ENOENT: "there is no such socket; is the server started?",
        errno.EACCES: "not permitted; look at the rights of the socket file",
        errno.ENETUNREACH: "no route to that network",
        errno.EHOSTUNREACH: "no route to that host",
        errno.EADDRNOTAVAIL: "no local port is free; many short connections use them up: keep one open with "
        "linger= (ClientP2M) or keep_alive=True (ClientAR), or use send_many()",
        errno.EMFILE: "this process has no free descriptor: stop() endpoints, or raise `ulimit -n`",
        errno.ENFILE: "this machine has no free descriptor",
    }
    if isinstance(error, socket.gaierror):
        hint = "no such network interface" if "%" in address else "no such host name"
    elif error.errno == errno.EINVAL and "[fe80:" in address and "%" not in address:
        hint = "a link-local address needs its interface, as in [fe80::1%eth0]"
    elif isinstance(error, TimeoutError):
        hint = "no answer in time"
    else:
        hint = hints.get(error.errno or 0, "")
    result = ConnectFailed(f"cannot connect to {address}: {hint or error}" + (f" ({error})" if hint else ""))
    result.__cause__ = error
    return result

"""TLS as a transport of faults: certificates for this process and its children, and a bare socket in TLS."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import ssl
import tempfile
from functools import cache
from pathlib import Path

from linkbox import tls
from tests.threaded.helpers import dial

FOLDER = "LINKBOX_TEST_CERTIFICATES"
"""In the environment: where the certificates are; children find those of their parent."""


class Half(ssl.SSLSocket):
    """A socket that closes its writing half as TLS has it, and goes on reading."""

    def shutdown(self, how: int) -> None:
        timeout = self.gettimeout()
        self.setblocking(False)
        try:
            self._sslobj.shutdown()  # type: ignore[attr-defined]  # unwrap() would wait for the peer
        except OSError:
            pass  # it waits for the other half, or there is nobody any more
        self.settimeout(timeout)
        try:
            socket.socket.shutdown(self, how)
        except OSError:
            pass  # close_notify was enough for a peer that resets

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        while True:
            try:
                return super().recv(buflen, flags)  # MSG_PEEK and the like are not for TLS
            except ssl.SSLZeroReturnError:
                return b""
            except BlockingIOError:
                pass  # another thread wrote on it meanwhile


def folder() -> Path:
    """Where the certificates are; they are made when they are needed for the first time."""
    if FOLDER not in os.environ:
        from tests.tls.certificates import Authority

        made = Path(os.environ.setdefault(FOLDER, tempfile.mkdtemp(prefix="linkbox-")))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        issued = Authority(made).issue("server", "127.0.0.1", "localhost")
        issued.cert.rename(made / "server.pem")
        issued.key.rename(made / "server.key")
    return Path(os.environ[FOLDER])


def server() -> ssl.SSLContext:
    """What servers need."""
    return tls.server_context(folder() / "server.pem", folder() / "server.key")


def client() -> ssl.SSLContext:
    """What clients need."""
    return tls.client_context(folder() / "authority.pem")


def dial_tls(address: str, timeout: float = 10.0) -> socket.socket:
    """A bare socket to a tls:// address, hands shaken."""
    return shake_hands(dial(address, timeout))


def shake_hands(sock: socket.socket) -> socket.socket:
    """TLS over a connected socket."""
    return bare().wrap_socket(sock)


@cache
def bare() -> ssl.SSLContext:
    """What bare sockets need."""
    context = client()
    context.sslsocket_class = Half
    context.check_hostname = False  # some tests call a server by whatever address it has
    return context

"""Checks the addresses of endpoints: scheme, TLS, and servers open to the network without protection."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

from linkbox.address import Address, address_of
from linkbox.errors import AddressError

_AF_UNIX = getattr(socket, "AF_UNIX", None)


def check_server_address(address: Any, insecure: bool, ssl: Any = None, has_secret: bool = False) -> Address:
    """Return the address of a server; raise if it would be open to the network without protection."""
    found = address_of(address) if isinstance(address, socket.socket) else Address.parse(address, server=True)
    found = with_ssl(found, address, ssl)
    check_scheme(found)
    if found.is_broker:
        return found  # The server listens nowhere: it connects to the broker, which authenticates.
    if found.scheme == "tls" and ssl is None:
        raise AddressError(
            f'{found} needs a certificate: ssl=linkbox.tls.server_context("cert.pem", "key.pem"); '
            "`linkbox cert` makes some"
        )
    if not found.is_local and not insecure and not (ssl and (has_secret or demands_certificates(ssl))):
        lacks = "anyone who can reach it may use it" if ssl else "nothing protects it"
        raise AddressError(
            f"{found} can be reached from other machines, and {lacks}: use a tls:// address with ssl= and a "
            "secret= (or client certificates: linkbox.tls.server_context(…, client_ca=…)), listen at "
            "127.0.0.1 or at a unix:// address, or say insecure=True"
        )
    return found


def with_ssl(address: Address, given: Any, ssl: Any) -> Address:
    """Return the address with ``ssl=`` applied: a pair or a socket, which have no scheme, become tls."""
    if ssl is None:
        return address
    if address.scheme in ("unix", "memory"):
        raise AddressError(f"{address} never leaves this machine, and takes no ssl=: leave it out")
    if address.is_broker:
        return replace(address, scheme="nats+tls")
    if address.scheme == "tcp" and isinstance(given, str | Address):
        tls = replace(address, scheme="tls")
        raise AddressError(
            f"{address} is not encrypted, but there is an ssl=: write {tls}, or leave ssl= out"
        )
    return replace(address, scheme="tls")


def demands_certificates(ssl: Any) -> bool:
    """Does this server's context require client certificates?"""
    return getattr(ssl, "verify_mode", None) == 2  # ssl.CERT_REQUIRED, without loading the module


def check_scheme(address: Address) -> None:
    """Raise `AddressError` for a scheme that this platform does not support."""
    if address.scheme == "unix" and _AF_UNIX is None:
        raise AddressError(f"{address}: there are no unix sockets on this platform; use tcp://127.0.0.1:…")

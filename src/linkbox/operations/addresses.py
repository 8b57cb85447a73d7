"""Checks the addresses of endpoints: scheme, TLS, and servers open to the network without protection."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import msgspec

from linkbox.address import Address, address_of
from linkbox.errors import AddressError
from linkbox.operations.arguments import function

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


def client_addresses(given: Any, ssl: Any) -> tuple[Address, ...]:
    """Return the addresses that a client tries: one, or those of a list."""
    several = given if isinstance(given, list) else [given]
    if not several:
        raise AddressError("the list of addresses is empty")
    found = tuple(with_ssl(Address.parse(each), each, ssl) for each in several)
    for each in found:
        check_scheme(each)
        if len(found) > 1 and each.scheme not in ("tcp", "tls", "unix"):
            raise AddressError(f"{each} cannot be one of several addresses: tcp, tls and unix can")
    if len({each.scheme == "tls" for each in found}) > 1:
        raise AddressError(
            "some of these addresses are encrypted, others are not: use tls:// for all, or none"
        )
    return found


def check_connect(connect: Any, addresses: tuple[Address, ...]) -> Callable[[], Any] | None:
    """Return the function that connects; raise if it cannot work with these addresses."""
    if connect is None:
        return None
    if len(addresses) > 1:
        raise ValueError("connect= connects by itself: give one address, which names the server")
    if addresses[0].scheme not in ("tcp", "tls", "unix"):
        raise ValueError(f"connect= is for sockets, not for {addresses[0]}")
    return function(connect, "connect", "callable() -> socket.socket")


def with_ssl(address: Address, given: Any, ssl: Any) -> Address:
    """Return the address with ``ssl=`` applied: a pair or a socket, which have no scheme, become tls."""
    if ssl is None:
        return address
    if address.scheme in ("unix", "memory"):
        raise AddressError(f"{address} never leaves this machine, and takes no ssl=: leave it out")
    if address.is_broker:
        return msgspec.structs.replace(address, scheme="nats+tls")
    if address.scheme == "tcp" and isinstance(given, str | Address):
        tls = msgspec.structs.replace(address, scheme="tls")
        raise AddressError(
            f"{address} is not encrypted, but there is an ssl=: write {tls}, or leave ssl= out"
        )
    return msgspec.structs.replace(address, scheme="tls")


def demands_certificates(ssl: Any) -> bool:
    """Does this server's context require client certificates?"""
    return getattr(ssl, "verify_mode", None) == 2  # ssl.CERT_REQUIRED, without loading the module


def check_scheme(address: Address) -> None:
    """Raise `AddressError` for a scheme that this platform does not support."""
    if address.scheme == "unix" and _AF_UNIX is None:
        raise AddressError(f"{address}: there are no unix sockets on this platform; use tcp://127.0.0.1:…")

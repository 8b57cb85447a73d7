"""Chooses the network for an address. Only this module imports all of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from linkbox.address import Address
from linkbox.broker import Nats
from linkbox.limits import Limits
from linkbox.networks.network import AioNetwork, Listener, NetworkEvents, ThreadedNetwork
from linkbox.proxy_header import TrustedProxies

if TYPE_CHECKING:
    from ssl import SSLContext

    from linkbox.networks.tls_link import TlsLink

MakeTls = Callable[[], "TlsLink"]


class BrokerAccess(NamedTuple):
    """What the connection to a broker needs besides the address."""

    settings: Nats
    ssl: SSLContext | None


def threaded_network(
    events: NetworkEvents,
    address: Address,
    lock: threading.RLock,
    make_tls: MakeTls | None,
    access: BrokerAccess | None,
) -> ThreadedNetwork:
    """Make the network for a start of a threaded endpoint."""
    if access is not None:
        from linkbox.nats.networks import ThreadedNats

        return ThreadedNats(events, address, access)
    if address.scheme == "memory":
        from linkbox.networks.memory import ThreadedMemory

        return ThreadedMemory(events, address, lock)
    from linkbox.networks.sockets_threaded import ThreadedSockets

    return ThreadedSockets(events, address, lock, make_tls)


def aio_network(
    events: NetworkEvents, address: Address, make_tls: MakeTls | None, access: BrokerAccess | None
) -> AioNetwork:
    """Make the network for a start of an asyncio endpoint, on the running event loop."""
    if access is not None:
        from linkbox.nats.networks import AioNats

        return AioNats(events, address, access)
    if address.scheme == "memory":
        from linkbox.networks.memory import AioMemory

        return AioMemory(events, address)
    from linkbox.networks.sockets_aio import AioSockets

    return AioSockets(events, address, make_tls)


def bind(
    address: Address,
    given: socket.socket | None,
    proxies: TrustedProxies | None,
    limits: Limits,
    is_plain: bool,
) -> tuple[Listener, Address]:
    """Listen at an address; return the listener and its actual address. Raises `ListenFailed`.

    ``proxies``: connections come from these, and begin with a PROXY protocol header.
    """
    if address.scheme == "memory":
        from linkbox.networks.memory_hub import bind as bind_memory

        return bind_memory(address), address
    if address.is_broker:
        from linkbox.nats.port import NatsListener

        return NatsListener(), address
    from linkbox.networks.listening import bind as bind_socket

    return bind_socket(address, given, proxies, limits, is_plain)


def tls_maker(address: Address, ssl: SSLContext | None, is_server: bool, has_secret: bool) -> MakeTls | None:
    """Return the function that makes the TLS of a connection; None without TLS. Checks ``ssl=``."""
    if address.scheme != "tls":
        return None
    from linkbox.networks.tls_link import tls_maker as maker

    return maker(address, ssl, is_server, has_secret)


def descriptor_bound(limit: int) -> int:
    """The most connections of a server: the limit, or fewer if the process has too few descriptors."""
    from linkbox.networks.listening import descriptor_bound as bound

    return bound(limit)


def time_source(address: Address) -> Callable[[], float]:
    """The clock of an endpoint: seconds, as of ``time.monotonic()``."""
    if address.scheme == "memory":
        from linkbox.networks.memory_hub import current_time

        return current_time
    return monotonic

"""What a socket is told before it is used."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from linkbox import Limits, ListenFailed, ServerP2M
from linkbox.address import Address, host_of
from linkbox.networks.listening import accept_some, bind
from linkbox.networks.sockets import connect_error, describe, prepare


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has TCP_USER_TIMEOUT")
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), 40_001),
        (Limits(heartbeat=1.0, peer_timeout=1.5, stalled_write=2.0), 2_501),
        (Limits(stalled_write=1e9), 2**31 - 1),
    ],
)
def test_the_kernel_gives_up_when_we_would(limits: Limits, expected: int) -> None:
    with socket.socket() as sock:
        prepare(sock, socket.AF_INET, limits, is_plain=False)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == expected
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getblocking()


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="Linux has TCP_KEEPIDLE")
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), [20, 7, 3]),
        (Limits(heartbeat=0.1, peer_timeout=0.1), [1, 1, 3]),
        (Limits(heartbeat=1e9, peer_timeout=1e9), [32767, 32767, 3]),
    ],
)
def test_the_kernel_looks_for_silent_peers(limits: Limits, expected: list[int]) -> None:
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    with socket.socket() as sock:
        prepare(sock, socket.AF_INET, limits, is_plain=True)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names] == expected


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="Linux has TCP_KEEPIDLE")
@pytest.mark.parametrize("is_given", [False, True])
def test_accepted_connections_have_the_same_options(is_given: bool) -> None:
    limits = Limits(heartbeat=5.0, peer_timeout=12.0, stalled_write=25.0)
    links = [SimpleNamespace()]
    events: Any = SimpleNamespace(
        limits=limits,
        hub=SimpleNamespace(context=SimpleNamespace(is_plain=True)),
        is_crowded=lambda _now: not links,
        accept=lambda *_: links.pop(),
    )
    with ExitStack() as stack:
        given = stack.enter_context(socket.create_server(("127.0.0.1", 0))) if is_given else None
        listener, address = bind(
            Address.parse("tcp://127.0.0.1:0", server=True), given, None, limits, is_plain=True
        )
        stack.callback(listener.close)
        stack.enter_context(socket.create_connection((address.host, address.port)))
        [(sock, _)], _ = accept_some(events, listener, False, 0.0)
        stack.enter_context(sock)
        names = ("TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        options = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
        assert options == [1, 5, 4, 3, 25_001]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not sock.getblocking()


def test_the_interface_of_a_link_local_address_is_kept() -> None:
    number, name = socket.if_nameindex()[0]
    for given, host in (
        (("fe80::1", 9, 0, number), f"fe80::1%{name}"),
        ((f"fe80::1%{name}", 9, 0, number), f"fe80::1%{name}"),
        (("fe80::1", 9, 0, 999_999), "fe80::1%999999"),
        (("::1", 9, 0, 0), "::1"),
        (("127.0.0.1", 9), "127.0.0.1"),
    ):
        assert host_of(given) == host
    url, _ = describe(socket.AF_INET6, ("fe80::1", 9, 0, number))
    assert url == f"tcp://[fe80::1%{name}]:9"
    assert Address.parse(url).url == url


def test_errors_of_interfaces_say_so() -> None:
    missing = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert "no such network interface" in str(connect_error("tcp://[fe80::1%nosuch]:9", missing))
    assert "no such host name" in str(connect_error("tcp://nosuch:9", missing))
    assert "needs its interface" in str(connect_error("tcp://[fe80::1]:9", OSError(errno.EINVAL, "x")))
    assert "linger=" in str(connect_error("tcp://127.0.0.1:9", OSError(errno.EADDRNOTAVAIL, "x")))
    with pytest.raises(ListenFailed, match="no such network interface"):
        ServerP2M("tcp://[fe80::1%nosuch]:0", insecure=True).start()

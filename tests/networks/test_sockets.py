"""What a socket is told before it is used."""

from __future__ import annotations

import socket

import pytest

from linkbox import Limits
from linkbox.networks.sockets import prepare


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
        prepare(sock, limits)
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
        prepare(sock, limits)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names] == expected

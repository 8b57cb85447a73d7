"""The header of the PROXY protocol: both versions, whole and byte by byte, and what is malformed."""

from __future__ import annotations

import ipaddress
import random

import pytest

from linkbox.errors import ProtocolViolation
from linkbox.proxy_header import PEEK, SIGNATURE, ProxyHeader, TrustedProxies

REST = b"\x16\x03the first bytes of the client"


def binary(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2) + body


def ip(*addresses: str) -> bytes:
    return b"".join(ipaddress.ip_address(each).packed for each in addresses)


PORTS = (56324).to_bytes(2) + (443).to_bytes(2)
FOUR = ip("192.168.0.1", "192.168.0.11") + PORTS
HEADERS = [
    (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", ("192.168.0.1", 56324)),
    (b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", ("2001:db8::1", 0)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (binary(0x21, 0x11, FOUR), ("192.168.0.1", 56324)),
    (binary(0x21, 0x11, FOUR + b"\x04\x00\x03abc"), ("192.168.0.1", 56324)),
    (binary(0x21, 0x21, ip("2001:db8::1", "::1") + PORTS), ("2001:db8::1", 56324)),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, FOUR), None),
    (binary(0x21, 0x00, b"anything"), None),
    (binary(0x21, 0x31, bytes(216)), None),
]


@pytest.mark.parametrize(("header", "source"), HEADERS)
@pytest.mark.parametrize("step", [1, 5, 13, 10_000])
def test_a_header_and_nothing_behind_it_is_taken(
    header: bytes, source: tuple[str, int] | None, step: int
) -> None:
    reader, data = ProxyHeader(), header + REST
    while not reader.is_complete:
        taken = reader.take(data[:step])
        assert taken
        data = data[taken:]
    assert (reader.source, data) == (source, REST)


MALFORMED = [
    (b"GET / HTTP/1.1\r\n", "does not begin with"),
    (b"PROXZ", "does not begin with"),
    (b"\r\n\r\nX", "does not begin with"),
    (b"PROXY \r\n", "malformed"),
    (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "malformed"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "malformed"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "malformed"),
    (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", "malformed"),
    (b"PROXY TCP4 ::1 ::1 1 2\r\n", "malformed"),
    (b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n", "malformed"),
    (b"PROXY TCP6 fe80::1%x ::1 1 2\r\n", "malformed"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "malformed"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "malformed"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 999999\r\n", "malformed"),
    (b"PROXY TCP4 \xff 1.2.3.4 1 2\r\n", "malformed"),
    (b"PROXY TCP4 " + b"1" * 100, "no end within 107 bytes"),
    (SIGNATURE + b"\x31\x11\x00\x0c" + FOUR, "unknown version and command 0x31"),
    (binary(0x21, 0x11, FOUR[:11]), "too short"),
    (SIGNATURE + b"\x21\x11\xff\xff", "at most 4096 are read"),
]


@pytest.mark.parametrize(("data", "reason"), MALFORMED)
@pytest.mark.parametrize("step", [1, PEEK])
def test_malformed_headers(data: bytes, reason: str, step: int) -> None:
    def read(rest: bytes) -> None:
        reader = ProxyHeader()
        while rest:
            rest = rest[reader.take(rest[:step]) :]

    with pytest.raises(ProtocolViolation, match=reason):
        read(data)


def test_trusted_proxies() -> None:
    assert TrustedProxies(None).trust("203.0.113.9")
    some = TrustedProxies(("10.0.0.0/8", "fd00::/8", "192.0.2.1"))
    for host in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1%eth0", "192.0.2.1"):
        assert some.trust(host)
    for host in ("11.0.0.1", "::ffff:11.0.0.1", "fe80::1", "192.0.2.2"):
        assert not some.trust(host)
    with pytest.raises(ValueError, match="10"):
        TrustedProxies(("10.0.0.1/8",))


def test_no_bytes_do_harm() -> None:
    """Whatever comes: some bytes are taken and no more than there are, or it is a `ProtocolViolation`."""
    chance = random.Random(20)
    for _ in range(3000):
        data = bytearray(chance.choice(HEADERS)[0] + REST)
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        del data[chance.randrange(len(data)) :]
        reader, rest = ProxyHeader(), bytes(data)
        try:
            while rest and not reader.is_complete:
                peeked = rest[: chance.randrange(1, 40)]
                taken = reader.take(peeked)
                assert 0 < taken <= len(peeked)
                rest = rest[taken:]
        except ProtocolViolation:
            assert not reader.is_complete or reader.source is None

"""The PROXY protocol, versions 1 and 2: the header by which a proxy names the client of a connection.

It comes before everything else, TLS included, and is not acknowledged. The specification is
https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

from linkbox.errors import ProtocolViolation

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""The first bytes of version 2."""
WORD: Final = b"PROXY "
"""The first bytes of version 1."""
PEEK: Final = 4096
"""More bytes than a header has: one of version 2 may have extensions, which are read and ignored."""
_LINE: Final = 107
"""Most bytes of version 1."""
_FIXED: Final = 16
_ADDRESSES: Final = {0x11: (4, 8), 0x21: (16, 32)}
"""TCP over IPv4 and over IPv6: the length of an address, and where the port of the client is."""


class ProxyHeader:
    """Reads the header from the first bytes of a connection."""

    __slots__ = ("_held", "is_complete", "source")

    def __init__(self) -> None:
        self._held = b""
        self.is_complete: bool = False
        self.source: tuple[str, int] | None = None
        """Host and port of the client. None: the proxy names none, as for its own health checks."""

    def take(self, data: bytes) -> int:
        """Return how many of the next bytes belong to the header; `ProtocolViolation` if they cannot.

        Call it with at most `PEEK` bytes, until `is_complete`.
        """
        held = self._held + data
        for start in (SIGNATURE, WORD):
            if held[: len(start)] == start[: len(held)]:
                size = self._size(held, start is SIGNATURE)
                break
        else:
            raise ProtocolViolation("it does not begin with a PROXY protocol header")
        taken = len(data) if size is None else size - len(self._held)
        self._held += data[:taken]
        if size is not None:
            self.is_complete = True
            self.source = _binary(held[:size]) if held[:1] == b"\r" else _text(held[: size - 2])
        return taken

    def _size(self, held: bytes, is_binary: bool) -> int | None:
        """The length of the header; None if it is not complete."""
        if is_binary:
            if len(held) < _FIXED:
                return None
            size = _FIXED + int.from_bytes(held[14:16])
            if size > PEEK:
                raise ProtocolViolation(
                    f"its PROXY protocol header has {size} bytes, at most {PEEK} are read"
                )
            return size if len(held) >= size else None
        at = held.find(b"\r\n", 0, _LINE)
        if at < 0 and len(held) >= _LINE:
            raise ProtocolViolation(f"its PROXY protocol header has no end within {_LINE} bytes")
        return None if at < 0 else at + 2


def _text(line: bytes) -> tuple[str, int] | None:
    """The client in a header of version 1, without its end."""
    fields = line.split(b" ")
    if fields[1] == b"UNKNOWN":
        return None
    version = None if b"%" in line else {b"TCP4": 4, b"TCP6": 6}.get(fields[1])
    try:
        source, target = (ipaddress.ip_address(each.decode("ascii")) for each in fields[2:4])
        port, _ = (_port(each) for each in fields[4:])
    except ValueError:
        version = None
    if version is None or not source.version == target.version == version:
        raise ProtocolViolation(f"its PROXY protocol header is malformed: {bytes(line[:_LINE])!r}")
    return str(source), port


def _port(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 5 or int(digits) > 65535:
        raise ValueError
    return int(digits)


def _binary(header: bytes) -> tuple[str, int] | None:
    """The client in a header of version 2."""
    command, family = header[12], header[13]
    if command == 0x20:  # LOCAL: a connection of the proxy itself.
        return None
    if command != 0x21:
        raise ProtocolViolation(f"its PROXY protocol header has the unknown version and command {command:#x}")
    if family not in _ADDRESSES:
        return None  # No IP address, or one that the specification does not know.
    length, port_at = _ADDRESSES[family]
    if len(header) < _FIXED + port_at + 4:
        raise ProtocolViolation("its PROXY protocol header is too short for the addresses in it")
    source = ipaddress.ip_address(header[_FIXED : _FIXED + length])
    (port,) = struct.unpack_from(">H", header, _FIXED + port_at)
    return str(source), port


class TrustedProxies:
    """The hosts whose headers count: those in these networks, or all."""

    __slots__ = ("networks",)

    def __init__(self, networks: tuple[str, ...] | None) -> None:
        """ValueError for what is no network. None: all hosts are trusted."""
        self.networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] | None = (
            None if networks is None else tuple(ipaddress.ip_network(each) for each in networks)
        )

    def trust(self, host: str) -> bool:
        """Is this host, an IP address, trusted?"""
        if self.networks is None:
            return True
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self.networks)

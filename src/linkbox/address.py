"""Addresses: ``tcp://host:port``, ``tls://host:port``, ``unix:///path``, ``nats://host:port/name``.

They are parsed, not resolved.

Each malformed address is an `AddressError` that says what is wrong and shows a valid one.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from functools import lru_cache
from typing import Any, Final, Literal, NoReturn

import msgspec

from .errors import AddressError

__all__ = ["Address"]

_EXAMPLE: Final = "tcp://127.0.0.1:9000"
_PATH_LIMIT: Final = 103 if sys.platform == "darwin" else 107  # bytes: sun_path less its final NUL
_SCHEMES: Final = ("tcp", "tls", "unix", "nats", "nats+tls")
_NATS_PORT: Final = 4222

# Compiled when they are first used, by `re` itself.
_SCHEME: Final = r"([A-Za-z][A-Za-z0-9+.-]*):(//)?"
_MEMORY_NAME: Final = r"[A-Za-z0-9._-]+"
_NATS_NAME: Final = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
_NATS_NAME_LIMIT: Final = 100
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
# A name whose last label is a number would be taken for an IPv4 address by some resolvers (127.1, 0x7f.1).
_LIKE_IPV4: Final = r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?"


class Address(msgspec.Struct, frozen=True):
    """An address to listen at or connect to. Made by `parse`, which checks it; the constructor does not.

    tcp and tls use ``host`` and ``port``, and ``path`` is empty; unix uses ``path``, ``host`` is empty and
    ``port`` is 0; of a memory address (see `linkbox.testing`) ``path`` is the name. nats and nats+tls have
    the first server of the broker in ``host`` and ``port``, others in ``others``, the name in ``path``.
    Host names are in lower case, non-ASCII ones in their ASCII form (IDNA).
    """

    scheme: Literal["tcp", "tls", "unix", "memory", "nats", "nats+tls"]
    host: str = ""
    port: int = 0
    path: str = ""
    others: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, value: object, *, server: bool = False) -> Address:
        """Read a URL, a pair ``(host, port)`` or an `Address`.

        ``server=True`` allows port 0, which means any free port. Credentials in a ``nats://`` URL are left
        out: an address is shown in logs. Raises `AddressError`.
        """
        if isinstance(value, Address):
            address = value
        elif isinstance(value, str):
            address = _parse_url(value)
        elif isinstance(value, tuple):
            address = _parse_pair(value)
        else:
            kind = type(value).__name__
            raise AddressError(f'an address is a str like "{_EXAMPLE}" or a pair (host, port), not {kind}')
        if address.port == 0 and not address.path and not server:
            _refuse(value, "port 0 is for servers only; a client needs the port of its server", _EXAMPLE)
        return address

    @property
    def url(self) -> str:
        """The canonical URL of the address; `parse` returns an equal address for it."""
        if self.scheme == "unix":
            return f"unix://{self.path}" if self.path.startswith("/") else f"unix:{self.path}"
        if self.scheme == "memory":
            return f"memory://{self.path}"
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.all_hosts
        )
        return f"{self.scheme}://{hosts}/{self.path}" if self.is_broker else f"{self.scheme}://{hosts}"

    def __str__(self) -> str:
        return self.url

    @property
    def is_broker(self) -> bool:
        """Is this a name at a broker, rather than a place where a server listens?"""
        return self.scheme in ("nats", "nats+tls")

    @property
    def all_hosts(self) -> tuple[tuple[str, int], ...]:
        """Host and port; for a broker that of each of its servers."""
        return ((self.host, self.port), *self.others)

    @property
    def host_kind(self) -> Literal["ipv4", "ipv6", "name", "path"]:
        """The kind of ``host``; ``"path"`` for unix, memory and the names at a broker."""
        if self.path:
            return "path"
        ip = _ip(self.host)
        if ip is None:
            return "name"
        return "ipv4" if ip.version == 4 else "ipv6"

    @property
    def is_local(self) -> bool:
        """Is the address local to this machine: unix, memory, a loopback address, or "localhost"?"""
        if self.scheme in ("unix", "memory"):
            return True
        return all(_is_loopback(host) for host, _ in self.all_hosts)

    @property
    def is_wildcard(self) -> bool:
        """Does it mean every interface of this machine: 0.0.0.0 or ::?"""
        ip = _unmapped(self.host)
        return ip is not None and ip.is_unspecified

    @property
    def sockaddr(self) -> tuple[str, int] | str:
        """The argument for a socket: ``(host, port)``, not resolved, or the path of a unix socket."""
        if not self.path:
            return (self.host, self.port)
        return "\0" + self.path[1:] if self.path.startswith("@") else self.path

    def with_port(self, port: int) -> Address:
        """Return the address with another port. `AddressError` if out of range, or if it has no port."""
        if self.scheme == "unix":
            raise AddressError(f"{self.url} is a unix socket and has no port")
        if self.scheme == "memory":
            raise AddressError(f"{self.url} is inside this process and has no port")
        if self.is_broker:
            raise AddressError(f"{self.url} is a name at a broker: write another port into the URL")
        return msgspec.structs.replace(self, port=_checked_port(port, self.url))


def _refuse(value: object, why: str, example: str) -> NoReturn:
    raise AddressError(f'{_shown(value)} is not a valid address: {why}; write it like "{example}"')


def _shown(value: object) -> str:
    """The rejected value for an error message: cut, and without a part that may be a password."""
    if isinstance(value, str) and "@" in value and not value.startswith("unix:"):
        value = "…@" + value.rpartition("@")[2]
    return f"{value!r:.120}"


def _parse_url(url: str) -> Address:
    """Split off the scheme, and parse the rest by its kind."""
    if not url or url != url.strip():
        _refuse(url, "it begins or ends with white space" if url.strip() else "it is empty", _EXAMPLE)
    match = re.match(_SCHEME, url)
    scheme, slashes = (match[1].lower(), match[2]) if match else ("", None)
    rest = url[match.end() :] if match else url
    if scheme == "unix":
        return _parse_unix(url, rest, bool(slashes))
    if scheme == "memory" and slashes:
        if not re.fullmatch(_MEMORY_NAME, rest):
            _refuse(
                url, 'after "memory://" comes a name of letters, digits, ".", "_" and "-"', "memory://server"
            )
        return Address("memory", path=rest)
    if scheme in ("nats", "nats+tls") and slashes:
        return _parse_nats(url, scheme, rest)
    if scheme in _SCHEMES and slashes:
        host, port = _parse_authority(url, rest, scheme)
        return Address("tls" if scheme == "tls" else "tcp", host, port)
    if scheme in _SCHEMES:
        _refuse(url, f'"//" is missing after "{scheme}:"', _example(scheme))
    if slashes:
        _refuse(url, f'the scheme "{scheme}" is unknown; known are {", ".join(_SCHEMES)}', _EXAMPLE)
    if url.startswith(("/", "./", "../")):
        raise AddressError(
            f'{_shown(url)} has no scheme; did you mean "unix:{"//" * (url[0] == "/")}{url:.80}"?'
        )
    raise AddressError(f'{_shown(url)} has no scheme; did you mean "{_guess(url)}"?')


def _guess(text: str) -> str:
    """The probable URL for a text without a scheme."""
    try:
        return _parse_url(f"tcp://{text}").url
    except AddressError:
        return _EXAMPLE


def _parse_unix(url: str, path: str, slashes: bool) -> Address:
    """``unix:///absolute``, ``unix:relative``, ``unix:@abstract`` (Linux). The path has no escapes."""
    example = "unix:///run/app.sock"
    if not path or path == "@":
        _refuse(url, "the path is missing", example)
    if slashes and not path.startswith("/"):
        why = 'an absolute path must follow "unix://" (three slashes); write a relative path without slashes'
        _refuse(url, why, f"unix:{path}" if path.startswith(("@", ".")) else f"unix:///{path}")
    if "\0" in path:
        _refuse(url, "the path contains a NUL", example)
    if path.endswith("/"):
        _refuse(
            url,
            "the path ends with a slash, so it is a directory",
            f"unix:{'//' * (path[0] == '/')}{path}app.sock",
        )
    try:
        size = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        _refuse(url, "the path is not valid Unicode", example)
    if size > _PATH_LIMIT:
        _refuse(url, f"the path has {size} bytes, the system allows {_PATH_LIMIT}", example)
    return Address("unix", path=path)


def _example(scheme: str, host: str = "127.0.0.1") -> str:
    """A valid URL with this host."""
    return f"{scheme}://{host}:{_NATS_PORT}/name" if scheme.startswith("nats") else f"{scheme}://{host}:9000"


def _parse_authority(url: str, rest: str, scheme: str) -> tuple[str, int]:
    """``host:port``, with an IPv6 host in brackets."""
    example = _example(scheme)
    if "@" in rest:
        _refuse(url, "it must not contain a user or a password", example)
    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        _refuse(url, "it contains white space", example)
    tail = re.search(r"[/?#\\]", rest)
    if tail:
        _refuse(url, f"nothing may follow the port ({rest[tail.start() :]!r:.40})", example)
    if rest.startswith("["):
        host, bracket, after = rest[1:].partition("]")
        if not bracket:
            _refuse(url, 'the "]" is missing', _example(scheme, "[::1]"))
        if after and not after.startswith(":"):
            _refuse(url, '":" and the port must follow "]"', _example(scheme, f"[{host}]"))
        return _bracketed(url, host, scheme), _parse_port(url, after[1:], _example(scheme, f"[{host}]"))
    host, _, port = rest.rpartition(":") if ":" in rest else (rest, "", "")
    if ":" in host:
        _refuse(url, "an IPv6 address must be in brackets", _bracket_guess(scheme, rest))
    host = _checked_host(url, host, example)
    return host, _parse_port(url, port, _example(scheme, host))


def _parse_nats(url: str, scheme: str, rest: str) -> Address:
    """``host[:port][,host2…]/name``, with or without ``user:password@`` or ``token@``, which are left out."""
    example = f"{scheme}://127.0.0.1:{_NATS_PORT}/line-3.temperature"
    hosts, _, name = rest.partition("/")
    hosts = hosts.rpartition("@")[2]
    if "@" in name:
        _refuse(url, 'a "/" in credentials is written "%2F"', example)
    if not name:
        _refuse(url, "after the host comes the name that server and clients share", example)
    if len(name) > _NATS_NAME_LIMIT or not re.fullmatch(_NATS_NAME, name):
        why = f"the name {name!r:.80} may have letters, digits, '_' and '-', in parts joined by '.'"
        _refuse(url, why, example)
    found = []
    for each in hosts.split(","):
        bare = each.rpartition("]")[2]
        with_port = each if ":" in bare else f"{each}:{_NATS_PORT}"
        host, port = _parse_authority(url, with_port, scheme)
        if port == 0:
            _refuse(url, "port 0 means any free port, but the broker has one", example)
        found.append((host, port))
    (host, port), *others = found
    secure = scheme == "nats+tls"
    return Address("nats+tls" if secure else "nats", host, port, name, tuple(others))


def _bracket_guess(scheme: str, rest: str) -> str:
    """The probable URL for an IPv6 address without brackets."""
    host, _, port = rest.rpartition(":")
    if _ip(rest) is not None and (_ip(host) is None or len(port) < 4 or not port.isdigit()):
        return _example(scheme, f"[{rest}]")
    if _ip(host) is not None:
        return f"{scheme}://[{host}]:{port}"
    return _example(scheme, "[::1]")


def _bracketed(url: str, host: str, scheme: str) -> str:
    ip = _ip(host)
    if ip is None or ip.version != 6:
        example = _example(scheme) if ip is None else _example(scheme, host)
        _refuse(
            url,
            "brackets are for IPv6 addresses only" if ip else f"{host!r:.80} is not an IPv6 address",
            example,
        )
    return str(ip)


def _parse_port(url: object, text: str, example: str) -> int:
    """Parse the port."""
    if not text:
        _refuse(url, "the port is missing", example)
    if not (text.isascii() and text.isdigit()):
        _refuse(url, f"the port {text!r:.40} is not a number", example)
    digits = text.lstrip("0") or "0"
    return _checked_port(int(digits) if len(digits) <= 5 else 99_999, url, example)


def _checked_port(port: object, shown: object, example: str = _EXAMPLE) -> int:
    if type(port) is not int:  # bool is a subclass of int
        _refuse(shown, f"the port {port!r:.40} must be an int, not {type(port).__name__}", example)
    if not 0 <= port <= 65535:
        _refuse(shown, "a port must be from 0 to 65535", example)
    return port


def _parse_pair(pair: tuple[object, ...]) -> Address:
    """``(host, port)`` as in the socket module: IPv6 without brackets."""
    example = '("127.0.0.1", 9000)'
    if len(pair) != 2:
        raise AddressError(
            f"a tuple address is a pair (host, port), not {len(pair)} items; write it like {example}"
        )
    host, port = pair
    if not isinstance(host, str):
        raise AddressError(
            f"the host in {pair!r:.120} must be a str, not {type(host).__name__}; write it like {example}"
        )
    if host.startswith("["):
        _refuse(pair, "brackets are for URLs only", f"tcp://{host}:9000")
    if ":" in host:
        ip = _ip(host)
        if ip is None:
            _refuse(pair, f"{host!r:.80} is neither a host name nor an IPv6 address", _EXAMPLE)
        host = str(ip)
    else:
        host = _checked_host(pair, host, _EXAMPLE)
    return Address("tcp", host, _checked_port(port, pair))


def _checked_host(shown: object, host: str, example: str) -> str:
    """Return a host name or an IPv4 address in its canonical form."""
    if not host:
        _refuse(shown, "the host is missing (a server listens on every interface with 0.0.0.0)", example)
    try:
        name = host.lower() if host.isascii() else host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        _refuse(shown, f"{host!r:.80} is not a host name ({error})", example)
    if re.fullmatch(_LIKE_IPV4, name):
        ip = _ip(name)
        if ip is None:
            _refuse(
                shown,
                f"{name:.80} is not an IPv4 address: four numbers from 0 to 255, no leading zeros",
                example,
            )
        return str(ip)
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(re.fullmatch(_LABEL, label) for label in labels):
        _refuse(shown, f"{host!r:.80} is not a host name", example)
    return name


@lru_cache(1024)  # Parsing takes longer than accepting a connection.
def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address of a host, or None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unmapped(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """As `_ip`, but ::ffff:127.0.0.1 is 127.0.0.1 (Python before 3.13 does not treat it so)."""
    ip = _ip(host)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def _is_loopback(host: str) -> bool:
    ip = _unmapped(host)
    return host == "localhost" or (ip is not None and ip.is_loopback)


def address_of(sock: socket.socket) -> Address:
    """The address of a listening socket that was handed in."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise AddressError(f"{sock!r} does not listen: call its listen() first")
    name = sock.getsockname()
    if sock.family == getattr(socket, "AF_UNIX", None):
        path = os.fsdecode(name) if isinstance(name, bytes) else name
        return Address("unix", "", 0, path.replace("\0", "@", 1))
    return Address("tcp", host_of(name), name[1], "")


def host_of(name: Any) -> str:
    """The host in the address of a socket, with the interface of a link-local address (``fe80::1%eth0``)."""
    host: str = name[0]
    scope = name[3] if len(name) == 4 else 0
    if not scope or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # The interface is gone.
        return f"{host}%{scope}"


def peer_host(host: str) -> str:
    """The IP address of a peer as it is shown: ::ffff:1.2.3.4 is a client with IPv4, at a socket for both."""
    ip = _unmapped(host)
    return host if ip is None or ip.version == 6 else str(ip)


def origin_of(host: str) -> str | None:
    """What counts as one in the limits per address: an IPv4 address, or an IPv6 network of 64 bits.

    A provider gives at least such a network to each customer, who may use any address in it. None: this
    machine, or no IP address.
    """
    ip = _unmapped(host.partition("%")[0])
    if ip is None or ip.is_loopback:
        return None
    return str(ip) if ip.version == 4 else f"{ipaddress.IPv6Address(int(ip) >> 64 << 64)}/64"


def origin_of_url(address: str) -> str | None:
    """The same for the address of a peer, as a URL."""
    return origin_of(host_of_url(address))


def host_of_url(address: str) -> str:
    """The host in the address of a peer; empty for unix sockets and memory."""
    return address.partition("://")[2].rpartition(":")[0].strip("[]")

"""Addresses: one table of right forms, one of wrong ones."""

from __future__ import annotations

import re
from typing import Any

import pytest

from linkbox.address import Address
from linkbox.errors import AddressError

RIGHT = [
    # given, url, host_kind, is_local, is_wildcard, sockaddr
    ("tcp://127.0.0.1:9000", "tcp://127.0.0.1:9000", "ipv4", True, False, ("127.0.0.1", 9000)),
    ("TCP://127.0.0.1:9000", "tcp://127.0.0.1:9000", "ipv4", True, False, ("127.0.0.1", 9000)),
    (("127.0.0.1", 9000), "tcp://127.0.0.1:9000", "ipv4", True, False, ("127.0.0.1", 9000)),
    (("::1", 9000), "tcp://[::1]:9000", "ipv6", True, False, ("::1", 9000)),
    (("Example.com", 1), "tcp://example.com:1", "name", False, False, ("example.com", 1)),
    (Address("tls", "::1", 5), "tls://[::1]:5", "ipv6", True, False, ("::1", 5)),
    ("nats://127.0.0.1/a", "nats://127.0.0.1:4222/a", "path", True, False, None),
    ("NATS+TLS://Host:4/line-3.t_2", "nats+tls://host:4/line-3.t_2", "path", False, False, None),
    ("nats://[::1],b:5,127.0.0.1/x", "nats://[::1]:4222,b:5,127.0.0.1:4222/x", "path", False, False, None),
    ("nats://localhost,[::1]:7/x", "nats://localhost:4222,[::1]:7/x", "path", True, False, None),
    ("nats://joe:secret@h/x", "nats://h:4222/x", "path", False, False, None),
    ("tcp://127.8.9.10:1", "tcp://127.8.9.10:1", "ipv4", True, False, ("127.8.9.10", 1)),
    ("tcp://0.0.0.0:1", "tcp://0.0.0.0:1", "ipv4", False, True, ("0.0.0.0", 1)),
    ("tcp://[::]:65535", "tcp://[::]:65535", "ipv6", False, True, ("::", 65535)),
    ("tcp://[0:0::0001]:9", "tcp://[::1]:9", "ipv6", True, False, ("::1", 9)),
    ("tcp://[fe80::1%eth0]:9", "tcp://[fe80::1%eth0]:9", "ipv6", False, False, ("fe80::1%eth0", 9)),
    ("tls://Example.COM:443", "tls://example.com:443", "name", False, False, ("example.com", 443)),
    ("tls://example.com.:443", "tls://example.com.:443", "name", False, False, ("example.com.", 443)),
    ("memory://plant-1.x", "memory://plant-1.x", "path", True, False, "plant-1.x"),
    ("tcp://localhost:09000", "tcp://localhost:9000", "name", True, False, ("localhost", 9000)),
    ("tcp://my_box-1:1", "tcp://my_box-1:1", "name", False, False, ("my_box-1", 1)),
    ("tcp://bücher.example:1", "tcp://xn--bcher-kva.example:1", "name", False, False, None),
    ("tcp://１２７.0.0.1:1", "tcp://127.0.0.1:1", "ipv4", True, False, ("127.0.0.1", 1)),
    ("unix:///run/x.sock", "unix:///run/x.sock", "path", True, False, "/run/x.sock"),
    ("unix:/run/x.sock", "unix:///run/x.sock", "path", True, False, "/run/x.sock"),
    ("unix:x.sock", "unix:x.sock", "path", True, False, "x.sock"),
    ("unix:./@x", "unix:./@x", "path", True, False, "./@x"),
    ("unix:@name", "unix:@name", "path", True, False, "\0name"),
    ("unix:///a b/ü?#.sock", "unix:///a b/ü?#.sock", "path", True, False, "/a b/ü?#.sock"),
    ("unix:" + "x" * 100, "unix:" + "x" * 100, "path", True, False, "x" * 100),
]


@pytest.mark.parametrize(("given", "url", "kind", "local", "wildcard", "sockaddr"), RIGHT)
def test_right(given, url, kind, local, wildcard, sockaddr) -> None:
    address = Address.parse(given)
    assert address.url == str(address) == url
    assert Address.parse(url) == address, "canonical means that it stays"
    assert (address.host_kind, address.is_local, address.is_wildcard) == (kind, local, wildcard)
    assert sockaddr is None or address.sockaddr == sockaddr
    assert hash(address) == hash(Address.parse(url))


@pytest.mark.parametrize(
    ("host", "local", "wildcard"), [("127.0.0.1", True, False), ("0.0.0.0", False, True)]
)
def test_an_ipv4_address_inside_ipv6_is_seen_through(host, local, wildcard) -> None:
    address = Address.parse(f"tcp://[::ffff:{host}]:1")
    assert (address.is_local, address.is_wildcard) == (local, wildcard)


WRONG = [
    # given, what the error must say (a pattern), the address it must show
    ("", "it is empty", "tcp://127.0.0.1:9000"),
    ("  ", "it is empty", None),
    (" tcp://127.0.0.1:9000", "begins or ends with white space", None),
    ("tcp://127.0.0.1:9000\n", "begins or ends with white space", None),
    ("127.0.0.1:9000", "no scheme; did you mean", "tcp://127.0.0.1:9000"),
    ("localhost:9000", "no scheme; did you mean", "tcp://localhost:9000"),
    ("[::1]:9000", "no scheme", "tcp://[::1]:9000"),
    ("://x:1", "no scheme", "tcp://127.0.0.1:9000"),
    ("example.com", "no scheme", "tcp://127.0.0.1:9000"),
    ("9000", "no scheme", None),
    ("/run/x.sock", "no scheme; did you mean", "unix:///run/x.sock"),
    ("./x.sock", "no scheme; did you mean", "unix:./x.sock"),
    ("http://127.0.0.1:80", 'scheme "http" is unknown; known are tcp, tls, unix', None),
    ("mqtt://127.0.0.1:80", 'scheme "mqtt" is unknown', None),
    ("tcp:127.0.0.1:80", '"//" is missing', None),
    ("tls:", '"//" is missing', "tls://127.0.0.1:9000"),
    ("tcp:/127.0.0.1:80", '"//" is missing', None),
    ("tcp://", "host is missing", None),
    ("tcp://:9000", "host is missing .*0.0.0.0", None),
    ("tcp://127.0.0.1", "port is missing", "tcp://127.0.0.1:9000"),
    ("tls://h:", "port is missing", "tls://h:9000"),
    ("tcp://[::1]", "port is missing", "tcp://[::1]:9000"),
    ("tcp://h:http", "port 'http' is not a number", "tcp://h:9000"),
    ("tcp://h:-1", "port '-1' is not a number", None),
    ("tcp://h:+1", "is not a number", None),
    ("tcp://h:0x50", "is not a number", None),
    ("tcp://h:٣", "is not a number", None),
    ("tcp://h:65536", "from 0 to 65535", None),
    ("tcp://h:" + "9" * 5000, "from 0 to 65535", None),
    ("tcp://h:0", "port 0 is for servers only", None),
    ("tcp://h:1/", "nothing may follow the port", None),
    ("tcp://h:1?a=b", "nothing may follow the port", None),
    ("tcp://h:1#a", "nothing may follow the port", None),
    ("tcp://h\\x:1", "nothing may follow", None),
    ("tcp://user:secret@h:1", "must not contain a user or a password", None),
    ("user:secret@h:1", "no scheme", None),
    ("http://user:secret@h:1", "is unknown", None),
    ("tcp://a b:1", "contains white space", None),
    ("tcp://h:1\0", "contains white space", None),
    ("tcp://a\u3000b:1", "contains white space", None),
    ("tcp://::1:9000", "must be in brackets", "tcp://[::1]:9000"),
    ("tcp://::1", "must be in brackets", "tcp://[::1]:9000"),
    ("tls://fe80::1:2:3", "must be in brackets", "tls://[fe80::1:2:3]:9000"),
    ("tls://1:2:3:4:5:6:7:8:9000", "must be in brackets", "tls://[1:2:3:4:5:6:7:8]:9000"),
    ("tcp://a:b:9000", "must be in brackets", "tcp://[::1]:9000"),
    ("tcp://[::1:9000", '"\\]" is missing', None),
    ("tcp://[::1]9000", 'must follow "\\]"', "tcp://[::1]:9000"),
    ("tcp://[::g]:9000", "is not an IPv6 address", None),
    ("tcp://[]:9000", "is not an IPv6 address", None),
    ("tcp://[fe80::1%]:9000", "is not an IPv6 address", None),
    ("tcp://[127.0.0.1]:9000", "brackets are for IPv6 addresses only", "tcp://127.0.0.1:9000"),
    ("tcp://300.1.1.1:1", "is not an IPv4 address", None),
    ("tcp://1.2.3:1", "is not an IPv4 address", None),
    ("tcp://127.1:1", "is not an IPv4 address", None),
    ("tcp://127.0.0.01:1", "is not an IPv4 address: .*leading zeros", None),
    ("tcp://127.0.0.1.:1", "is not an IPv4 address", None),
    ("tcp://2130706433:1", "is not an IPv4 address", None),
    ("tcp://0x7f000001:1", "is not an IPv4 address", None),
    ("tcp://a..b:1", "is not a host name", None),
    ("tcp://-a:1", "is not a host name", None),
    ("tcp://a-:1", "is not a host name", None),
    ("tcp://*:1", "is not a host name", None),
    ("tcp://" + "a" * 64 + ":1", "is not a host name", None),
    ("tcp://" + "a." * 127 + ":1", "is not a host name", None),
    ("tcp://ü" + "a" * 70 + ":1", "is not a host name", None),
    ("tcp://ü..a:1", "is not a host name", None),
    ("tcp://\ud800:1", "is not a host name", None),
    ("unix:", "path is missing", "unix:///run/app.sock"),
    ("unix://", "path is missing", None),
    ("unix:@", "path is missing", None),
    ("unix://run/x.sock", "three slashes", "unix:///run/x.sock"),
    ("unix://@name", "three slashes", "unix:@name"),
    ("unix:///run/", "directory", "unix:///run/app.sock"),
    ("unix:run/", "directory", "unix:run/app.sock"),
    ("unix:///a\0b", "NUL", None),
    ("unix:///\ud800", "not valid Unicode", None),
    ("unix:///" + "ü" * 60, "121 bytes, the system allows 10", None),
    ("nats://h", "after the host comes the name", None),
    ("nats://h/", "after the host comes the name", None),
    ("nats:h/a", '"//" is missing', "nats://127.0.0.1:4222/name"),
    ("nats://h/a..b", "the name 'a..b' may have", None),
    ("nats://h/a*", "the name 'a\\*' may have", None),
    ("nats://h/" + "a" * 101, "the name", None),
    ("nats://h:0/a", "port 0 means", None),
    ("nats://h,/a", "host is missing", None),
    ("nats://::1/a", "must be in brackets", "nats://[::1]:4222/name"),
    ("nats://a:b:4/a", "must be in brackets", "nats://[::1]:4222/name"),
    ("nats://[::1:4/a", '"\\]" is missing', "nats://[::1]:4222/name"),
    ("nats://joe:sec/secret@h/x", "is written", None),
    (("127.0.0.1",), "not 1 items", None),
    (("::1", 1, 0, 0), "not 4 items", None),
    ((), "not 0 items", None),
    (("127.0.0.1", "9000"), "port '9000' must be an int, not str", None),
    (("127.0.0.1", True), "port True must be an int, not bool", None),
    (("127.0.0.1", 1.0), "must be an int, not float", None),
    (("127.0.0.1", None), "must be an int, not NoneType", None),
    (("127.0.0.1", -1), "from 0 to 65535", None),
    (("127.0.0.1", 65536), "from 0 to 65535", None),
    (("127.0.0.1", 0), "port 0 is for servers only", None),
    ((b"127.0.0.1", 1), "must be a str, not bytes", None),
    ((None, 1), "must be a str, not NoneType", None),
    (("", 1), "host is missing", None),
    (("[::1]", 9000), "brackets are for URLs only", "tcp://[::1]:9000"),
    (("::g", 1), "neither a host name nor an IPv6", None),
    (("a b", 1), "is not a host name", None),
    (("a/b", 1), "is not a host name", None),
    (("300.1.1.1", 1), "is not an IPv4 address", None),
    (None, "not NoneType", None),
    (9000, "not int", None),
    (b"tcp://127.0.0.1:9000", "not bytes", None),
    (["127.0.0.1", 9000], "not list", None),
]


@pytest.mark.parametrize(("given", "says", "shows"), WRONG)
def test_wrong(given, says, shows) -> None:
    with pytest.raises(AddressError, match=says) as caught:
        Address.parse(given)
    text = str(caught.value)
    assert len(text) < 500, "whoever reads it wants to read it"
    assert "secret" not in text, "a password does not belong in a log"
    examples = re.findall(r'"((?:tcp|tls|unix|nats|nats\+tls):[^"]+)"', text) or re.findall(
        r'\("127.0.0.1", 9000\)', text
    )
    assert examples, text
    assert shows is None or shows in examples
    if examples[-1].startswith(("t", "u", "n")):
        Address.parse(examples[-1])  # what is shown as right is right


def test_port_0_is_for_servers() -> None:
    assert Address.parse("tcp://127.0.0.1:0", server=True).port == 0
    assert Address.parse(("::1", 0), server=True).url == "tcp://[::1]:0"
    with pytest.raises(AddressError, match="port 0"):
        Address.parse(Address("tcp", "127.0.0.1", 0))


def test_with_port() -> None:
    address = Address.parse("tls://[::1]:0", server=True)
    assert address.with_port(4711).url == "tls://[::1]:4711"
    assert address.port == 0
    wrong: list[Any] = [65536, -1, True, "1"]
    for port in wrong:
        with pytest.raises(AddressError):
            address.with_port(port)
    with pytest.raises(AddressError, match="has no port"):
        Address.parse("unix:x").with_port(1)
    with pytest.raises(AddressError, match="has no port"):
        Address.parse("memory://x").with_port(1)


def test_an_address_is_a_value() -> None:
    address = Address.parse("tcp://127.0.0.1:1")
    with pytest.raises(AttributeError):
        address.port = 2  # type: ignore[misc]
    assert issubclass(AddressError, ValueError)

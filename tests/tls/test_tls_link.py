"""The filter by itself: what OpenSSL may do there, and hardly ever does."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from linkbox.address import Address
from linkbox.networks.tls_link import TlsLink, tls_maker
from tests.tls.certificates import Authority

pytestmark = pytest.mark.patches  # stands in for native classes
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Events:
    """What a driver and its core are told."""

    def __init__(self) -> None:
        self.hub = self
        self.dirty: list[Any] = []
        self.heard = b""
        self.errors: list[OSError] = []

    def flush_later(self, link: Any) -> None:
        self.dirty.append(link)

    def received(self, link: Any, data: bytes, now: float) -> None:
        self.heard += data

    def lost(self, link: Any, error: OSError, now: float) -> None:
        self.errors.append(error)
        link.closed = True


class Link:
    address = "tls://nowhere"
    closed = eof = has_begun = False

    def __init__(self) -> None:
        self.events: Any = Events()
        self.says: list[list[bytes]] = []
        self.proven: tuple[str | None, bytes] | None = None

    def secured(self, identity: str | None, certificate: bytes, now: float) -> None:
        self.proven = identity, certificate

    def insecure(self, error: Exception, now: float) -> None:
        self.failure = error

    def abort(self, error: Exception) -> None:
        self.closed = True

    def data_to_send(self, now: float) -> list[bytes]:
        return self.says.pop(0) if self.says else []


class Stubborn:
    """An SSLObject whose next write fails."""

    def __init__(self, real: ssl.SSLObject, error: ssl.SSLError) -> None:
        self._real = real
        self._errors = [error]

    def write(self, data: Any) -> int:
        if self._errors:
            raise self._errors.pop()
        return self._real.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


ADDRESS = Address.parse("tls://127.0.0.1:1")


def pair(authority: Authority) -> tuple[TlsLink, Any, TlsLink, Any]:
    make_client = tls_maker(ADDRESS, authority.client(), False, False)
    make_server = tls_maker(ADDRESS, authority.server(), True, False)
    return meet(make_client(), make_server())


def meet(client: TlsLink, server: TlsLink) -> tuple[TlsLink, Any, TlsLink, Any]:
    near: Any = Link()
    far: Any = Link()
    for _ in range(4):
        move(client, near, server, far)
        move(server, far, client, near)
    return client, near, server, far


def move(source: TlsLink, here: Any, sink: TlsLink, there: Any) -> None:
    for data in source.data_to_send(here.events, here, 0.0):
        sink.receive(there.events, there, data, 0.0)


def test_what_cannot_be_written_yet_is_written_later_and_not_twice(authority: Authority) -> None:
    client, near, server, far = pair(authority)
    client._tls = Stubborn(client._tls, ssl.SSLWantReadError())  # type: ignore[assignment]
    near.says = [[b"one", b"two"], [b"three"]]
    assert client.data_to_send(near.events, near, 0.0) == []
    assert client.close_notify() == b"", "an end would say that all was said"
    far.says = [[b"go on"]]
    move(server, far, client, near)
    assert near in near.events.dirty
    move(client, near, server, far)
    move(client, near, server, far)
    assert far.events.heard == b"onetwothree"
    assert client.close_notify()


def test_a_write_that_fails_breaks_the_link(authority: Authority) -> None:
    client, near, _, _ = pair(authority)
    client._tls = Stubborn(client._tls, ssl.SSLError(1, "out of order"))  # type: ignore[assignment]
    near.says = [[b"one"]]
    assert client.data_to_send(near.events, near, 0.0) == []
    assert len(near.events.errors) == 1


@pytest.mark.parametrize("version", list(VERSIONS))
def test_hands_are_shaken_quicker_the_second_time_and_prove_the_same(
    authority: Authority, version: str
) -> None:
    """A session that the server knows again: no certificate is looked at; both know whose it was."""
    context = authority.server(clients=True)
    context.maximum_version = VERSIONS[version]
    make_server = tls_maker(ADDRESS, context, True, False)
    make_client = tls_maker(ADDRESS, authority.client("pump"), False, False)
    proven = []
    for number in range(3):
        client, near, server, far = meet(make_client(), make_server())
        assert client._tls.session_reused is (number > 0)
        far.says = [[b"an answer"]]
        move(server, far, client, near)
        assert near.events.heard == b"an answer"
        proven.append((near.proven, far.proven))
    assert proven == proven[:1] * 3
    assert proven[0][0][1] == proven[0][1][1] != b""  # type: ignore[index]  # the server's certificate
    assert proven[0][1][0] == "pump"  # type: ignore[index]


def declared(size: int) -> bytes:
    """Records, each with a byte of what begins a ClientHello of that size."""
    return b"".join(b"\x16\x03\x03\0\x01%c" % each for each in b"\x01" + size.to_bytes(3))


@pytest.mark.parametrize("step", [1, 4, 100])
@pytest.mark.parametrize("is_again", [False, True], ids=["first", "second"])
def test_a_hello_that_says_it_is_large_is_refused(authority: Authority, step: int, is_again: bool) -> None:
    """OpenSSL would reserve as much, also for the second, which a server asks for if it has other curves."""
    context = authority.server()
    context.set_ecdh_curve("prime256v1")
    server = tls_maker(ADDRESS, context, True, False)()
    there: Any = Link()
    said = declared(16 * 1024 + 1)
    if is_again:
        client = tls_maker(ADDRESS, authority.client(), False, False)()
        said = client._outgoing.read() + said
    for at in range(0, len(said), step):
        assert not there.closed
        server.receive(there.events, there, said[at : at + step], 0.0)
    assert there.closed and "a ClientHello of more than 16384 bytes" in str(there.failure)


def test_a_hello_is_asked_for_again(authority: Authority) -> None:
    context = authority.server()
    context.set_ecdh_curve("prime256v1")
    make_client = tls_maker(ADDRESS, authority.client(), False, False)
    client, near, server, far = meet(make_client(), tls_maker(ADDRESS, context, True, False)())
    assert near.proven and far.proven
    far.says = [[b"an answer"]]
    move(server, far, client, near)
    assert near.events.heard == b"an answer"


def test_what_is_not_a_handshake_is_not_a_hello(authority: Authority) -> None:
    """An alert before it, say, has no size."""
    server = tls_maker(ADDRESS, authority.server(), True, False)()
    there: Any = Link()
    server.receive(there.events, there, declared(100)[:6] + b"\x15\x03\x03\0\x02\xff\xff", 0.0)
    assert "the TLS handshake failed (" in str(there.failure)


@pytest.mark.parametrize("version", list(VERSIONS))
@pytest.mark.parametrize("is_server", [False, True], ids=["client", "server"])
def test_a_handshake_that_is_too_large_is_refused(
    authority: Authority, is_server: bool, version: str
) -> None:
    """Nobody's certificates take 64 KiB."""
    server_context, client_context = authority.server(clients=is_server), authority.client("pump")
    server_context.maximum_version = VERSIONS[version]
    name = "pump" if is_server else "127.0.0.1"
    issued = authority.issue(name, *([] if is_server else ["127.0.0.1"]))
    chain = issued.cert.with_suffix(".chain")
    chain.write_bytes(issued.cert.read_bytes() + authority.ca.read_bytes() * 200)
    (client_context if is_server else server_context).load_cert_chain(chain, issued.key)
    make_client = tls_maker(ADDRESS, client_context, False, False)
    _, near, _, far = meet(make_client(), tls_maker(ADDRESS, server_context, True, False)())
    link = far if is_server else near
    assert link.closed and "sends more than 65536 bytes" in str(link.failure)


def test_another_server_at_that_address_is_looked_at_again(authority: Authority, stranger: Authority) -> None:
    make_client = tls_maker(ADDRESS, authority.client(), False, False)
    make_server = tls_maker(ADDRESS, authority.server(), True, False)
    client, near, server, far = meet(make_client(), make_server())
    far.says = [[b"an answer"]]
    move(server, far, client, near)
    restarted = tls_maker(ADDRESS, authority.server(), True, False)
    client, near, *_ = meet(make_client(), restarted())
    assert near.proven is not None and not client._tls.session_reused
    false = tls_maker(ADDRESS, stranger.server(), True, False)
    client, near, *_ = meet(make_client(), false())
    assert near.proven is None and "is not trusted" in str(near.failure)

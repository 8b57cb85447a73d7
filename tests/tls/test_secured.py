"""The filter by itself: what OpenSSL may do there, and hardly ever does."""

from __future__ import annotations

import ssl
from collections import deque
from typing import Any

from linkbox.address import Address
from linkbox.front.secured import Secured, securing
from tests.tls.certificates import Authority


class Hub:
    def __init__(self) -> None:
        self.dirty: list[Any] = []
        self.heard = b""
        self.errors: list[OSError] = []

    def receive(self, link: Any, data: bytes, now: float, into: Any) -> None:
        self.heard += data

    def broken(self, link: Any, error: OSError, now: float) -> None:
        self.errors.append(error)
        link.closed = True


class Link:
    address = "tls://nowhere"
    closed = eof = False

    def __init__(self) -> None:
        self.hub = Hub()
        self.says: list[list[bytes]] = []

    def secured(self, identity: str | None, certificate: bytes, now: float) -> None:
        pass

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


def pair(authority: Authority) -> tuple[Secured, Any, Secured, Any]:
    address = Address.parse("tls://127.0.0.1:1")
    client = securing(address, authority.client(), False, False)()
    server = securing(address, authority.server(), True, False)()
    near: Any = Link()
    far: Any = Link()
    for _ in range(4):
        move(client, near, server, far)
        move(server, far, client, near)
    return client, near, server, far


def move(source: Secured, here: Any, sink: Secured, there: Any) -> None:
    for data in source.data_to_send(here, 0.0):
        sink.receive(there, data, 0.0, deque())


def test_what_cannot_be_written_yet_is_written_later_and_not_twice(authority: Authority) -> None:
    client, near, server, far = pair(authority)
    client._tls = Stubborn(client._tls, ssl.SSLWantReadError())  # type: ignore[assignment]
    near.says = [[b"one", b"two"], [b"three"]]
    assert client.data_to_send(near, 0.0) == []
    assert client.farewell() == b"", "an end would say that all was said"
    far.says = [[b"go on"]]
    move(server, far, client, near)
    assert near in near.hub.dirty
    move(client, near, server, far)
    move(client, near, server, far)
    assert far.hub.heard == b"onetwothree"
    assert client.farewell()


def test_a_write_that_fails_breaks_the_link(authority: Authority) -> None:
    client, near, _, _ = pair(authority)
    client._tls = Stubborn(client._tls, ssl.SSLError(1, "out of order"))  # type: ignore[assignment]
    near.says = [[b"one"]]
    assert client.data_to_send(near, 0.0) == []
    assert len(near.hub.errors) == 1

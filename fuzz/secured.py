"""Endpoints behind TLS: any bytes into the filter, and any plaintext behind a handshake that is done right.

Below a link stands the `TlsLink` of the sockets, with memory in their place; the attacker has an SSL object
of its own. Bytes are said in TLS, or raw: below it, where each record can be cut, changed and said again.
"""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

from fuzz import stories
from fuzz.bench import Bench
from fuzz.links import Scene, play_client, play_server, target
from fuzz.scripts import Peer
from fuzz.target import Choices
from linkbox.core.connection import Buffer
from linkbox.core.endpoint_core import EndpointCore
from linkbox.core.link import Link
from linkbox.core.wire.framings import Framing, LengthPrefixed, Lines, Linked, Raw
from linkbox.networks.network import NetworkEvents
from linkbox.networks.tls_link import NO_TLS, Ticket, TlsLink
from linkbox.testing._cores import MemoryLink
from tests.core.wire import Probe
from tests.faults import secure

VERSIONS = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)
ROUNDS = 4
"""Of a handshake."""
MOST_HELD = 18 * 1024
"""Bytes of a record that is not whole."""


@cache
def context(is_server: bool, version: ssl.TLSVersion = VERSIONS[0]) -> ssl.SSLContext:
    """Of one side."""
    made = secure.server() if is_server else secure.client()
    made.maximum_version = version
    return made


class TlsEnd(MemoryLink):
    """The endpoint's end of a connection: what a network does with a filter."""

    def __init__(self, hub: EndpointCore, link: Link) -> None:
        super().__init__(hub, link)
        self.shakes = False
        self.events = NetworkEvents(hub)
        is_server = not hub.context.is_client
        self.tls = TlsLink(context(is_server), None if is_server else "127.0.0.1", Ticket())

    def data_to_send(self, now: float) -> list[Buffer]:
        return self.tls.data_to_send(self.events, self.link, now)

    def half_close(self, now: float) -> None:
        self.write([self.tls.close_notify()], now)


class TlsProbe(Probe):
    """The attacker's end."""

    def __init__(self, wire: Bench, hub: EndpointCore, link: Link, version: ssl.TLSVersion) -> None:
        super().__init__(wire, hub, link)
        self.end: TlsEnd = TlsEnd(hub, link)
        self.end.other = self.sink
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        is_server = hub.context.is_client
        name = None if is_server else "127.0.0.1"
        self.tls = context(is_server, version).wrap_bio(self.incoming, self.outgoing, is_server, name)
        self.is_raw = False
        """Is what it says already what goes over the wire?"""
        self.is_shaken = False
        self.deaf = False
        wire.settle()

    def pass_on(self, data: bytes) -> None:
        """Bytes arrive at the filter."""
        if data and not self.link.closed and not self.end.fin:
            self.end.tls.receive(self.end.events, self.link, data, self.wire.now)
            tls = self.end.tls
            is_over = self.link.closed or self.link.eof or tls._has_failed
            assert is_over or tls._incoming.pending <= MOST_HELD
            self.deliver()

    def deliver(self) -> None:
        """What the filter has reported."""
        self.wire.take_arrivals(self.hub)
        self.wire.settle()

    def shake(self) -> None:
        """Do the handshake right, as far as that is possible."""
        for _ in range(ROUNDS):
            if self.is_shaken or self.deaf:
                break
            self.hear()
            try:
                self.tls.do_handshake()
                self.is_shaken = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                self.deaf = True
            self.pass_on(self.outgoing.read())

    def say(self, *said: bytes, cut: int | None = None) -> None:
        data = b"".join(said)
        if self.is_shaken and not self.is_raw:
            try:
                self.tls.write(data)
            except ssl.SSLError:
                self.deaf = True
            data = self.outgoing.read()
        self.pass_on(data)

    def eof(self) -> None:
        if self.is_shaken and not self.is_raw:
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass  # it has not closed its half
            self.end.fin = False
            self.pass_on(self.outgoing.read())
            self.end.fin = True
        if not self.link.closed and not self.link.eof:
            self.end.tls.receive_eof(self.end.events, self.link, self.wire.now)
        self.deliver()

    def hear(self) -> None:
        """Take what the endpoint has written."""
        data = bytes(self.sink.incoming)
        self.sink.incoming.clear()
        if not data.startswith(NO_TLS):
            self.incoming.write(data)

    def raw(self) -> bytes:
        self.hear()
        heard = bytearray()
        try:
            while self.is_shaken and not self.deaf and (piece := self.tls.read(1 << 16)):
                heard += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.deaf = True
        return bytes(heard)


class TlsBench(Bench):
    """Endpoints of which the attacked one is behind TLS."""

    version = VERSIONS[0]
    shakes_at_once = True

    def arrange(self, choices: Choices) -> None:
        super().arrange(choices)
        choice = choices.byte()
        self.version, self.shakes_at_once = VERSIONS[choice & 1], not choice & 2

    def equip(self, peer: Any) -> None:
        add_steps(peer)

    def probe(self, hub: EndpointCore, link: Link) -> Probe:
        probe = TlsProbe(self, hub, link, self.version)
        if self.shakes_at_once:
            probe.shake()
        return probe


def add_steps(peer: Peer) -> None:
    """What an attacker does to TLS itself."""

    def probe() -> TlsProbe | None:
        return peer.probe if isinstance(peer.probe, TlsProbe) else None

    def shake() -> None:
        found = probe()
        if found is not None:
            found.shake()

    def below() -> None:
        """From now on what is said goes below TLS, or in it again."""
        found = probe()
        if found is not None:
            found.is_raw = not found.is_raw

    def flight() -> None:
        """The next records of a handshake, with one byte changed."""
        at, change = peer.choices.byte(), peer.choices.byte()
        found = probe()
        if found is None:
            return
        found.hear()
        try:
            found.tls.do_handshake()
            found.is_shaken = True
        except ssl.SSLError:
            pass
        data = bytearray(found.outgoing.read())
        if data:
            data[at * len(data) // 256] ^= change
            peer.is_random = peer.is_random or bool(change)
            found.pass_on(bytes(data))

    def record() -> None:
        """A record of TLS with any content."""
        kind, size = 20 + peer.choices.byte() % 5, peer.choices.byte()
        body = peer.choices.bytes(size % 64)
        peer.add(bytes((kind, 3, 3)) + len(body).to_bytes(2) + body)

    peer.steps += [peer.do(shake), peer.do(below), peer.do(flight), record]


FEW: tuple[Framing, ...] = (Linked(), Lines(), LengthPrefixed(2), Raw())
SECURE: dict[str, Any] = {"secure": True}
TARGETS = [
    target(
        2.2,
        "tls-server",
        play_server,
        Scene(FEW, options=SECURE, kind=TlsBench, may_ask=True),
        stories.TLS,
    ),
    target(0.6, "tls-client", play_client, Scene(FEW, options=SECURE, kind=TlsBench)),
]

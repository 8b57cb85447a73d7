"""Two hubs and a wire between them: no socket, no thread, a clock that is turned by hand.

`Wire` is a `MemoryNetwork` with a server and a client on it, so that a test decides when each byte moves,
where a connection is cut, and what time it is.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any

from linkbox.core.asks_client import Ask
from linkbox.core.asks_server import IncomingAsk
from linkbox.core.backoff import Backoff
from linkbox.core.channel import OutgoingMessage
from linkbox.core.endpoint_core import ClientCore, EndpointCore, ServerCore
from linkbox.core.link import Link
from linkbox.core.mailbox import Mailbox
from linkbox.core.patterns import P2P, Pattern
from linkbox.core.request_mailbox import RequestMailbox
from linkbox.core.session import Session
from linkbox.core.settings import Settings
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.core.wire.authentication import Lookup
from linkbox.core.wire.decoder import Decoder
from linkbox.core.wire.framing import Framing, Linked
from linkbox.errors import DecodeError
from linkbox.events import EventKind, Peer
from linkbox.limits import Limits
from linkbox.operations.request_owner import RequestOwner
from linkbox.operations.requests import Request
from linkbox.testing._cores import CoreNetwork, MemoryLink

ALL_KINDS = set(EventKind)
NO_BACKOFF = Backoff(initial=0.05, maximum=0.05, factor=1.0, jitter=0.0)
_seeds = count(1)


def entropy(size: int) -> bytes:
    """Different each time, the same in each run of a test."""
    return next(_seeds).to_bytes(size)


def decode(payload: bytes) -> Any:
    """The format of most tests: the bytes themselves, but what begins with ``bad`` is bad."""
    if payload[:3] == b"bad":
        raise DecodeError("it says that it is bad")
    return payload


class SentMessage(OutgoingMessage):
    """A subclass that is never compiled, as the receipts of the endpoints: a store refers to it weakly."""


class Owner(RequestOwner):
    """What a server endpoint is to its requests: they are answered through it."""

    def __init__(self, wire: Wire, core: ServerCore) -> None:
        self.wire = wire
        self.core = core

    def join_messages(self, messages: list[Any]) -> Any:
        return b"".join(messages)

    def is_late(self, incoming: IncomingAsk) -> bool:
        return incoming.deadline is not None and self.wire.now >= incoming.deadline

    def answer(self, incoming: IncomingAsk, value: Any) -> None:
        self.core.answer(incoming, value)
        self.wire.settle()

    def fail(self, incoming: IncomingAsk, type: str, text: str) -> None:
        self.core.fail(incoming, type, text)
        self.wire.settle()

    def forget(self, incoming: IncomingAsk) -> None:
        self.core.asks.abandoned.append(incoming)


class Wire(CoreNetwork):
    """One server, any number of clients, and a clock."""

    def __init__(
        self,
        pattern: Pattern = P2P,
        *,
        limits: Any = None,
        client_limits: Any = None,
        max_peers: int | None = None,
        overflow: str = "block",
        framing: Framing = Linked(),
        reconnect: Backoff | None = NO_BACKOFF,
        connect_timeout: float = 10.0,
        resumes: bool = True,
        mailbox: type[Mailbox] = Mailbox,
        listening: set[EventKind] = ALL_KINDS,
        server_secrets: Lookup | None = None,
        client_secrets: Lookup | None = None,
        identifies: bool = False,
        secure: bool = False,
        asks_first: bool = False,
        keep_alive: bool = True,
        is_bytes: bool = False,
    ) -> None:
        self.keep_alive = keep_alive
        self.is_bytes = is_bytes
        self.secure = secure
        self.asks_first = asks_first
        super().__init__(decode)
        self.server_secrets = server_secrets
        self.client_secrets = client_secrets
        self.identifies = identifies
        self.pattern = pattern
        self.limits = limits or Limits()
        self.client_limits = client_limits or self.limits
        self.framing = framing
        self.reconnect = reconnect
        self.connect_timeout = connect_timeout
        self.resumes = resumes
        self.mailbox_class = mailbox
        self.overflow = overflow
        self.listening = listening
        self.max_peers = max_peers or (1 if pattern is P2P else 1_000_000)
        self.server = self.make_server(0.0)
        self.client = self.make_client()

    # -- making ------------------------------------------------------------------------------------

    def settings(self, name: str, limits: Any) -> Settings:
        return Settings(
            pattern=self.pattern,
            format_name="bytes",
            framing=self.framing,
            limits=limits,
            name=name,
            receipts=SentMessage,
            entropy=entropy,
            wall=1000.0,
            secrets=self.server_secrets if name == "server" else self.client_secrets,
            identifies=self.identifies,
            secure=self.secure,
            keep_alive=self.keep_alive,
            asks_first=self.asks_first and name == "server",
            decodes=not self.is_bytes,
        )

    def _register(self, hub: EndpointCore) -> None:
        hub.effects.events.listening = set(self.listening)
        self.add(hub)

    def make_server(self, started_at: float | None = None) -> ServerCore:
        started_at = self.now if started_at is None else started_at
        kind = RequestMailbox if self.pattern.asks else self.mailbox_class
        mailbox = kind(self.limits, self.overflow)
        hub = ServerCore(self.settings("server", self.limits), mailbox, self.max_peers, started_at)
        self._register(hub)
        return hub

    def make_client(self) -> ClientCore:
        hub = ClientCore(
            self.settings(f"client {len(self.hubs)}", self.client_limits),
            self.mailbox_class(self.client_limits, self.overflow),
            "tcp://server:1",
            self.reconnect,
            self.connect_timeout,
            lambda: 0.5,
            self.resumes and self.framing.linked,
        )
        self._register(hub)
        return hub

    def restart_server(self) -> None:
        """The server process is killed, and another one started: nothing is left of it."""
        self.drop_all()
        self.forget(self.server)
        self.server = self.make_server()
        self.run()

    # -- the application ---------------------------------------------------------------------------------

    def connect(self, client: ClientCore | None = None) -> Session:
        """A conversation of the client's, up; returns the client's side of it."""
        client = client or self.client
        client.conversation = client.begin(self.now)
        self.run()
        return client.conversation

    def other(self, session: Session) -> Session:
        """The server's side of a client's session."""
        return self.server.sessions.by_id[session.peer.id]

    def send(self, hub: EndpointCore, session: Session, *payloads: bytes) -> list[OutgoingMessage]:
        receipts = [session.send(payload) for payload in payloads]
        self.settle()
        return receipts

    def ask(self, payload: bytes, session: Session | None = None, deadline: float | None = None) -> Ask:
        """Begin an ask, on a conversation of its own or on that one."""
        client = self.client
        if session is None:
            session = client.begin(self.now)
        ask = Ask(session, False)
        client.asks.add(ask, payload, False, deadline)
        self.settle()
        return ask

    def requests(self) -> deque[Request[Any]]:
        """What the server has been asked."""
        owner = Owner(self, self.server)
        return deque(Request(ask, owner) for ask in self.server.mailbox.take_all())


class Probe:
    """The other end of one link, in the hands of a test: says any frames, and sees what is written."""

    def __init__(self, wire: Wire, hub: EndpointCore, link: Link) -> None:
        self.wire = wire
        self.hub = hub
        self.link = link
        self.decoder = Decoder()
        self.preface = b""
        self.end = MemoryLink(hub, link)
        self.sink = self.end.other = MemoryLink.__new__(MemoryLink)
        self.sink.incoming = bytearray()
        self.sink.gone = self.sink.fin = self.sink.reset = False
        wire.settle()

    def say(self, *said: bytes, cut: int | None = None) -> None:
        """Frames (or any bytes) from this side; ``cut``: so many bytes at a time."""
        data = b"".join(said)
        step = cut or len(data) or 1
        for start in range(0, max(len(data), 1), step):
            self.hub.received(self.link, data[start : start + step], self.wire.now)
            self.wire.take_arrivals(self.hub)
        self.wire.settle()

    def eof(self) -> None:
        """This side writes nothing more."""
        self.hub.ended(self.link, self.wire.now)
        self.wire.take_arrivals(self.hub)

    def raw(self) -> bytes:
        """All bytes written since the last look, over a plain framing."""
        data = bytes(self.sink.incoming)
        self.sink.incoming.clear()
        return data

    def heard(self) -> list[tuple[int, bytes]]:
        """The frames written since the last look."""
        data = self.raw()
        if not self.preface:
            self.preface, data = data[:8], data[8:]
        return self.decoder.receive(data)

    def kinds(self) -> list[str]:
        """Their names."""
        return [frames.type_name(kind) for kind, _ in self.heard()]

    @property
    def is_closed(self) -> bool:
        return self.end.gone


def hello(wire: Wire, **changes: Any) -> handshake.Hello:
    """What a client of this wire's would say, but for the changes."""
    fields: dict[str, Any] = {
        "pattern": wire.pattern.name,
        "format": "bytes",
        "name": "probe",
        "session": "ab" * 16,
        "epoch": 1,
        "credit": (1 << 30, 1 << 30),
        "message": 1 << 24,
    }
    return handshake.Hello(**(fields | changes))


def greeting(wire: Wire, **changes: Any) -> bytes:
    """Preface and HELLO."""
    return frames.preface() + handshake.encode_hello(hello(wire, **changes))


def welcome(**changes: Any) -> bytes:
    """Preface and WELCOME, of a server that is nobody's."""
    fields: dict[str, Any] = {
        "name": "probe",
        "incarnation": "77",
        "credit": (1 << 30, 1 << 30),
        "message": 1 << 24,
    }
    return frames.preface() + handshake.encode_welcome(handshake.Welcome(**(fields | changes)))


def probe_server(wire: Wire, *, greets: bool = True, **changes: Any) -> Probe:
    """A client of the server's that says only what the test lets it say."""
    link = wire.server.accept("tcp://probe", wire.ip, wire.now)
    assert link is not None
    probe = Probe(wire, wire.server, link)
    if greets:
        probe.say(greeting(wire, **changes))
    return probe


def probe_client(wire: Wire, session: Session | None = None, *, greets: bool = True, **changes: Any) -> Probe:
    """A server for the client that says only what the test lets it say."""
    client = wire.client
    if session is None:
        session = client.conversation = client.begin(wire.now)
    client.dialing.dials.remove(session)
    link = client.connected(session, client.dialing.address, wire.now)
    assert link is not None
    probe = Probe(wire, client, link)
    if greets:
        probe.say(welcome(**changes))
    return probe


PEER = Peer("tester", "tcp://nowhere", "f" * 32, 0.0)


def encode_message(message: handshake.Hello | handshake.Welcome | handshake.Refuse) -> bytes:
    """The frame of a handshake message."""
    if isinstance(message, handshake.Hello):
        return handshake.encode_hello(message)
    if isinstance(message, handshake.Welcome):
        return handshake.encode_welcome(message)
    return handshake.refuse(message.code, message.reason)


def decode_message(kind: int, payload: bytes) -> handshake.Hello | handshake.Welcome | handshake.Refuse:
    """The message in such a frame."""
    if kind == frames.HELLO:
        return handshake.decode_hello(payload)
    return handshake.decode_welcome(payload) if kind == frames.WELCOME else handshake.decode_refuse(payload)

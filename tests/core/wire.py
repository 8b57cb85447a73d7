"""Two hubs and a wire between them: no socket, no thread, a clock that is turned by hand.

`Wire` does what a front end does (read, write, decode, dial, call timers) and nothing else, so that a test
decides when each byte moves, where a connection is cut, and what time it is. It also watches: a timer
that is due again the moment it was called is an error, and so is a wire that never comes to rest.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any

from linkbox.core import frames, handshake
from linkbox.core.asks import Ask, Request
from linkbox.core.auth import Lookup
from linkbox.core.backoff import Backoff
from linkbox.core.client import ClientHub
from linkbox.core.decoding import decode_all
from linkbox.core.framings import Framing, Linked
from linkbox.core.hub import Hub
from linkbox.core.link import Arrival, Link
from linkbox.core.mailbox import MailboxState
from linkbox.core.patterns import P2P, Pattern
from linkbox.core.server import ServerHub
from linkbox.core.session import Session
from linkbox.core.settings import Settings
from linkbox.core.units import Delivery
from linkbox.errors import ConnectFailed, DecodeError
from linkbox.events import EventKind, Peer
from linkbox.limits import Limits

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


class Owner:
    """What a front end is to its hub: requests are answered through it."""

    def __init__(self, wire: Wire, hub: Hub) -> None:
        self.wire = wire
        self.hub = hub
        self.forgotten = hub.forgotten

    def join_messages(self, messages: list[Any]) -> Any:
        return b"".join(messages)

    def is_late(self, incoming: Any) -> bool:
        return incoming.deadline is not None and self.wire.now >= incoming.deadline

    def answer_request(self, incoming: Any, value: Any) -> None:
        self.hub.answer(incoming, value)
        self.wire.settle()

    def fail_request(self, incoming: Any, type: str, text: str) -> None:
        self.hub.fail_ask(incoming, type, text)
        self.wire.settle()


class End:
    """One end of one connection, and what is on its way to it."""

    def __init__(self, hub: Hub, link: Link) -> None:
        self.hub = hub
        self.link = link
        self.other: End = self
        self.incoming = bytearray()
        self.fin = False
        """The other end will write nothing more."""
        self.reset = False
        """The next read or write fails."""
        self.gone = False
        self.shakes = hub.settings.secure
        """TLS still shakes hands: nothing is said."""
        self.unsent: list[bytes] = []
        self.is_full = False
        """The kernel takes nothing."""
        link.carrier = self

    def flush(self, now: float) -> None:
        """Write all there is; then what ``half_close`` and ``closed`` say."""
        link = self.link
        while not self.shakes and not self.unsent and not link.closed and not link.shut:
            buffers = link.data_to_send(now)
            if not buffers:
                break
            self.write([bytes(buffer) for buffer in buffers], now)
        if link.closed:
            self.close()
        elif link.half_close and not link.shut and not self.unsent:
            self.other.fin = True
            link.finish_writing()
            if link.closed:
                self.close()

    def write(self, buffers: list[bytes], now: float) -> None:
        if self.is_full:
            self.unsent = buffers
            self.link.write_stalled(now)
        elif self.other.gone or self.reset:
            self.reset = True
            self.incoming.clear()
            if self.link.eof or self.link.paused:
                self.hub.broken(self.link, BrokenPipeError("broken pipe"), now)
            self.link.shut = True
        else:
            self.other.incoming += b"".join(buffers)

    def unblock(self, now: float) -> None:
        """The kernel takes bytes again."""
        self.is_full = False
        buffers, self.unsent = self.unsent, []
        if buffers:
            self.link.write_moved()
            self.write(buffers, now)
        self.hub.dirty.append(self.link)

    def close(self) -> None:
        if not self.gone:
            self.gone = True
            self.link.carrier = None
            # As the kernel does it: what the other end has not read is destroyed.
            if self.incoming or self.link.is_abortive:
                self.other.reset = True
                self.other.incoming.clear()
            self.other.fin = True


class Wire:
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
        mailbox: type[MailboxState] = MailboxState,
        listening: set[EventKind] = ALL_KINDS,
        server_secrets: Lookup | None = None,
        client_secrets: Lookup | None = None,
        identifies: bool = False,
        secure: bool = False,
        asks_first: bool = False,
    ) -> None:
        self.secure = secure
        self.asks_first = asks_first
        self.now = 100.0
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
        self.max_peers = max_peers or (1_000_000 if pattern.many else 1)
        self.chunk: int | None = None
        """Bytes that move at a time; None: all."""
        self.is_reachable = True
        self.calls_back = True
        """False: a callback blocks."""
        self.decodes = True
        """False: arrivals wait in ``undecoded`` until `decode_all`."""
        self.undecoded: list[tuple[Hub, Arrival]] = []
        self.ends: list[End] = []
        self.hubs: list[Hub] = []
        self.notices: dict[Hub, list[Any]] = {}
        self.notes: list[str] = []
        self.dialled: list[float] = []
        self.ip: str | None = None
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
            receipts=Delivery,
            entropy=entropy,
            wall=1000.0,
            secrets=self.server_secrets if name == "server" else self.client_secrets,
            identifies=self.identifies,
            secure=self.secure,
            asks_first=self.asks_first and name == "server",
        )

    def _register(self, hub: Hub) -> None:
        hub.owner = Owner(self, hub)
        hub.listening = set(self.listening)
        self.hubs.append(hub)
        self.notices[hub] = []

    def make_server(self, started_at: float | None = None) -> ServerHub:
        started_at = self.now if started_at is None else started_at
        mailbox = self.mailbox_class(self.limits, self.overflow)
        hub = ServerHub(self.settings("server", self.limits), mailbox, self.max_peers, started_at)
        self._register(hub)
        return hub

    def make_client(self) -> ClientHub:
        hub = ClientHub(
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

    def forget(self, hub: Hub) -> None:
        """That process is dead."""
        self.hubs.remove(hub)
        self.ends = [end for end in self.ends if end.hub is not hub]

    # -- what a front end does -----------------------------------------------------------------------

    def settle(self) -> None:
        """Do what the hubs have left to be done."""
        for hub in self.hubs:
            for _ in range(10_000):
                if hub.dirty:
                    link = hub.dirty.pop()
                    if link.carrier is not None:
                        link.carrier.flush(self.now)
                elif isinstance(hub, ClientHub) and hub.dials:
                    self._dial(hub, hub.dials.pop(0))
                elif hub.unread:
                    self.read_again(hub)
                elif hub.events and self.calls_back:
                    self.call_back(hub)
                else:
                    break
            else:
                raise AssertionError("a hub that never comes to rest")
            hub.changed.clear()
            self.notes += [note.text for note in hub.notes]
            hub.notes.clear()

    def read_again(self, hub: Hub) -> None:
        """Let links understand what they held back."""
        arrivals: deque[Arrival] = deque()
        hub.receive(hub.unread.pop(), b"", self.now, arrivals)
        self.undecoded += [(hub, arrival) for arrival in arrivals]
        if self.decodes:
            self.decode_all()

    def call_back(self, hub: Hub) -> None:
        """Tell callbacks what has happened."""
        events = list(hub.events)
        hub.events.clear()
        self.notices[hub] += events
        hub.events_done(sum(event[4] for event in events))

    def _dial(self, hub: ClientHub, session: Session) -> None:
        self.dialled.append(self.now)
        near = far = None
        if self.is_reachable:
            far = self.server.accept("tcp://client", self.ip, self.now)
            near = hub.on_connected(session, hub.address, self.now)
            assert near is not None
            self.join(hub, near, far)
        else:
            hub.on_connect_failed(session, ConnectFailed("nobody listens"), self.now)

    def join(self, hub: Hub, near: Link, far: Link | None) -> End:
        """Put a connection between two links; ``far`` None: the server has closed it at once."""
        here = End(hub, near)
        self.ends.append(here)
        if far is None:
            here.other = End.__new__(End)
            here.other.gone, here.fin = True, True
            here.other.incoming = bytearray()
        else:
            here.other = End(self.server, far)
            here.other.other = here
            self.ends.append(here.other)
        return here

    def move(self, end: End, size: int | None = None) -> bool:
        """Let (some of) what is on its way to this end arrive. Did anything happen?"""
        link, hub = end.link, end.hub
        arrivals: deque[Arrival] = deque()
        if end.gone or link.closed:
            return False
        if end.reset:
            hub.broken(link, ConnectionResetError("reset"), self.now)
        elif link.eof or link.paused:
            return False
        elif end.incoming:
            data = bytes(end.incoming[:size])
            del end.incoming[: len(data)]
            hub.receive(link, data, self.now, arrivals)
        elif end.fin:
            hub.receive_eof(link, self.now, arrivals)
        else:
            return False
        self.undecoded += [(hub, arrival) for arrival in arrivals]
        if self.decodes:
            self.decode_all()
        self.settle()
        return True

    def decode_all(self) -> None:
        """Decode and store what has arrived."""
        while self.undecoded:
            hub, arrival = self.undecoded.pop(0)
            hub.deliver(arrival, decode_all(decode, arrival), self.now)
        self.settle()

    def shake(self, *ends: End, identity: str | None = None, certificate: bytes = b"") -> None:
        """TLS shakes hands: at these ends, or at all that have not."""
        for end in ends or [each for each in self.ends if each.shakes]:
            end.shakes = False
            end.link.secured(identity if end.hub is self.server else None, certificate, self.now)
        self.run()

    def decide(self, is_welcome: bool) -> None:
        """The application decides on the newcomer that has waited longest."""
        self.server.decide_on(self.server.newcomers.popleft(), is_welcome, self.now)
        self.run()

    # -- moving --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let everything arrive that is on its way. The clock stands still."""
        self.settle()
        for _ in range(1_000_000):
            self.ends = [end for end in self.ends if not end.gone]
            if not any(self.move(end, self.chunk) for end in self.ends):
                return
        raise AssertionError("a wire that never comes to rest")

    def advance(self, seconds: float) -> None:
        """Turn the clock, calling each timer when it is due, and run."""
        self.run()
        until = self.now + seconds
        while (due := min(hub.next_timer() for hub in self.hubs)) <= until:
            assert due >= self.now - 1e-9 or due == due, "a timer in the past"
            self.now = max(self.now, due)
            for hub in list(self.hubs):
                hub.handle_timers(self.now)
                assert hub.next_timer() > self.now, "a timer that is due again at once"
            self.run()
        self.now = until

    def acks(self) -> None:
        """Long enough for every acknowledgement that is owed."""
        self.advance(0.6)

    # -- faults --------------------------------------------------------------------------------------

    def drop(self, end: End, keep: int = 0) -> None:
        """The connection breaks: ``keep`` bytes still arrive at this end, then both see an error."""
        other = end.other
        if keep and end.incoming:
            self.move(end, keep)
        for each in (end, other):
            if not each.gone and not each.link.closed:
                each.incoming.clear()
                each.hub.broken(each.link, ConnectionResetError("cut"), self.now)
        end.gone = other.gone = True
        end.link.carrier = other.link.carrier = None

    def drop_all(self) -> None:
        """Every connection breaks, and what is on its way is lost."""
        for end in list(self.ends):
            if not end.gone:
                self.drop(end)
        self.ends.clear()

    def end_of(self, hub: Hub) -> End:
        """The newest connection of that hub that is not closed."""
        return next(end for end in reversed(self.ends) if end.hub is hub and not end.gone)

    # -- the application ---------------------------------------------------------------------------------

    def connect(self, client: ClientHub | None = None) -> Session:
        """A conversation of the client's, up; returns the client's side of it."""
        client = client or self.client
        client.session = client.begin(self.now)
        self.run()
        return client.session

    def other(self, session: Session) -> Session:
        """The server's side of a client's session."""
        return self.server.sessions[session.id]

    def send(self, hub: Hub, session: Session, *payloads: bytes) -> list[Delivery]:
        receipts = [hub.send(session, payload) for payload in payloads]
        self.settle()
        return receipts

    def ask(self, payload: bytes, session: Session | None = None, deadline: float | None = None) -> Ask:
        """Begin an ask, on a conversation of its own or on that one."""
        client = self.client
        if session is None:
            session = client.begin(self.now)
        ask = client.asks.begin(session, False)
        client.asks.add(ask, payload, False, deadline)
        self.settle()
        return ask

    def requests(self) -> deque[Request[Any]]:
        """What the server has been asked."""
        return deque(self.server.mailbox.take_all())

    def kinds(self, hub: Hub) -> list[EventKind]:
        """What callbacks of that hub were told, one entry for each event."""
        return [notice[0] for notice in self.notices[hub] for _ in range(notice[4])]

    def events(self, hub: Hub, kind: EventKind) -> list[Any]:
        return [notice for notice in self.notices[hub] if notice[0] is kind]


class Probe:
    """The other end of one link, in the hands of a test: says any frames, and sees what is written."""

    def __init__(self, wire: Wire, hub: Hub, link: Link) -> None:
        self.wire = wire
        self.hub = hub
        self.link = link
        self.decoder = frames.Decoder()
        self.preface = b""
        self.end = End(hub, link)
        self.sink = self.end.other = End.__new__(End)
        self.sink.incoming = bytearray()
        self.sink.gone = self.sink.fin = self.sink.reset = False
        wire.settle()

    def say(self, *said: bytes, cut: int | None = None) -> None:
        """Frames (or any bytes) from this side; ``cut``: so many bytes at a time."""
        data = b"".join(said)
        step = cut or len(data) or 1
        for start in range(0, max(len(data), 1), step):
            arrivals: deque[Arrival] = deque()
            self.hub.receive(self.link, data[start : start + step], self.wire.now, arrivals)
            self.wire.undecoded += [(self.hub, arrival) for arrival in arrivals]
            if self.wire.decodes:
                self.wire.decode_all()
        self.wire.settle()

    def eof(self) -> None:
        """This side writes nothing more."""
        arrivals: deque[Arrival] = deque()
        self.hub.receive_eof(self.link, self.wire.now, arrivals)
        self.wire.undecoded += [(self.hub, arrival) for arrival in arrivals]
        self.wire.decode_all()

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
    return frames.preface() + handshake.encode(hello(wire, **changes))


def welcome(**changes: Any) -> bytes:
    """Preface and WELCOME, of a server that is nobody's."""
    fields: dict[str, Any] = {
        "name": "probe",
        "incarnation": "77",
        "credit": (1 << 30, 1 << 30),
        "message": 1 << 24,
    }
    return frames.preface() + handshake.encode(handshake.Welcome(**(fields | changes)))


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
        session = client.session = client.begin(wire.now)
    client.dials.remove(session)
    link = client.on_connected(session, client.address, wire.now)
    assert link is not None
    probe = Probe(wire, client, link)
    if greets:
        probe.say(welcome(**changes))
    return probe


PEER = Peer("tester", "tcp://nowhere", "f" * 32, 0.0)

"""A peer that knows the Linked wire, and abuses it: the handshake done right and wrong, and every frame."""

from __future__ import annotations

from typing import Any

import msgspec

from fuzz.bench import SECRET, Bench, last_ask, newest_ask, see
from fuzz.scripts import FLOODS, Peer
from fuzz.target import Choices
from linkbox.core.endpoint_core import EndpointCore
from linkbox.core.link import Link, State
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from tests.core.wire import encode_message, hello

_json = msgspec.json


class LinkedPeer(Peer):
    """One that knows the Linked wire, and abuses it."""

    def __init__(self, bench: Bench, hub: EndpointCore, choices: Choices, seed: int) -> None:
        super().__init__(bench, hub, choices, seed)
        self.heard: list[tuple[int, bytes]] = []
        self.name, self.secret = "probe", SECRET
        """As whom it introduces itself, and what it proves that with."""
        self.session_id = "ab" * 16
        """Of its session; see `ids`."""
        self.steps = [
            *self.common(),
            *(self.data, self.batch, self.part, self.part, self.ack, self.ack, self.ack_now, self.reject),
            *(self.dropped, self.number, self.number, self.ask, self.ask, self.answer, self.fail),
            *(self.cancel, self.end, self.greeting, self.greeting, self.frame, self.half, self.scatter),
            self.do(self.greet),
        ]
        if not hub.context.is_client:
            self.steps.append(self.do(self.connect))

    def ids(self) -> tuple[str, ...]:
        """The sessions that it may claim."""
        return (self.session_id, "cd" * 16)

    def on_link(self, link: Link) -> None:
        super().on_link(link)
        self.heard = []
        if link.session is not None:
            self.session = link.session

    def flush(self) -> None:
        super().flush()
        self.listen()

    def listen(self) -> None:
        """What the endpoint has said."""
        if self.probe is not None:
            heard = see(self.probe)
            self.heard += heard
            link = self.probe.link
            if link.state is State.HANDSHAKE and self.hub.context.is_client:
                early = sum(len(payload) + 4 for kind, payload in self.heard if kind >= frames.DATA)
                assert early <= frames.MAX_EARLY, "more than a server takes before its WELCOME"
            if link.session is not None and self.session is not link.session:
                self.session = link.session

    def payload(self, kind: int) -> bytes:
        """The newest frame of that kind that was heard."""
        return next((payload for each, payload in reversed(self.heard) if each == kind), b"")

    # -- the handshake, done right ------------------------------------------------------------------------

    def greet(self) -> None:
        """Introduce this side as a well-behaved peer would, on a new connection where it is the client."""
        if self.hub.context.is_client:
            self.welcome()
        else:
            self.connect()
            if self.probe is not None and not self.probe.is_closed:
                self.introduce()
        self.listen()

    def introduce(self) -> None:
        probe, choice = self.probe, self.choices.byte()
        assert probe is not None
        received = 0 if self.session is None else self.session.sending.acked + choice % 4
        self.epoch += 1
        credit = (0, 0) if choice & 16 else (1 << 62, 1 << 62)
        message = hello(
            self.bench, epoch=self.epoch, received=received, resumes=not choice & 32, credit=credit,
            name=self.name, session=self.ids()[choice * len(self.ids()) // 256],
        )  # fmt: skip
        said = encode_message(message)
        probe.say(frames.preface() + said)
        self.listen()
        if self.bench.server_secrets is not None and not choice & 64:
            client = auth.ClientSide(lambda name: [self.secret], said[4:])
            challenge = self.payload(frames.CHALLENGE)
            proof = client.prove(challenge, bytes(auth.NONCE)) if challenge else None
            if proof is not None and self.is_heard():
                probe.say(proof)

    def welcome(self) -> None:
        probe, choice = self.probe, self.choices.byte()
        if probe is None or not self.is_heard() or self.payload(frames.WELCOME):
            return
        probe.say(frames.preface())
        self.listen()
        said = self.payload(frames.HELLO)
        if self.bench.client_secrets is not None and said and self.is_heard():
            server = auth.ServerSide(lambda name: [self.secret], said, bytes(auth.NONCE), "server")
            probe.say(server.challenge())
            self.listen()
            proof = self.payload(frames.PROOF)
            if proof and self.is_heard():
                probe.say(server.check(proof, "me") or b"")
        session = self.session
        received = 0 if session is None else session.sending.acked + choice % 4
        credit = (0, 0) if choice & 16 else (1 << 62, 1 << 62)
        message = handshake.Welcome(
            "probe", "77", credit, 1 << 24, received, bool(choice & 32), is_new=bool(choice & 64)
        )
        if self.is_heard():
            probe.say(encode_message(message))

    # -- the handshake, done wrong --------------------------------------------------------------------------

    def greeting(self) -> None:
        """A frame of the handshake, with some of its fields changed."""
        kind = frames.HELLO + self.choices.byte() % 5
        fields: dict[str, Any] = {
            frames.HELLO: lambda: msgspec.to_builtins(hello(self.bench)),
            frames.WELCOME: lambda: {"name": "p", "incarnation": "7", "credit": [99, 99], "message": 99},
            frames.REFUSE: lambda: {"code": "busy", "reason": "no"},
            frames.CHALLENGE: lambda: {"nonce": "ab" * 32, "name": "server"},
            frames.PROOF: lambda: {"mac": "ab" * 32, "nonce": "cd" * 32},
        }[kind]()
        for _ in range(self.choices.byte() % 4):
            name = (*fields, "received", "resumed", "born", "age", "is_new")[
                self.choices.byte() % (len(fields) + 5)
            ]
            fields[name] = self.value()
        try:
            self.add(frames.frame(kind, _json.encode(fields)))
        except ValueError:
            self.add(frames.frame(kind))
        if self.choices.byte() & 1:
            self.gathered = bytearray(frames.preface()) + self.gathered

    def value(self) -> Any:
        """For any field."""
        choice, length = divmod(self.choices.byte(), 8)
        text = ("x", "\1", "ab", "\u20ac", "\U0001f600", "0")[self.choices.byte() % 6]
        return (
            10 ** (length * 125),
            text * (length * 120),
            [self.choices.number(), self.choices.number()],
            -1,
            True,
            self.choices.number(),
            ("busy", "limit", "authentication", "disconnected")[length % 4],
            1.5,
        )[choice % 8]

    # -- frames ----------------------------------------------------------------------------------------

    def near(self) -> int:
        """A number close to one that means something."""
        session = self.session
        if session is None:
            return self.choices.number(self.units)
        return self.choices.number(
            session.sending.acked, session.sending.sent, session.sending.taken, self.units
        )

    def body(self) -> bytes:
        return (b"bad", b"x", b"")[self.choices.byte() % 3].ljust(self.size(), b"y")

    def data(self) -> None:
        self.units += 1
        self.add(frames.frame(frames.DATA, self.body()))

    def batch(self) -> None:
        bodies = [self.body()] * (1 << self.choices.byte() % 7)
        self.units += len(bodies)
        self.add(frames.encode_batch(bodies))

    def part(self) -> None:
        self.units += 1
        body = self.body()
        choice = self.choices.byte()
        if choice % 3 == 0:
            self.add(frames.frame(frames.PART, body))
        else:
            total = self.choices.number(len(body), 2000)
            self.add(frames.frame(frames.PART, total.to_bytes(8) + body))

    def ack(self) -> None:
        session = self.session
        if session is None or self.choices.byte() & 1:
            self.add(
                frames.encode_ack(self.near(), self.near(), self.choices.number(), self.choices.number())
            )
        else:
            more = self.choices.byte() * 20
            self.add(
                frames.encode_ack(
                    session.sending.sent,
                    session.sending.taken,
                    session.sending.sent_bytes + more,
                    session.sending.sent + more,
                )
            )

    def ack_now(self) -> None:
        self.add(frames.frame(frames.ACK_NOW))

    def reject(self) -> None:
        code = ("decode", "too large", "full", "", "?")[self.choices.byte() % 5]
        self.add(frames.encode_reject(self.near(), code, "because"))

    def dropped(self) -> None:
        first, last = self.near(), self.near()
        self.add(frames.encode_dropped(first, last))

    def scatter(self) -> None:
        """Many of them, each a range of its own."""
        first, choice = self.near(), self.choices.byte()
        count = 1 << choice % (12 if choice < FLOODS else 6)
        for number in range(first, min(first + 2 * count, 1 << 64), 2):
            self.add(frames.encode_dropped(number, number))

    def number(self) -> None:
        kinds = (frames.PING, frames.PONG, frames.END_ACK, frames.GOAWAY)
        self.add(frames.encode_number(kinds[self.choices.byte() % 4], self.near()))

    def end(self) -> None:
        number = (
            self.near() if self.choices.byte() & 1 or self.session is None else self.session.receiving.arrived
        )
        self.add(frames.encode_number(frames.END, number))

    def id(self) -> int:
        newest, last = newest_ask(self.hub, self.session), last_ask(self.hub)
        return self.choices.number(newest, newest + 7, last, last + 7)

    def ask(self) -> None:
        self.units += 1
        flags = self.choices.byte()
        left = self.choices.number() if flags & 128 else None
        self.add(frames.encode_ask(self.id(), flags & 15 & ~frames.HAS_DEADLINE, left, self.body()))

    def answer(self) -> None:
        self.units += 1
        self.add(frames.encode_answer(self.id(), self.choices.byte() % 4, self.body()))

    def fail(self) -> None:
        self.units += 1
        name = ("E", "linkbox.TooLarge", "linkbox.DecodeError", "")[self.choices.byte() % 4]
        self.add(frames.encode_fail(self.id(), name, "because"))

    def cancel(self) -> None:
        self.units += 1
        self.add(frames.encode_cancel(self.id(), "enough"))

    def half(self) -> None:
        """The header of a frame that is to come, of any length."""
        kind, length = self.choices.byte(), min(self.choices.number(), 0xFFFFFF)
        self.add((kind << 24 | length).to_bytes(4))

    def frame(self) -> None:
        """A header that is right, mostly, before any bytes."""
        kind, body = self.choices.byte(), self.choices.bytes(self.choices.byte())
        self.add((kind << 24 | len(body)).to_bytes(4) + body)

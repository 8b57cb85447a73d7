"""A peer that follows a script: what it says, and what happens to the endpoint meanwhile.

The input is read as a list of steps (see `Choices`): frames with numbers close to the right ones, frames with
any bytes, a cut, an EOF, what the application does, time that passes. What is said is gathered until
something else happens, so that it arrives whole, or cut by chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from fuzz.bench import SECRET, Bench, last_ask, newest_ask, see
from fuzz.target import Choices, cuts
from linkbox.core.endpoint_core import EndpointCore
from linkbox.core.link import Link, State
from linkbox.core.session import Session
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from tests.core.wire import Probe, encode_message, hello

STEPS = 150
MOST_SAID = frames.MAX_EARLY - 10_000
"""Bytes in one go: what is repeated ends there. Behind a HELLO no more may come in one go anyway."""
_json = msgspec.json


class Peer:
    """The attacker at one end of a link, and the application at the other."""

    def __init__(self, bench: Bench, hub: EndpointCore, choices: Choices, seed: int) -> None:
        self.bench = bench
        self.hub = hub
        self.choices = choices
        self.seed = seed
        self.probe: Probe | None = None
        self.session: Session | None = None
        self.gathered = bytearray()
        self.last = b""
        self.units = 0
        """How many have been said on this session."""
        self.epoch = 0
        self.taken: list[Any] = []
        self.faults: list[str] = []
        """Why links were given up."""
        self.steps: list[Callable[[], None]] = []

    # -- playing -------------------------------------------------------------------------------------

    def play(self) -> None:
        """All steps of the script."""
        for _ in range(STEPS):
            if not self.choices:
                break
            step = self.steps[self.choices.byte() % len(self.steps)]
            step()
        self.flush()

    def add(self, said: bytes) -> None:
        """To be said."""
        self.last = said
        self.gathered += said

    def flush(self) -> None:
        """Say what was gathered; what the endpoint does not read any more is lost."""
        data, self.gathered = bytes(self.gathered), bytearray()
        probe = self.probe
        for chunk in cuts(data, self.seed):
            if probe is None or probe is not self.probe or not self.is_heard():
                break  # a client that has called again hears nothing of this
            probe.say(chunk)
            self.bench.check()
        if data and probe is not None and probe.link.state in (State.CLOSING, State.CLOSED):
            # A stranger is described by as much as there is of it; counts depend on what was said meanwhile.
            text = str(probe.link.error).partition("does not speak")[0]
            self.faults.append(re.sub(r"\d+", "#", text))

    def is_heard(self) -> bool:
        """Does the endpoint read what this side says?"""
        probe = self.probe
        return probe is not None and not (
            probe.is_closed or probe.link.closed or probe.link.paused or probe.end.fin
        )

    def do(self, action: Callable[[], None]) -> Callable[[], None]:
        """A step that is not said: what was gathered arrives before it."""

        def step() -> None:
            self.flush()
            action()
            self.bench.settle()
            self.bench.check()

        return step

    def size(self) -> int:
        byte = self.choices.byte()
        return byte if byte < 200 else (byte - 199) * 50

    # -- what may happen to both kinds of wire ----------------------------------------------------------

    def common(self) -> list[Callable[[], None]]:
        """Steps that need no protocol."""
        happens = [self.eof, self.cut, self.take, self.application, self.clock, self.stall, self.finish]
        return [self.anything, self.repeat, self.flush, *map(self.do, happens)]

    def anything(self) -> None:
        self.add(self.choices.bytes(self.choices.byte()))

    def repeat(self) -> None:
        times = 1 << self.choices.byte() % 12
        times = min(times, MOST_SAID // (len(self.last) or 1))
        self.gathered += self.last * times
        if len(self.gathered) > MOST_SAID:
            self.flush()

    def eof(self) -> None:
        if self.is_heard():
            assert self.probe is not None
            self.probe.end.fin = True
            self.probe.eof()

    def cut(self) -> None:
        probe = self.probe
        if probe is not None and not probe.link.closed:
            self.hub.lost(probe.link, ConnectionResetError("cut"), self.bench.now)
            probe.end.close()

    def take(self) -> None:
        if self.choices.byte() & 1:
            self.bench.decode_all()
        self.taken += self.bench.take(self.hub)

    def application(self) -> None:
        """It sends, asks, or answers."""
        choice, size = self.choices.byte(), self.size()
        pattern = self.hub.context.pattern
        if pattern.asks and not self.hub.context.is_client:
            self.take()
            for index, request in enumerate(self.taken[-5:]):
                self.bench.answer(request, choice + index)
            del self.taken[-5:]
        elif self.session is not None:
            if pattern.asks:
                self.bench.try_ask(self.session, size)
            elif pattern.client_sends if self.hub.context.is_client else pattern.server_sends:
                self.bench.try_send(self.hub, self.session, size)

    def clock(self) -> None:
        self.bench.advance(0.001 * 3 ** (self.choices.byte() % 10))

    def stall(self) -> None:
        """The kernel takes nothing; or takes it again."""
        if self.probe is not None and not self.probe.is_closed:
            end = self.probe.end
            if end.is_full:
                end.unblock(self.bench.now)
            else:
                end.is_full = True

    def finish(self) -> None:
        """The application ends the conversation, waits for receipts, or stops."""
        choice = self.choices.byte() % 8
        session = self.session
        if choice == 7:
            self.hub.shutdown(self.bench.now)
        elif session is not None and session.error is None and choice == 6:
            session.end()
        elif session is not None:
            session.request_ack()

    def leave(self) -> None:
        """The attacker goes away for good."""
        self.flush()
        self.bench.decodes = True
        self.bench.decode_all()
        probe = self.probe
        if probe is not None and not probe.is_closed:
            if probe.end.is_full:
                probe.end.unblock(self.bench.now)
            self.eof()
            self.cut()
        self.bench.settle()
        self.taken += self.bench.take(self.hub)


class PlainPeer(Peer):
    """One that speaks no protocol: bytes, and what they happen to mean."""

    def __init__(self, bench: Bench, hub: EndpointCore, choices: Choices, seed: int) -> None:
        super().__init__(bench, hub, choices, seed)
        self.steps = [*self.common(), self.message]
        if not hub.context.is_client:
            self.steps.append(self.do(self.connect))

    def connect(self) -> None:
        """A new connection; the old one is gone."""
        self.cut()
        link = self.bench.server.accept("tcp://probe", None, self.bench.now)
        if link is not None:
            self.on_link(link)

    def on_link(self, link: Link) -> None:
        self.probe = Probe(self.bench, self.hub, link)
        self.session = link.session

    def message(self) -> None:
        """Something the framing can carry, mostly."""
        framing: Any = self.bench.framing
        body = self.choices.bytes(1) * (self.size() % 256)
        try:
            self.add(framing.encode(body))
        except ValueError:
            self.add(body)


class LinkedPeer(Peer):
    """One that knows the Linked wire, and abuses it."""

    def __init__(self, bench: Bench, hub: EndpointCore, choices: Choices, seed: int) -> None:
        super().__init__(bench, hub, choices, seed)
        self.heard: list[tuple[int, bytes]] = []
        self.steps = [
            *self.common(),
            *(self.data, self.batch, self.part, self.part, self.ack, self.ack, self.ack_now, self.reject),
            *(
                self.dropped,
                self.number,
                self.number,
                self.ask,
                self.ask,
                self.answer,
                self.fail,
                self.cancel,
            ),
            *(self.end, self.greeting, self.greeting, self.frame),
            self.do(self.greet),
        ]

    def on_link(self, link: Link) -> None:
        self.probe = Probe(self.bench, self.hub, link)
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
            self.cut()
            link = self.bench.server.accept("tcp://probe", None, self.bench.now)
            if link is not None:
                self.on_link(link)
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
            name="probe", session=("ab" if choice < 128 else "cd") * 16,
        )  # fmt: skip
        said = encode_message(message)
        probe.say(frames.preface() + said)
        self.listen()
        if self.bench.server_secrets is not None and not choice & 64:
            client = auth.ClientSide(lambda name: [SECRET], said[4:])
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
            server = auth.ServerSide(lambda name: [SECRET], said, bytes(auth.NONCE), "server")
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

    def frame(self) -> None:
        """A header that is right, mostly, before any bytes."""
        kind, body = self.choices.byte(), self.choices.bytes(self.choices.byte())
        self.add((kind << 24 | len(body)).to_bytes(4) + body)

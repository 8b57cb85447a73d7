"""An attacker with real sockets: handshakes that are done right, and then the frames of `fuzz.grammar`."""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from fuzz.grammar import WRONG, Grammar, PlainGrammar
from fuzz.target import Choices
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.core.wire.decoder import Decoder
from tests.core.wire import encode_message

if TYPE_CHECKING:
    from fuzz.sockets import Host

PATIENCE = 30.0
"""Seconds to wait for what takes milliseconds."""
STEPS = 40
SOON = 0.004
"""Seconds that an attacker waits for what it should hear; it may be that nothing comes."""
SECRETS = {"honest": b"the honest one's", "yes": b"the attacker's", "no": b"no", "raise": b"r", "later": b"l"}
NAMES = ("yes", "yes", "yes", "later", "yes", "no", "raise", "nobody")
RESET = struct.pack("ii", 1, 0)
UNITS = frozenset((frames.DATA, frames.PART, frames.ANSWER, frames.FAIL))


class Attack:
    """One attacker: a connection, or one after the other."""

    def __init__(self, host: Host, choices: Choices) -> None:
        self.host = host
        self.choices = choices
        self.grammar = (PlainGrammar if host.is_plain else Grammar)(choices, host.pattern)
        self.waited = 0.0
        self.epoch, self.session, self.born = 0, "", 1
        self.is_stuck = False
        self.socks: list[socket.socket] = []
        self.decoder = Decoder()
        self.connect()

    # -- connections -----------------------------------------------------------------------------------

    def connect(self, resumes: bool = False) -> None:
        """A connection, and the handshake as it should be."""
        self.sock = self.host.place.transport.dial(self.host.server.address, PATIENCE)
        self.socks.append(self.sock)
        self.is_stuck, self.decoder = False, Decoder()
        choice = self.choices.byte()
        if not self.host.is_plain:
            self.meet(choice, resumes)
        self.sock.setblocking(False)

    def meet(self, choice: int, resumes: bool) -> None:
        """Introduce this side, and wait for the decision."""
        self.epoch += 1
        if not resumes:
            self.session, self.born = f"{len(self.socks):02x}" * 16, 1
        hello = handshake.Hello(
            pattern=self.host.pattern.lower(),
            format="bytes",
            name=NAMES[choice % len(NAMES)],
            session=self.session,
            epoch=self.epoch,
            credit=(0, 0) if choice & 16 else (1 << 40, 1 << 40),
            message=1 << 30,
            received=self.grammar.heard_units if resumes else 0,
            resumes=choice & 96 == 96,
            born=self.born,
        )
        said = encode_message(hello)
        began = time.monotonic()
        try:
            self.sock.sendall(frames.preface() + said)
            self.answer(hello, said[4:])
        except (OSError, EOFError):
            self.is_stuck = True
        self.waited = max(self.waited, time.monotonic() - began)

    def answer(self, hello: handshake.Hello, said: bytes) -> None:
        """WELCOME, or REFUSE; with a secret, the proof before it."""
        proves = auth.ClientSide(lambda _: [SECRETS.get(hello.name, b"?")], said)
        preface, is_welcome = b"", False
        while not is_welcome:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            if len(preface) < 8:
                at = 8 - len(preface)
                preface, data = preface + data[:at], data[at:]
            for kind, payload in self.decoder.receive(data):
                if kind == frames.CHALLENGE:
                    self.sock.sendall(proves.prove(payload, bytes(auth.NONCE)) or b"")
                elif kind == frames.REFUSE:
                    raise EOFError
                elif kind == frames.WELCOME:
                    is_welcome = True
                    welcome = handshake.decode_welcome(payload)
                    self.born = welcome.born
                    self.grammar.begin(welcome.received, hello.received if welcome.resumed else 0)
                else:
                    self.grammar.heard_units += kind in UNITS

    # -- playing ---------------------------------------------------------------------------------------

    def play(self) -> None:
        own = [self.say, self.say, self.pieces, self.listen, self.again, self.resume]
        for _ in range(STEPS):
            if not self.choices:
                break
            byte = self.choices.byte()
            is_own = byte < WRONG and not byte % 4
            step = own[byte // 4 % len(own)] if is_own else self.grammar.step(byte)
            step()
        self.say()

    def say(self) -> None:
        """All that is prepared, as far as the server takes it."""
        self.send(self.grammar.take())

    def pieces(self) -> None:
        """The same in pieces, the first ones as small as they can be."""
        data, size = self.grammar.take(), 1 + self.choices.byte() % 16
        start = 0
        while start < len(data) and not self.is_stuck:
            self.send(data[start : start + size])
            start += size
            size *= 2

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self.is_stuck:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                self.read()
                self.is_stuck = True  # it is slowed down: enough for this time
            except OSError:
                self.is_stuck = True

    def listen(self) -> None:
        """Wait until the server says something; it need not, but to a PING it has an answer."""
        if not self.host.is_plain:
            self.grammar.add(frames.encode_number(frames.PING, 1))
        self.say()
        if not self.is_stuck:
            select.select([self.sock], [], [], SOON)
            self.read()

    def read(self) -> None:
        """What the server has said."""
        try:
            while data := self.sock.recv(1 << 20):
                if self.host.is_plain:
                    self.grammar.heard_units += data.count(b"\n")
                    continue
                heard = self.decoder.receive(data)
                assert self.decoder.error is None, self.decoder.error
                self.grammar.heard_units += sum(kind in UNITS for kind, _ in heard)
            self.is_stuck = True
        except OSError:
            pass  # that was all, or the end of it

    def again(self, resumes: bool = False) -> None:
        """Another connection, instead of this one or beside it."""
        if len(self.socks) < 4:
            self.say()
            how = self.choices.byte()
            if how & 4:
                self.end(how)
            self.connect(resumes)

    def resume(self) -> None:
        """The same, to go on with this session."""
        self.again(True)

    # -- leaving ---------------------------------------------------------------------------------------

    def end(self, how: int) -> None:
        """This connection: FIN, RST, or simply close."""
        try:
            if how % 3 == 0:
                self.sock.shutdown(socket.SHUT_WR)
            elif how % 3 == 1:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except OSError:
            pass
        self.sock.close()

    def leave(self, how: int) -> None:
        """All of them."""
        self.end(how)
        for each in self.socks:
            each.close()

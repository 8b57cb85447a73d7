"""The handshake of our own protocol: preface, HELLO, authentication, then WELCOME or REFUSE.

A `Handshake` consumes bytes until there is something to decide: on a server the client's `Hello`, on a client
the server's `Welcome` or `Refuse`. It returns that message, and the owner of the link decides. Bytes behind
it are held until then, within strict limits (`frames.MAX_EARLY`).
"""

from __future__ import annotations

from typing import Final

from linkbox.core.connection import Buffer
from linkbox.core.context import Context
from linkbox.core.wire import authentication, frames, handshake_messages
from linkbox.core.wire.authentication import ClientSide, ServerSide
from linkbox.core.wire.decoder import Decoder
from linkbox.core.wire.handshake_errors import NotLinkbox, NotProven, OtherVersion
from linkbox.core.wire.handshake_messages import Hello, Refuse, Welcome
from linkbox.errors import ProtocolViolation

STEP: Final = 16 * 1024
"""Most bytes of a handshake that are processed at a time."""


class Handshake:
    """The base class of both sides: checks the preface and finds frames."""

    __slots__ = (
        "_context",
        "_decoder",
        "_preface",
        "certificate",
        "has_moved",
        "is_greeted",
        "may_send_early",
        "output",
    )

    def __init__(self, context: Context) -> None:
        self._context = context
        self._decoder = Decoder(small=True)
        self._preface = b""
        self.certificate: bytes = b""
        """With TLS: the SHA-256 of the server's certificate."""
        self.is_greeted: bool = False
        """Has the peer's preface arrived?"""
        self.has_moved: bool = False
        """Did the last `feed` find a complete frame?"""
        self.may_send_early: bool = False
        """May messages be written before the welcome?"""
        self.output: list[Buffer] = [frames.preface()]
        """Frames to write."""

    def buffered(self) -> int:
        """Bytes held: an incomplete frame, or bytes that wait for the decision."""
        return self._decoder.buffered + len(self._preface)

    def take_rest(self) -> bytes:
        """Return the held bytes, once the link is open."""
        return self._decoder.take_held()

    def _greet(self, data: bytes) -> bytes:
        """Check the preface; return what follows it."""
        data = self._preface + data
        try:
            version = frames.check_preface(data)
        except ProtocolViolation as error:
            raise NotLinkbox(str(error)) from None
        if version is None:
            self._preface = data
            return b""
        self.is_greeted, self._preface = True, b""
        if version != frames.VERSION and not self._context.is_client:
            # A client continues, to read the server's REFUSE.
            raise OtherVersion(f"protocol version {version} is not spoken here, only {frames.VERSION}")
        return data[8:]

    def _too_early(self, kind: int) -> ProtocolViolation:
        """The error for a frame that is not part of a handshake."""
        what = "messages" if kind in _MESSAGE_KINDS else "frames"
        return ProtocolViolation(f"{what} before the handshake was complete")


_MESSAGE_KINDS: Final = frozenset(
    (
        frames.DATA,
        frames.BATCH,
        frames.PART,
        frames.ASK,
        frames.ANSWER,
        frames.FAIL,
        frames.CANCEL,
        frames.END,
    )
)


class ServerHandshake(Handshake):
    """The server's side: returns the `Hello` of a client, authenticated if that is required."""

    __slots__ = ("_auth", "_hello", "hello")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._auth: ServerSide | None = None
        self._hello: Hello | None = None
        """The client's HELLO while it is not authenticated."""
        self.hello: Hello | None = None
        """The client's HELLO once it is authenticated, or needs no authentication: the owner decides."""

    def is_introduced(self) -> bool:
        """Has HELLO arrived?"""
        return self.hello is not None or self._auth is not None

    def feed(self, data: bytes) -> Hello | None:
        """Process at most `STEP` bytes. Raises `ProtocolViolation` or one of its subclasses above."""
        self.has_moved: bool = False
        if not self.is_greeted:
            data = self._greet(data)
        found = self._decoder.receive(data)
        while found:
            self.has_moved = True
            for kind, payload in found:
                self._handle(kind, payload)
            # Process frames that the decoder held behind HELLO.
            found = self._decoder.receive(b"") if self._hello is not None else []
        if self.has_moved and self.hello is not None:
            return self.hello  # An error behind it is reported when the link is open, or with the next bytes.
        if self._decoder.error is not None:
            raise ProtocolViolation(str(self._decoder.error))  # The kept one gets no traceback.
        return None

    def _handle(self, kind: int, payload: bytes) -> None:
        if kind == frames.HELLO:
            self._on_hello(payload)
        elif kind == frames.PROOF:
            self._on_proof(payload)
        elif kind in (frames.WELCOME, frames.REFUSE, frames.CHALLENGE):
            raise ProtocolViolation(f"a {frames.type_name(kind)} that is out of place")
        else:
            raise self._too_early(kind)

    def _on_hello(self, payload: bytes) -> None:
        hello = handshake_messages.decode_hello(payload)
        if self.hello is not None or self._auth is not None:
            raise ProtocolViolation("a HELLO that is out of place")
        settings = self._context.settings
        if settings.secrets is None:
            self.hello = hello
            return
        nonce = settings.entropy(authentication.NONCE)
        self._auth = ServerSide(settings.secrets, payload, nonce, settings.name, self.certificate)
        self._hello = hello
        self.output.append(self._auth.challenge())
        self._decoder.proceed()

    def _on_proof(self, payload: bytes) -> None:
        hello, self._hello = self._hello, None
        if self._auth is None or hello is None:
            raise ProtocolViolation("a PROOF that is out of place")
        proof = self._auth.check(payload, hello.name)
        if proof is None:
            raise NotProven(authentication.WRONG)
        self.output.append(proof)
        self.hello = hello


class ClientHandshake(Handshake):
    """The client's side: returns the server's `Welcome` or `Refuse`."""

    __slots__ = ("_auth", "_began_at", "_hello", "sent_before")

    def __init__(
        self, context: Context, hello: Hello, sent_before: int, may_send_early: bool, began_at: float | None
    ) -> None:
        """``began_at``: send HELLO after the server's preface, with the age of the session at that time (see
        generation.py). None: send it at once, with age 0."""
        super().__init__(context)
        self._hello = hello
        self._began_at = began_at
        self._auth: ClientSide | None = None
        """The client's half of the authentication, if there is a secret."""
        self.sent_before: int = sent_before
        """Units that were sent on older connections."""
        self.may_send_early = may_send_early
        if began_at is None:
            self._introduce(0.0)

    def _introduce(self, age: float) -> None:
        """Send HELLO; its payload is covered by the authentication."""
        frame = handshake_messages.encode_hello(self._hello, age)
        if self._context.settings.secrets is not None:
            self._auth = ClientSide(self._context.settings.secrets, frame[4:])
        self.output.append(frame)

    def feed(self, data: bytes, now: float) -> Welcome | Refuse | None:
        """Process at most `STEP` bytes. Raises `ProtocolViolation` or `NotLinkbox`."""
        self.has_moved: bool = False
        if not self.is_greeted:
            data = self._greet(data)
            if self.is_greeted and self._began_at is not None:
                self._introduce(now - self._began_at)
        for kind, payload in self._decoder.receive(data):
            self.has_moved = True
            answer = self._handle(kind, payload)
            if answer is not None:
                return answer
        if self._decoder.error is not None:
            raise ProtocolViolation(str(self._decoder.error))  # The kept one gets no traceback.
        return None

    def _handle(self, kind: int, payload: bytes) -> Welcome | Refuse | None:
        if kind == frames.WELCOME:
            welcome = handshake_messages.decode_welcome(payload)
            if self._auth is not None and not self._auth.is_proven:
                return _distrust(authentication.NOT_ASKED)
            return welcome
        if kind == frames.REFUSE:
            return handshake_messages.decode_refuse(payload)
        if kind == frames.CHALLENGE:
            return self._on_challenge(payload)
        if kind == frames.PROOF:
            if self._auth is None:
                raise ProtocolViolation("a PROOF that is out of place")
            return None if self._auth.check(payload) else _distrust(authentication.NOT_PROVEN)
        if kind == frames.HELLO:
            raise ProtocolViolation("a HELLO that is out of place")
        raise self._too_early(kind)

    def _on_challenge(self, payload: bytes) -> Refuse | None:
        nonce = self._context.settings.entropy(authentication.NONCE)
        proof = None if self._auth is None else self._auth.prove(payload, nonce, self.certificate)
        if proof is None:
            return _distrust(authentication.NO_SECRET)
        self.output.append(proof)
        return None


def _distrust(reason: str) -> Refuse:
    """Return a refusal for a failed authentication; it is final."""
    return Refuse("authentication", reason)

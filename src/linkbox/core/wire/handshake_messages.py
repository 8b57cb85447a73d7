"""The messages of the handshake: HELLO, WELCOME, REFUSE.

Each is a small JSON object. Unknown keys are ignored, so that either side may be newer.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from linkbox.core.wire import frames
from linkbox.errors import AuthenticationFailed, LinkError, PeerLost, ProtocolViolation, Refused
from linkbox.limits import NAME_CHARACTERS
from linkbox.text import LONGEST_MESSAGE, printable, shown


class Hello(msgspec.Struct, frozen=True):
    """The client's first frame."""

    pattern: str
    format: str
    name: str
    session: str
    """Chosen by the client, 32 hexadecimal digits."""
    epoch: int
    """Counts the connections of this session; the newest wins."""
    credit: tuple[int, int]
    """The credit for the server: bytes and units."""
    message: int
    """The largest message that the client accepts."""
    received: int = 0
    """Units that the client has received: the server continues after them."""
    resumes: bool = True
    """Will the client reconnect when the connection breaks?"""
    born: int = 1
    """The epoch in which the server began the session that the client knows: see `Welcome.born`."""
    age: float = 0.0
    """Seconds since the first attempt to connect, measured after the server's preface was received; 0 in a
    first attempt. So the first attempt was no earlier than the start of this connection minus the age."""
    incarnation: str = ""
    """The incarnation of the server that welcomed the session, if it was welcomed."""
    features: tuple[str, ...] = ()


class Welcome(msgspec.Struct, frozen=True):
    """The server admits the client."""

    name: str
    incarnation: str
    """New at each start of a server without a store."""
    credit: tuple[int, int]
    message: int
    received: int = 0
    resumed: bool = False
    """Does the server know this session, and continue it?"""
    born: int = 1
    """The epoch in which the server began the session. If the server had to begin it anew and its WELCOME was
    lost, this shows the difference from the server that had the session from its beginning."""
    is_new: bool = False
    """Is it certain that the server never had this session? Then nothing of it is in doubt."""
    features: tuple[str, ...] = ()


class Refuse(msgspec.Struct, frozen=True):
    """The server refuses the client, or disconnects it."""

    code: str
    reason: str
    supported: tuple[int, ...] = (frames.VERSION,)


_encoder = msgspec.json.Encoder()
M = TypeVar("M")
_U64_MAX = (1 << 64) - 1
# A text that is sent back must fit a frame, even if JSON needs six bytes for each character.
_INCARNATION_CHARACTERS = 100
_REASON_CHARACTERS = 600
_OLDEST = 1e9
"""Seconds: about 30 years."""


def encode_hello(hello: Hello, age: float = 0.0) -> bytes:
    """The frame of a HELLO, with ``age`` filled in."""
    return frames.frame(
        frames.HELLO, _encoder.encode(msgspec.structs.replace(hello, age=age) if age else hello)
    )


def encode_welcome(welcome: Welcome) -> bytes:
    """The frame of a WELCOME."""
    return frames.frame(frames.WELCOME, _encoder.encode(welcome))


def refuse(code: str, reason: str) -> bytes:
    """The frame of a refusal. A long reason is cut."""
    return frames.frame(frames.REFUSE, _encoder.encode(Refuse(code, reason[:_REASON_CHARACTERS])))


def decode_hello(payload: bytes) -> Hello:
    """The message in a HELLO frame. Raises `ProtocolViolation`."""
    hello = _decode(Hello, payload, "HELLO")
    _check(hello, "HELLO")
    return hello


def decode_welcome(payload: bytes) -> Welcome:
    """The message in a WELCOME frame. Raises `ProtocolViolation`."""
    welcome = _decode(Welcome, payload, "WELCOME")
    _check(welcome, "WELCOME")
    return welcome


def decode_refuse(payload: bytes) -> Refuse:
    """The message in a REFUSE frame. Raises `ProtocolViolation`."""
    return _decode(Refuse, payload, "REFUSE")


def _decode(kind: type[M], payload: bytes, which: str) -> M:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(f"{which}: {error}") from shown(error)


def _check(message: Hello | Welcome, which: str) -> None:
    newest, valid = _U64_MAX, {}
    if isinstance(message, Hello):
        newest = message.epoch
        valid["session"] = len(message.session) == 32 and not message.session.strip("0123456789abcdef")
        valid["epoch"] = 1 <= newest <= _U64_MAX
        valid["age"] = 0 <= message.age <= _OLDEST
    valid["name"] = len(message.name) <= NAME_CHARACTERS
    valid["incarnation"] = len(message.incarnation) <= _INCARNATION_CHARACTERS
    valid["credit"] = min(message.credit) >= 0 and max(message.credit) <= _U64_MAX
    valid["message"] = 1 <= message.message <= _U64_MAX
    valid["received"] = 0 <= message.received <= _U64_MAX
    valid["born"] = 1 <= message.born <= newest
    for field, is_valid in valid.items():
        if not is_valid:
            raise ProtocolViolation(f"{which}: {field} is out of range")


def refusal(message: Refuse, address: str) -> LinkError:
    """The error for a received REFUSE: `PeerLost` if it disconnects this client."""
    if message.code == "disconnected":
        return PeerLost(f"{address} disconnected this end: {printable(message.reason, LONGEST_MESSAGE)}")
    text = f"{address} refused: {printable(message.reason, LONGEST_MESSAGE)}"
    if message.code == "authentication":
        return AuthenticationFailed(text)
    return Refused(text, message.code)

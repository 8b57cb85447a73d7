"""HELLO, WELCOME, REFUSE, CHALLENGE, PROOF: their payloads, on both sides."""

from __future__ import annotations

from fuzz.target import Choices, Target
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.errors import LinkError, ProtocolViolation
from tests.core.wire import decode_message, encode_message

SECRET = b"a secret"
_HELLO = handshake.Hello("p2p", "bytes", "me", "ab" * 16, 1, (9, 9), 99)
_PAYLOAD = encode_message(_HELLO)[4:]
_NONCE = bytes(range(auth.NONCE))


def run_greetings(data: bytes) -> None:
    """A HELLO, WELCOME or REFUSE: a message within its bounds, or a violation."""
    choices = Choices(data)
    kind = frames.HELLO + choices.byte() % 3
    payload = choices.rest()[: frames.MAX_SMALL]
    try:
        message = decode_message(kind, payload)
    except ProtocolViolation as error:
        text = str(error)
    else:
        check_greeting(kind, message)
        return
    assert len(text) < 10_000


def check_greeting(kind: int, message: handshake.Hello | handshake.Welcome | handshake.Refuse) -> None:
    """What was understood is within its bounds, and can be said again."""
    if isinstance(message, handshake.Refuse):
        assert isinstance(handshake.refusal(message, "tcp://there:1"), LinkError)
        return
    assert message.message > 0 and min(*message.credit, message.received) >= 0
    assert len(message.name) <= 256
    assert decode_message(kind, encode_message(message)[4:]) == message


def run_proofs(data: bytes) -> None:
    """CHALLENGE and PROOF on either side: nobody who does not know the secret proves anything."""
    choices = Choices(data)
    side = choices.byte() % 3
    payload = choices.rest()[: frames.MAX_SMALL]
    client = auth.ClientSide(lambda name: [SECRET], _PAYLOAD)
    server = auth.ServerSide(lambda name: [SECRET] if name == "me" else [], _PAYLOAD, _NONCE, "server")
    try:
        if side == 0:
            client.prove(payload, _NONCE)
        elif side == 1:
            client.prove(server.challenge()[4:], _NONCE)
            assert not client.check(payload)
        else:
            assert server.check(payload, "me") is None
            assert server.check(payload, "you") is None
    except ProtocolViolation:
        pass
    assert not client.is_proven


_WELCOME = encode_message(handshake.Welcome("you", "77", (9, 9), 99, resumed=True))[4:]
_REFUSE = encode_message(handshake.Refuse("busy", "no"))[4:]
_CHALLENGE = auth.ServerSide(lambda name: [SECRET], _PAYLOAD, _NONCE, "server").challenge()[4:]
_PROOF = b'{"mac":"' + b"ab" * 32 + b'","nonce":"' + b"cd" * 32 + b'"}'
TARGETS = [
    Target("handshake", run_greetings, (b"\0" + _PAYLOAD, b"\1" + _WELCOME, b"\2" + _REFUSE)),
    Target("proofs", run_proofs, (b"\0" + _CHALLENGE, b"\1" + _PROOF, b"\2" + _PROOF)),
]

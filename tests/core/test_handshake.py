"""HELLO, WELCOME and REFUSE: there and back, room for growth, and what is out of range."""

from __future__ import annotations

import json
from typing import Any

import pytest

from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.core.wire.decoder import Decoder
from linkbox.core.wire.handshake_messages import Hello, Refuse, Welcome
from linkbox.errors import AuthenticationFailed, LinkError, PeerLost, ProtocolViolation, Refused
from tests.core.wire import decode_message, encode_message

HELLO = Hello(
    pattern="p2p",
    format="json",
    name="me",
    session="0123456789abcdef" * 2,
    epoch=1,
    credit=(10, 20),
    message=30,
    received=5,
    incarnation="77",
    features=("new",),
)
WELCOME = Welcome(name="you", incarnation="88", credit=(1, 2), message=3, received=4, resumed=True)
REFUSE = Refuse("busy", "the place is taken")


def payload(message: Any, /, **changes: Any) -> bytes:
    """The payload of its frame, with some keys changed; ``...`` leaves a key out."""
    keys = json.loads(encode_message(message)[4:]) | changes
    return json.dumps({key: value for key, value in keys.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("kind", "message"), [(frames.HELLO, HELLO), (frames.WELCOME, WELCOME), (frames.REFUSE, REFUSE)]
)
def test_there_and_back(kind: int, message: Any) -> None:
    [(found, body)] = Decoder(small=True).receive(encode_message(message))
    assert found == kind
    assert decode_message(kind, body) == message


def test_what_a_newer_peer_says_more_is_ignored() -> None:
    assert decode_message(frames.HELLO, payload(HELLO, colour="red")) == HELLO


def test_what_is_left_out_has_a_default() -> None:
    hello = decode_message(frames.HELLO, payload(HELLO, received=..., incarnation=..., features=...))
    assert isinstance(hello, Hello)
    assert (hello.received, hello.incarnation, hello.features) == (0, "", ())
    assert decode_message(frames.REFUSE, b'{"code":"x","reason":"y"}') == Refuse("x", "y")


OUT_OF_RANGE = [
    ("name", "x" * 257),
    ("message", 0),
    ("message", -1),
    ("message", 1 << 64),
    ("credit", (-1, 5)),
    ("credit", (5, -1)),
    ("credit", (5, 1 << 64)),
    ("received", -1),
    ("received", 1 << 64),
    ("born", 0),
    ("born", -1),
    ("born", 10**3000),
    ("incarnation", "x" * 101),
]
"""For HELLO and WELCOME."""
OUT_OF_RANGE_OF_HELLO = [
    ("session", ""),
    ("session", "0" * 31),
    ("session", "0" * 33),
    ("session", "G" * 32),
    ("session", "0" * 32 + "\n"),
    ("epoch", 0),
    ("epoch", -1),
    ("epoch", 1 << 64),
    ("born", HELLO.epoch + 1),
    ("age", -1),
    ("age", -1e-300),
    ("age", 1.1e9),
    ("age", 1e308),
]


@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE + OUT_OF_RANGE_OF_HELLO)
def test_a_hello_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(ProtocolViolation, match=f"HELLO: {field} is out of range"):
        decode_message(frames.HELLO, payload(HELLO, **{field: value}))


@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE)
def test_a_welcome_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(ProtocolViolation, match=f"WELCOME: {field} is out of range"):
        decode_message(frames.WELCOME, payload(WELCOME, **{field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epoch", (1 << 64) - 1),
        ("born", HELLO.epoch),
        ("credit", (0, (1 << 64) - 1)),
        ("message", 1),
        ("age", 1e9),
        ("name", ""),
        ("features", ["x"] * 100),
    ],
)
def test_a_hello_that_is_just_in_range(field: str, value: Any) -> None:
    decode_message(frames.HELLO, payload(HELLO, **{field: value}))


@pytest.mark.parametrize("field", Hello.__struct_fields__)
@pytest.mark.parametrize("value", [None, [], {}, 1.5, "x", [[]], True, -(10**400), "NaN", [1, 2, 3]])
def test_each_field_of_hello_with_any_type(field: str, value: Any) -> None:
    """Whatever a field has is accepted or a violation that names the field, and nothing else."""
    error = None
    try:
        decode_message(frames.HELLO, payload(HELLO, **{field: value}))
    except ProtocolViolation as violation:
        error = violation
    assert error is None or field in str(error)


@pytest.mark.parametrize("kind", [frames.HELLO, frames.WELCOME, frames.REFUSE])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"\xff", b'{"name":"\xff"}', b'{"name":"\\ud800"}', b"[" * 4000]
)
def test_what_is_no_handshake_at_all(kind: int, body: bytes) -> None:
    with pytest.raises(ProtocolViolation, match=frames.type_name(kind)):
        decode_message(kind, body)


@pytest.mark.parametrize("changes", [{"epoch": "1"}, {"credit": [1]}, {"session": ...}, {"epoch": 1.5}])
def test_a_hello_of_other_types(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation, match="HELLO"):
        decode_message(frames.HELLO, payload(HELLO, **changes))


@pytest.mark.parametrize(
    ("code", "kind"),
    [("busy", Refused), ("disconnected", PeerLost), ("authentication", AuthenticationFailed)],
)
def test_the_error_of_a_refusal_names_code_reason_and_address(code: str, kind: type[LinkError]) -> None:
    error = handshake.refusal(Refuse(code, "because"), "tcp://there:1")
    assert type(error) is kind
    assert not isinstance(error, Refused) or error.code == code
    assert "tcp://there:1" in str(error) and "because" in str(error)

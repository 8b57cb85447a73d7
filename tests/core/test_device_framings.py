"""Framings for devices: bad frames, bounds, cost, and framings of users."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from linkbox.core.patterns import P2M, P2P
from linkbox.core.wire.framings import (
    Cobs,
    DecimalPrefixed,
    Delimited,
    Enclosed,
    Framing,
    JsonStream,
    LengthPrefixed,
    Linked,
    Netstring,
    PlainFraming,
    Slip,
    UserFraming,
    VarintPrefixed,
    as_framing,
)
from linkbox.core.wire.framings.users import UserDecoder
from linkbox.errors import DecodeError, FormatError, PeerLost, ProtocolViolation, TooLarge
from linkbox.events import EventKind
from linkbox.limits import Limits
from tests.core.wire import Wire, probe_client, probe_server

LIMIT = 10_000


def xor(data: bytes) -> bytes:
    return bytes([functools.reduce(operator.xor, data, 0)])


def failing(data: bytes) -> bytes:
    if data:
        raise KeyError("no table")
    return b"\0"


LRC = Enclosed(b"\x02", b"\x03", checksum=xor, checksum_after=True)
INSIDE = Enclosed(b"\x02", b"\x03", checksum=lambda data: b"%02X" % xor(data)[0])
DLE = Enclosed(b"\x10\x02", b"\x10\x03", escape=b"\x10")
HDLC = Enclosed(b"~", b"~", escape=b"}", escape_xor=0x20)
MLLP = Enclosed(b"\x0b", b"\x1c\r")

# framing, bytes on the wire, the good messages, what the errors of the others say
BAD_FRAMES: list[tuple[PlainFraming, bytes, list[bytes], list[str]]] = [
    (
        LRC,
        LRC.encode(b"a") + b"\x02b\x03?" + LRC.encode(b"c"),
        [b"a", b"c"],
        ["wrong checksum, b'?'", "outside"],
    ),
    (LRC, b"\x02b\x03" + LRC.encode(b"c"), [b"c"], ["wrong checksum"]),
    (LRC, b"noise\r\n" + LRC.encode(b"c") + b"\r\n", [b"c"], ["bytes outside of a frame: b'noise'"]),
    (LRC, b"\x02cut" + LRC.encode(b"c"), [b"c"], ["a frame that was cut: b'cut'"]),
    (LRC, b"\x02\x02" + LRC.encode(b"c"), [b"c"], []),
    (INSIDE, INSIDE.encode(b"a") + b"\x02b00\x03\x02c\x03", [b"a"], ["wrong checksum, b'00'", "without its"]),
    (DLE, b"\x10\x10\x02a\x10x\x10\x03" + DLE.encode(b"c"), [b"c"], ["outside", r"unknown escape b'\\x10x'"]),
    (DLE, b"\x10\x02a\x10\x02b\x10\x03", [b"b"], ["cut: b'a'"]),
    (HDLC, b"zz~a}~b~", [b"b"], ["outside of a frame: b'zz'", "unknown escape"]),
    (MLLP, b"\x0bA\x0bB\x1c\r\x1c\r\x0b\x0bC\x1c\r", [b"B", b"C"], ["cut: b'A'", "outside"]),
    (Slip(), b"a\xdbb\xc0c\xdb\xc0d\xc0", [b"d"], [r"b'\\xdbb' at byte 1", r"b'\\xdb' at byte 1"]),
    (Slip(checksum=xor), b"ab\xc0\xc0cz\xc0d\xc0", [], ["wrong", "wrong", "wrong"]),
    (Cobs(), b"\5ab\0\2d\0", [b"d"], ["block at byte 0 has 4 bytes, but 2 follow"]),
    (Cobs(checksum=failing), b"\3ab\0", [], ["checksum= failed, KeyError"]),
]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(("framing", "data", "messages", "errors"), BAD_FRAMES)
def test_a_bad_frame_costs_no_other_message(
    framing: PlainFraming, data: bytes, messages: list[bytes], errors: list[str], size: int
) -> None:
    decoder = framing.decoder(LIMIT)
    found = [each for at in range(0, len(data), size) for each in decoder.feed(data[at : at + size])]
    assert found == messages
    assert decoder.eof() == [] and decoder.error is None
    texts = [str(error) for error in decoder.rejected]
    if size == 1000:  # Noise that arrives in pieces is reported in pieces.
        assert len(texts) == len(errors)
    for part in errors:
        assert any(part.replace("\\\\", "\\") in text for text in texts) or size < 1000, (part, texts)


@pytest.mark.parametrize(("framing", "data", "messages", "errors"), BAD_FRAMES[:4])
def test_noise_at_the_end_of_the_stream(
    framing: PlainFraming, data: bytes, messages: list[bytes], errors: list[str]
) -> None:
    decoder = Enclosed(b"ab", b"cd").decoder(LIMIT)
    assert decoder.feed(b"abxcda") == [b"x"]
    assert decoder.eof() == [] and decoder.error is None
    assert "outside of a frame: b'a'" in str(decoder.rejected[0])


# A framing, and a stream that a decoder with a quadratic step would need minutes for.
LONG: list[tuple[PlainFraming, bytes, int]] = [
    (Delimited(b"\r", (b"\r\n", b"\r")), b"\r\n" * 100_000, 100_000),
    (Delimited(b"\r", (b"\r\n", b"\r")), b"x" * 900_000 + b"\r", 1),
    (LengthPrefixed(3), b"\0\0\1x" * 50_000, 50_000),
    (LengthPrefixed(3), b"\x0d\xbb\xa0" + b"x" * 900_000, 1),
    (VarintPrefixed(), b"\1x" * 100_000, 100_000),
    (VarintPrefixed(), VarintPrefixed().encode(bytes(900_000)), 1),
    (Netstring(), b"1:x," * 50_000, 50_000),
    (DecimalPrefixed(b" "), b"900000 " + b"x" * 900_000, 1),
    (JsonStream(), b"[]" * 50_000, 50_000),
    (JsonStream(), b'"' + b"\\\\" * 200_000 + b'"', 1),
    (JsonStream(), b"[" + b"1," * 200_000 + b"1]", 1),
    (JsonStream(), b"1" * 900_000 + b" ", 1),
    (Slip(), b"x\xc0" * 50_000, 50_000),
    (Slip(), b"\xdb\xdc" * 450_000 + b"\xc0", 1),
    (Cobs(), Cobs().encode(bytes(200_000)), 1),
    (HDLC, b"~x" * 50_000 + b"~", 50_000),
    (HDLC, b"~" + b"}^" * 200_000 + b"~", 1),
    (DLE, b"\x10\x02" + b"\x10\x10" * 200_000 + b"\x10\x03", 1),
    (MLLP, b"\x0bx\x1c\r" * 50_000, 50_000),
    (MLLP, b"\x0b" + b"\x1c" * 900_000 + b"\x1c\r", 1),
    (LRC, LRC.encode(b"x" * 900_000), 1),
]


@pytest.mark.parametrize("size", [1000, 1 << 20])
@pytest.mark.parametrize(("framing", "stream", "count"), LONG)
def test_long_streams(framing: PlainFraming, stream: bytes, count: int, size: int) -> None:
    """What looks at each byte again with each piece would need minutes, and the test has one."""
    decoder = framing.decoder(1_000_000)
    found = 0
    for at in range(0, len(stream), size):
        found += len(decoder.feed(stream[at : at + size]))
        assert decoder.pending <= 2 * 1_000_000 + 100
    assert (found, decoder.error, decoder.rejected) == (count, None, [])


def test_frames_with_nothing_but_a_checksum_are_skipped() -> None:
    for framing in (Slip(checksum=xor), INSIDE):
        empty = b"\0\xc0" if isinstance(framing, Slip) else b"\x0200\x03"
        assert framing.decoder(9).feed(empty + framing.encode(b"a")) == [b"a"]


def test_json_that_is_nested_too_deep() -> None:
    decoder = JsonStream().decoder(100_000)
    assert decoder.feed(b"1 " + b"[" * 10_001) == [b"1"]
    assert "nested more than 10000 deep" in str(decoder.error)


def test_noise_is_not_kept() -> None:
    for framing in (LRC, DLE, MLLP):
        decoder = framing.decoder(100)
        for _ in range(1000):
            assert decoder.feed(b"x" * 1000) == []
            assert decoder.pending <= 2
            decoder.rejected.clear()
        assert decoder.error is None


REFUSED: list[tuple[PlainFraming, bytes, str]] = [
    (LengthPrefixed(2, offset=4), b"x", "the 4 bytes before the length are not known"),
    (LengthPrefixed(2, offset=4, keep_header=True), b"12345", "must begin with a header of 6"),
    (LengthPrefixed(2, adjust=3), b"x", r"has 1 bytes, at least 3 are needed \(adjust=\)"),
    (LengthPrefixed(1, adjust=-4), bytes(252), "says at most 251"),
    (JsonStream(), b"{} {}", "is not one JSON value"),
    (JsonStream(), b"", "is not one JSON value"),
    (Slip(), b"", "an empty message is skipped by receivers of slip"),
    (MLLP, b"", "an empty message"),
    (MLLP, b"a\x0bb", r"has the mark b'\\x0b' at byte 1"),
    (MLLP, b"a\x1c\rb", r"the mark b'\\x1c\\r' at byte 1"),
    (Enclosed(b"ab", b"bc"), b"xa", "the mark b'ab' at byte 1"),
    (Cobs(checksum=failing), b"a", "checksum= failed, KeyError: 'no table'"),
    (Cobs(checksum=bytes), b"a", "must always return equally many bytes"),
]


@pytest.mark.parametrize(("framing", "payload", "text"), REFUSED)
def test_what_cannot_be_carried(framing: PlainFraming, payload: bytes, text: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: framing.check(payload),
        lambda: framing.encode(payload),
        lambda: framing.encode_many([payload]),
    ]
    for call in calls:
        with pytest.raises(FormatError, match=text):
            call()


def test_what_is_written() -> None:
    assert LengthPrefixed(2, offset=2, adjust=-4, header=b"\3\0").encode(b"hi") == b"\3\0\0\6hi"
    assert LengthPrefixed(2, offset=1, keep_header=True).encode(b"h\0\0ab") == b"h\0\2ab"
    assert Delimited(b"\r", receive=b"\n").encode(b"a\nb") == b"a\nb\r"
    assert VarintPrefixed().encode(bytes(300))[:2] == b"\xac\2"
    assert DecimalPrefixed(b" ").encode(b"hello") == b"5 hello"
    assert Netstring().encode(b"hello") == b"5:hello,"
    assert JsonStream().encode_many([b' {"a": 1}', b"12", b'"x"']) == b'{"a": 1}12\n"x"'
    assert Slip().encode(b"\xc0\xdb") == b"\xc0\xdb\xdc\xdb\xdd\xc0"
    assert Cobs().encode(b"\0\0") == b"\1\1\1\0"
    assert Cobs().encode(b"x" * 254) == b"\xff" + b"x" * 254 + b"\0"
    assert Cobs().encode(b"x" * 255) == b"\xff" + b"x" * 254 + b"\2x\0"
    assert Cobs().encode(b"x" * 254 + b"\0") == b"\xff" + b"x" * 254 + b"\1\1\0"
    assert LRC.encode(b"ab") == b"\x02ab\x03\x00"
    assert HDLC.encode(b"~}") == b"~}^}]~"
    assert DLE.encode(b"\x10\x03") == b"\x10\x02\x10\x10\x03\x10\x03"


BAD: list[tuple[str, Callable[[], Any]]] = [
    ("Delimited.receive", lambda: Delimited(b";", receive=())),
    ("Delimited.receive", lambda: Delimited(b";", receive=("x",))),  # type: ignore[arg-type]
    ("Delimited.receive", lambda: Delimited(b";", receive=b"")),
    ("b'b' is inside b'abc'", lambda: Delimited(b";", receive=(b"b", b"abc"))),
    ("offset", lambda: LengthPrefixed(offset=-1)),
    ("adjust", lambda: LengthPrefixed(adjust=1.5)),  # type: ignore[arg-type]
    ("keep_header", lambda: LengthPrefixed(keep_header=1)),  # type: ignore[arg-type]
    ("header=.* the 2 bytes before", lambda: LengthPrefixed(offset=2, header=b"x")),
    ("header=", lambda: LengthPrefixed(offset=2, keep_header=True, header=b"xy")),
    ("DecimalPrefixed.*b' '", lambda: DecimalPrefixed(b"")),
    ("DecimalPrefixed", lambda: DecimalPrefixed(b"1")),
    ("start=", lambda: Enclosed(b"", b"x")),
    ("end=", lambda: Enclosed(b"x", "y")),  # type: ignore[arg-type]
    ("part of the other", lambda: Enclosed(b"ab", b"b")),
    ("checksum_after", lambda: Enclosed(b"a", b"b", checksum_after=1)),  # type: ignore[arg-type]
    ("checksum= takes a function", lambda: Slip(checksum=b"x")),  # type: ignore[arg-type]
    ("checksum= must return bytes, not int", lambda: Slip(checksum=len)),  # type: ignore[arg-type]
    ("escape=.* must be one byte", lambda: Enclosed(b"a", b"b", escape=b"cd")),
    ("must be a byte, 0 to 255", lambda: Enclosed(b"a", b"b", escape=b"c", escape_xor=256)),
    ("needs escape=", lambda: Enclosed(b"a", b"b", escape_xor=1)),
    ("one other byte each", lambda: Enclosed(b"a", b"b", escape=b"a")),
    ("one other byte each", lambda: Enclosed(b"ab", b"cd", escape=b"x")),
    ("need escape_xor=0", lambda: Enclosed(b"xa", b"xb", escape=b"x", escape_xor=1)),
    ("into each other", lambda: Enclosed(b"a", b"b", escape=b"x", escape_xor=3)),
]


@pytest.mark.parametrize(("text", "call"), BAD)
def test_bad_parameters(text: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_a_header_over_the_limit() -> None:
    with pytest.raises(TooLarge, match="header of 6 bytes is over the limit of 5"):
        LengthPrefixed(2, offset=4, keep_header=True).decoder(5)


# --- Framings of users ----------------------------------------------------------------------------


class Semicolons(Framing):
    """As in the docstring of `Framing`."""

    def encode(self, payload: bytes) -> bytes:
        if payload == b"bug":
            raise ZeroDivisionError("one over none")
        if payload == b"no":
            raise FormatError("not this")
        return b"oops" if payload == b"?" else payload + b";"

    def decoder(self, limit: int) -> Any:
        return SemicolonDecoder()


class SemicolonDecoder:
    rest = b""

    def feed(self, data: bytes) -> Iterator[Any]:
        *messages, self.rest = (self.rest + data).split(b";")
        for each in messages:
            if each == b"bad":
                yield DecodeError("a bad one")
            elif each == b"bug":
                raise ZeroDivisionError("one over none")
            elif each == b"text":
                yield "text"
            else:
                yield bytearray(each)

    def eof(self) -> list[bytes]:
        if self.rest == b"bug":
            raise ValueError("half a message")
        return [self.rest] if self.rest else []


def test_a_framing_of_a_user() -> None:
    framing = as_framing(Semicolons)
    assert isinstance(framing, UserFraming) and framing.name == "Semicolons"
    assert as_framing(Semicolons()).name == "Semicolons"
    framing.check_limit(100)
    assert framing.encode_many([b"a", b"b"]) == b"a;b;"
    decoder = framing.decoder(10)
    assert decoder.feed(b"a;bad;b;c") == [b"a", b"b"]
    assert [str(each) for each in decoder.rejected] == ["a bad one"]
    assert decoder.pending == 0
    assert decoder.eof() == [b"c"] and decoder.error is None
    assert decoder.feed(b"x;") == [] == decoder.eof()


@pytest.mark.parametrize(
    ("stream", "kind", "text"),
    [
        (b"a;bug;b;", ProtocolViolation, "ZeroDivisionError: one over none"),
        (b"a;text;b;", ProtocolViolation, "returned str instead of bytes"),
        (b"a;12345678901;b;", TooLarge, "11 bytes, the limit is 10"),
        (b"a;" + b"x" * 100_000, TooLarge, "at least"),
    ],
)
def test_a_decoder_that_goes_wrong(stream: bytes, kind: type[Exception], text: str) -> None:
    decoder = as_framing(Semicolons).decoder(10)  # type: ignore[attr-defined]
    assert decoder.feed(stream[:2]) + decoder.feed(stream[2:]) == [b"a"]
    assert isinstance(decoder.error, kind) and text in str(decoder.error)
    assert decoder.feed(b"c;") == [] == decoder.eof()
    assert decoder.pending == 0


def test_errors_of_linkbox_are_kept_as_they_are() -> None:
    class Strict(SemicolonDecoder):
        def feed(self, data: bytes) -> Iterator[Any]:
            raise TooLarge("not so much")

    decoder = UserDecoder(Strict(), 10)
    assert decoder.feed(b"a") == []
    assert isinstance(decoder.error, TooLarge) and str(decoder.error) == "not so much"


def test_an_end_that_goes_wrong() -> None:
    decoder = as_framing(Semicolons).decoder(10)  # type: ignore[attr-defined]
    assert decoder.feed(b"bug") == [] == decoder.eof()
    assert "half a message" in str(decoder.error)


def test_attributes_of_a_users_decoder() -> None:
    class Attributes(SemicolonDecoder):
        error: Exception | None = None

        @property
        def pending(self) -> int:
            return len(self.rest)

    class Own(Semicolons):
        name = "own"

        def decoder(self, limit: int) -> Any:
            self.made = Attributes()
            return self.made

    own = Own()
    decoder = as_framing(own).decoder(10)  # type: ignore[attr-defined]
    assert as_framing(own).name == "own"
    assert decoder.feed(b"a;bcd") == [b"a"]
    assert decoder.pending == 3
    for _ in range(100):  # Only what it holds counts, not all that it has seen.
        decoder.feed(b";" * 10_000)
    assert decoder.error is None
    own.made.error = ValueError("too strange")
    assert decoder.feed(b"e;") == [b"e"]
    assert "too strange" in str(decoder.error)


def test_a_users_framing_may_use_one_of_ours() -> None:
    class Bars(Framing):
        def encode(self, payload: bytes) -> bytes:
            return payload + b"|"

        def decoder(self, limit: int) -> Any:
            return Delimited(b"|").decoder(limit)

    assert type(as_framing(Bars()).decoder(9)) is type(Delimited(b"|").decoder(9))


@pytest.mark.parametrize(
    ("payload", "text"),
    [(b"bug", "Semicolons cannot carry the message b'bug'.* ZeroDivisionError"), (b"no", "^not this$")],
)
def test_encode_that_goes_wrong(payload: bytes, text: str) -> None:
    framing = as_framing(Semicolons)
    assert isinstance(framing, PlainFraming)
    with pytest.raises(FormatError, match=text):
        framing.check(payload)


def test_wrong_results_of_a_users_framing() -> None:
    class Wrong(Semicolons):
        def encode(self, payload: bytes) -> Any:
            return "text"

        def decoder(self, limit: int) -> Any:
            if limit == 1:
                raise ValueError("not so small")
            return object()

    framing = as_framing(Wrong)
    assert isinstance(framing, PlainFraming)
    with pytest.raises(FormatError, match=r"encode\(\) of Wrong returned str instead of bytes"):
        framing.encode(b"x")
    with pytest.raises(TypeError, match="the decoder of framing=Wrong has no feed and no eof"):
        framing.check_limit(2)
    with pytest.raises(ValueError, match="not so small"):
        framing.check_limit(1)
    decoder = framing.decoder(1)
    assert decoder.feed(b"x") == [] == decoder.eof()
    assert "not so small" in str(decoder.error)


def test_linked_is_not_for_single_messages() -> None:
    with pytest.raises(TypeError, match="conversations"):
        Linked().encode(b"x")
    with pytest.raises(TypeError, match="conversations"):
        Linked().decoder(1)


# --- In an endpoint -------------------------------------------------------------------------------


def test_a_bad_frame_is_reported_and_the_connection_goes_on() -> None:
    wire = Wire(P2M, framing=LRC)
    probe = probe_server(wire, greets=False)
    probe.say(LRC.encode(b"a") + b"\x02b\x03?" + LRC.encode(b"c"))
    assert wire.server.mailbox.take_all() == [b"a", b"c"]
    first, *_ = wire.events(wire.server, EventKind.ERROR)
    assert isinstance(first.error, DecodeError) and first.peer is not None
    assert "broke the framing enclosed: a frame with a wrong checksum, b'?'" in str(first.error)
    assert wire.server.context.counters.rejected == 2
    assert not probe.is_closed


def test_many_bad_frames_are_reported_together() -> None:
    wire = Wire(P2M, framing=Cobs())
    probe = probe_server(wire, greets=False)
    for times in (1, 2):
        probe.say(b"\5\0" * 1000 + Cobs().encode(b"c"))
        assert wire.server.mailbox.take_all() == [b"c"]
        errors = wire.events(wire.server, EventKind.ERROR)
        assert len(errors) == 101 * times
        assert str(errors[-1].error).endswith("broke the framing cobs: 900 more bad frames")
        assert isinstance(errors[-1].error, DecodeError)
        assert wire.server.context.counters.rejected == 1000 * times


def test_a_users_decoder_that_raises_costs_its_own_connection_only() -> None:
    wire = Wire(P2M, framing=as_framing(Semicolons))
    good, bad = probe_server(wire, greets=False), probe_server(wire, greets=False)
    bad.say(b"a;b;bug;c;")
    good.say(b"d;")
    assert wire.server.mailbox.take_all() == [b"a", b"b", b"d"]
    [event] = wire.events(wire.server, EventKind.ERROR)
    assert "broke the framing Semicolons after 2 messages: ZeroDivisionError: one over none" in str(
        event.error
    )
    assert isinstance(event.error.__cause__, ZeroDivisionError), "the traceback shows where"
    assert bad.is_closed and not good.is_closed


def test_a_message_that_is_encoded_only_once() -> None:
    class Once(Semicolons):
        count = 0

        def encode(self, payload: bytes) -> bytes:
            raise FormatError("this time not")

    wire = Wire(framing=as_framing(Once))
    session = wire.connect()
    wire.send(wire.client, session, b"x")
    wire.run()
    assert isinstance(session.error, PeerLost) and "this time not" in str(session.error)


@pytest.mark.parametrize("is_client", [True, False])
def test_a_prompt_is_no_message_that_takes_too_long(is_client: bool) -> None:
    """A server may send a prompt without a newline and wait; a client that does so holds a slot."""
    wire = Wire(P2P, framing=Delimited(b"\n"), limits=Limits(progress=5))
    if is_client:
        session = wire.client.conversation = wire.client.begin(wire.now)
        probe = probe_client(wire, session, greets=False)
    else:
        probe = probe_server(wire, greets=False)
    probe.say(b"login: ")
    wire.advance(30)
    assert probe.is_closed is not is_client


def test_a_frame_that_is_cut_by_the_next_one_and_was_too_large_before() -> None:
    decoder = Enclosed(b"<", b">").decoder(6)
    assert decoder.feed(b"<" + bytes(100) + b"<ok>") == []
    assert "at least 100" in str(decoder.error)

"""The plain framings: every message there and back, every cut of the stream, every refusal by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linkbox.core.wire.framings import (
    Cobs,
    DecimalPrefixed,
    Delimited,
    Enclosed,
    FixedSize,
    Framing,
    JsonStream,
    LengthPrefixed,
    Lines,
    Linked,
    Netstring,
    PlainDecoder,
    PlainFraming,
    Raw,
    Slip,
    VarintPrefixed,
    as_framing,
)
from linkbox.errors import FormatError, ProtocolViolation, TooLarge

LIMIT = 10_000
SIZES = [1, 2, 3, 5, 4095, 1 << 20]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def decode(decoder: PlainDecoder, chunks: list[bytes]) -> list[bytes]:
    return [message for chunk in chunks for message in decoder.feed(chunk)]


MODBUS = LengthPrefixed(2, offset=4, keep_header=True)
TPKT = LengthPrefixed(2, offset=2, adjust=-4, header=b"\3\0")
EITHER = Delimited(b"\r", receive=(b"\r\n", b"\r"))
NESTED = Delimited(b";", (b"a", b"ab", b"abcd"))
MLLP = Enclosed(b"\x0b", b"\x1c\r")
DLE = Enclosed(b"\x10\x02", b"\x10\x03", escape=b"\x10")
HDLC = Enclosed(b"~", b"~", escape=b"}", escape_xor=0x20)
STX = Enclosed(b"\x02", b"\x03", escape=b"\x1b")


def total(data: bytes) -> bytes:
    """A checksum: the sum of all bytes, modulo 256."""
    return bytes([sum(data) % 256])


STX_SUM = Enclosed(b"\x02", b"\x03", checksum=total, checksum_after=True)
NMEA = Enclosed(b"$", b"\r\n", checksum=lambda data: b"*%02X" % total(data)[0])


# framing, bytes on the wire, the messages in them, bytes left over, what the end of the stream adds
STREAMS: list[tuple[PlainFraming, bytes, list[bytes], int, list[bytes]]] = [
    (Lines(), b"a\nbc\n\nd\r\n\r\ne\r\r\nf\rg\n", [b"a", b"bc", b"", b"d", b"", b"e\r", b"f\rg"], 0, []),
    (Lines(b"\r\n"), b"a\nb\r\nlast", [b"a", b"b"], 4, [b"last"]),
    (Lines(), b"a\nlast\r", [b"a"], 5, [b"last"]),
    (Lines(), b"\r", [], 1, []),
    (Lines(), b"x" * LIMIT + b"\r\ny\n", [b"x" * LIMIT, b"y"], 0, []),
    (Lines(), b"a\n" + b"x" * LIMIT + b"\r", [b"a"], LIMIT + 1, [b"x" * LIMIT]),
    (Lines(), b"a\nb\n" * 6000, [b"a", b"b"] * 6000, 0, []),
    (Delimited(b";"), b"a;;b\n;c", [b"a", b"", b"b\n"], 1, [b"c"]),
    (Delimited(b"\r\n"), b"a\r\r\nb\n\r\n\r", [b"a\r", b"b\n"], 1, [b"\r"]),
    (Delimited(b"--"), b"a---b--", [b"a", b"-b"], 0, []),
    (Delimited(b"abcabd"), b"xabcabcabdyabcabd", [b"xabc", b"y"], 0, []),
    (LengthPrefixed(), b"\0\0\0\2hi\0\0\0\0\0\0\0\1x", [b"hi", b"", b"x"], 0, []),
    (LengthPrefixed(1), b"\2hi\0", [b"hi", b""], 0, []),
    (LengthPrefixed(2, "little"), b"\2\0hi\1\0x", [b"hi", b"x"], 0, []),
    (LengthPrefixed(8, "little"), b"\2" + bytes(7) + b"hi", [b"hi"], 0, []),
    (LengthPrefixed(2), b"\x27\x10" + b"x" * LIMIT + b"\0\1y", [b"x" * LIMIT, b"y"], 0, []),
    (FixedSize(3), b"abcdef", [b"abc", b"def"], 0, []),
    (Delimited(b"\r", b"\n"), b"a\rb\nc", [b"a\rb"], 1, [b"c"]),
    (EITHER, b"a\r\nb\rc\r\n\r\n\n\rd", [b"a", b"b", b"c", b"", b"\n"], 1, [b"d"]),
    (EITHER, b"login: x\r", [b"login: x"], 0, []),
    (Delimited(b"\n", (b"\r\n", b"\n", b"login: ")), b"hi\r\nlogin: ok\n", [b"hi", b"", b"ok"], 0, []),
    (NESTED, b"1a2ab3abcd4abc5abce", [b"1", b"2", b"3", b"4", b"c5"], 2, [b"ce"]),
    (LengthPrefixed(3, "little"), b"\2\0\0hi\0\0\0", [b"hi", b""], 0, []),
    (MODBUS, b"\0\1\0\0\0\2\1\3\0\2\0\0\0\1\7", [b"\0\1\0\0\0\2\1\3", b"\0\2\0\0\0\1\7"], 0, []),
    (TPKT, b"\3\0\0\6hi\3\0\0\4", [b"hi", b""], 0, []),
    (LengthPrefixed(2, adjust=3), b"\0\0abc\0\1abcd", [b"abc", b"abcd"], 0, []),
    (VarintPrefixed(), b"\2hi\0\x80\x01" + b"x" * 128, [b"hi", b"", b"x" * 128], 0, []),
    (DecimalPrefixed(b" "), b"5 <1>hi0 07 1234567", [b"<1>hi", b"", b"1234567"], 0, []),
    (DecimalPrefixed(b"\r\n"), b"2\r\nhi", [b"hi"], 0, []),
    (Netstring(), b"5:hello,0:,2:,,,", [b"hello", b"", b",,"], 0, []),
    (
        JsonStream(),
        b'{"a":"}\\\\\\""} [[1],{}]"x\\""12 true\x1e{}null',
        [b'{"a":"}\\\\\\""}', b"[[1],{}]", b'"x\\""', b"12", b"true", b"{}"],
        4,
        [b"null"],
    ),
    (Slip(), b"\xc0a\xdb\xdcb\xc0\xc0\xdb\xdd\xdc\xc0", [b"a\xc0b", b"\xdb\xdc"], 0, []),
    (Slip(), b"\xc0" + b"\xdb\xdc" * LIMIT + b"\xc0", [b"\xc0" * LIMIT], 0, []),
    (Cobs(), b"\3ab\2c\0\0\1\1\0" + b"\xff" + b"x" * 254 + b"\0", [b"ab\0c", b"\0", b"x" * 254], 0, []),
    (MLLP, b"\x0bA\rB\r\x1c\r\r\n\x0b\x1c\r\x0bC\x1c\r", [b"A\rB\r", b"C"], 0, []),
    (MLLP, b"\x0b" + b"x" * LIMIT + b"\x1c\r", [b"x" * LIMIT], 0, []),
    (DLE, b"\x10\x02a\x10\x10\x03b\x10\x03\x10\x02\x10\x10\x10\x03", [b"a\x10\x03b", b"\x10"], 0, []),
    (HDLC, b"~a}^b}]~~c~d~", [b"a~b}", b"c", b"d"], 0, []),
    (STX, b"\x02a\x1b\x03\x1b\x1bb\x1b\x02\x03", [b"a\x03\x1bb\x02"], 0, []),
    (STX_SUM, b"\x02a\x03d\x02bc\x03\xc8", [b"a", b"bc"], 0, []),
    (FixedSize(LIMIT), b"x" * (2 * LIMIT), [b"x" * LIMIT] * 2, 0, []),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("framing", "data", "messages", "left", "last"), STREAMS)
def test_streams(
    framing: PlainFraming, data: bytes, messages: list[bytes], left: int, last: list[bytes], size: int
) -> None:
    decoder = framing.decoder(LIMIT)
    found = decode(decoder, cut(data, size))
    assert found == messages
    assert {type(message) for message in found} <= {bytes}
    assert decoder.pending == left
    assert decoder.feed(b"") == []
    assert decoder.eof() == last
    assert (decoder.pending, decoder.error) == (0, None)


# framing, bytes on the wire, the good messages in them, the error behind them, its text
BROKEN: list[tuple[PlainFraming, bytes, list[bytes], type[Exception], str]] = [
    (
        Lines(),
        b"a\n" + b"x" * (LIMIT + 2),
        [b"a"],
        TooLarge,
        "message of at least 1000[0-9] bytes, the limit",
    ),
    (Lines(), b"a\n" + b"x" * (LIMIT + 1) + b"\nb\n", [b"a"], TooLarge, "10001|at least"),
    (Lines(), b"x" * (LIMIT + 1) + b"\r\n", [], TooLarge, "10001|at least"),
    (Delimited(b"ab"), b"xab" + b"y" * (LIMIT + 1) + b"ab", [b"x"], TooLarge, "10001|at least"),
    (LengthPrefixed(), b"\0\0\0\1a\0\0\x27\x11", [b"a"], TooLarge, "10001 bytes, the limit is 10000; raise"),
    (LengthPrefixed(8), b"\xff" * 8, [], TooLarge, "18446744073709551615 bytes"),
    (EITHER, b"a\r" + b"x" * (LIMIT + 3) + b"\r", [b"a"], TooLarge, "10003|at least"),
    (TPKT, b"\3\0\0\5a\3\0\0\3", [b"a"], ProtocolViolation, r"-1 bytes follow \(adjust=-4 included\).*x03"),
    (MODBUS, b"\0\0\0\0\x27\x10" + b"x" * LIMIT, [], TooLarge, "message of 10006 bytes"),
    (VarintPrefixed(), b"\1a" + b"\xff" * 10, [b"a"], ProtocolViolation, "varint of more than 10 bytes"),
    (VarintPrefixed(), b"\xff\x7f", [], TooLarge, "16383 bytes"),
    (DecimalPrefixed(b" "), b"1 a x", [b"a"], ProtocolViolation, r"decimal length and b' ': b' "),
    (DecimalPrefixed(b" "), b"1 a1x", [b"a"], ProtocolViolation, "b'1x"),
    (DecimalPrefixed(b" "), b"1" * 21, [], ProtocolViolation, "decimal length"),
    (DecimalPrefixed(b" "), b"10001 ", [], TooLarge, "10001 bytes"),
    (Netstring(), b"1:a,1:a;", [b"a"], ProtocolViolation, "1 bytes ends with b';' instead of b','"),
    (JsonStream(), b'{"a":[1}', [], ProtocolViolation, r"'}' closes what is not open: b'{\"a\":\[1}'"),
    (JsonStream(), b"1 ]", [b"1"], ProtocolViolation, r"no JSON value begins with b'\]'"),
    (JsonStream(), b"[" * 10_001, [], Exception, "deep|at least"),
    (JsonStream(), b'1 "' + b"x" * LIMIT + b'"', [b"1"], TooLarge, "1000[12]"),
    (Slip(), b"a\xc0" + b"x" * (LIMIT + 1) + b"\xc0", [b"a"], TooLarge, "10001 bytes, the limit is 10000"),
    (Slip(), b"x" * (2 * LIMIT + 1), [], TooLarge, "at least .* the limit is 10000"),
    (Cobs(), (b"\xff" + b"x" * 254) * 40 + b"\0", [], TooLarge, "10[12]..|at least"),
    (MLLP, b"\x0ba\x1c\r\x0b" + b"x" * (LIMIT + 5), [b"a"], TooLarge, "at least 1000[0-9]"),
    (MLLP, b"\x0b" + b"x" * (LIMIT + 1) + b"\x1c\r", [], TooLarge, "10001|at least"),
    (STX, b"\x02" + b"\x1b\x1b" * (LIMIT + 1) + b"\x03", [], TooLarge, "1000[12]|2000"),
    # Nothing is kept of what comes behind the error.
    (Lines(), b"x" * (LIMIT + 1) + b"\nbehind", [], TooLarge, "10001|at least"),
    (Delimited(b"ab"), b"y" * (LIMIT + 1) + b"abbehind", [], TooLarge, "10001|at least"),
    (EITHER, b"x" * (LIMIT + 3) + b"\rbehind", [], TooLarge, "10003|at least"),
    (LengthPrefixed(), b"\0\0\x27\x11behind", [], TooLarge, "10001 bytes"),
    (Netstring(), b"1:a;behind", [], ProtocolViolation, "1 bytes ends with b';'"),
    (JsonStream(), b"] [1", [], ProtocolViolation, "no JSON value begins with"),
    (Slip(), b"a\xc0" + b"x" * (LIMIT + 1) + b"\xc0behind", [b"a"], TooLarge, "10001 bytes"),
    (Cobs(), (b"\xff" + b"x" * 254) * 39 + b"\x60" + b"x" * 95 + b"\0b", [], TooLarge, "10001 bytes"),
    (MLLP, b"\x0b" + b"x" * (LIMIT + 1) + b"\x1c\r\x0bbehind", [], TooLarge, "10001|at least"),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("framing", "data", "messages", "kind", "text"), BROKEN)
def test_errors_come_after_good_messages(
    framing: PlainFraming, data: bytes, messages: list[bytes], kind: type[Exception], text: str, size: int
) -> None:
    decoder = framing.decoder(LIMIT)
    assert decode(decoder, cut(data, size)) == messages
    assert isinstance(decoder.error, kind)
    assert re.search(text, str(decoder.error))
    assert decoder.feed(b"a\n;\0") == decoder.eof() == []
    assert decoder.pending == 0


ENDINGS: list[tuple[PlainFraming, bytes, type[Exception], str]] = [
    (Lines(), b"x" * (LIMIT + 1), TooLarge, "10001 bytes, the limit is 10000"),
    (Delimited(b"--"), b"x" * LIMIT + b"-", TooLarge, "10001 bytes"),
    (LengthPrefixed(), b"\0\0", ProtocolViolation, "ended inside a message: 2 of 4 bytes"),
    (LengthPrefixed(2), b"\0\5abc", ProtocolViolation, "2 of 7 bytes, length included, are missing"),
    (FixedSize(5), b"abcdefg", ProtocolViolation, "ended inside a message: 3 of 5 bytes are missing"),
    (VarintPrefixed(), b"\3ab", ProtocolViolation, "ended inside a message: b'.x03ab'"),
    (Netstring(), b"3", ProtocolViolation, "ended inside a message: b'3'"),
    (JsonStream(), b'{"a":', ProtocolViolation, "ended inside a JSON value"),
    (Slip(), b"a\xc0b", ProtocolViolation, "ended inside a frame: b'b'"),
    (Cobs(), b"\2a", ProtocolViolation, "ended inside a frame"),
    (MLLP, b"\x0bA", ProtocolViolation, "ended inside a frame: b'A'"),
    (STX_SUM, b"\x02A\x03", ProtocolViolation, "ended inside a frame"),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("framing", "data", "kind", "text"), ENDINGS)
def test_streams_that_end_too_early(
    framing: PlainFraming, data: bytes, kind: type[Exception], text: str, size: int
) -> None:
    decoder = framing.decoder(LIMIT)
    decode(decoder, cut(data, size))
    assert decoder.error is None
    assert decoder.eof() == []
    error: object = decoder.error
    assert isinstance(error, kind)
    assert re.search(text, str(error))
    assert decoder.pending == 0
    assert decoder.eof() == []


def test_raw_passes_chunks_through() -> None:
    decoder = Raw().decoder(4)
    assert decoder.feed(b"ab") == [b"ab"]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"abcdefghi") == [b"abcd", b"efgh", b"i"]
    assert (decoder.eof(), decoder.pending, decoder.error) == ([], 0, None)
    assert Raw().encode(b"ab") == b"ab"


def test_an_oversize_length_costs_nothing() -> None:
    decoder = LengthPrefixed().decoder(LIMIT)
    assert decoder.feed(b"\xff\xff\xff") == []
    assert (decoder.error, decoder.pending) == (None, 3)
    assert decoder.feed(b"\xff") == []
    assert (str(decoder.error)[:45], decoder.pending) == ("the peer sent a message of 4294967295 bytes, ", 0)


def test_a_fixed_size_over_the_limit_is_told_at_once() -> None:
    with pytest.raises(TooLarge, match=r"FixedSize\(5\).* has messages over the limit of 4 bytes"):
        FixedSize(5).decoder(4)


# --- Round trips ----------------------------------------------------------------------------------

FRAMINGS: list[PlainFraming] = [
    Lines(),
    Lines(b"\r\n"),
    Delimited(b"\0"),
    Delimited(b"\r\n"),
    Delimited(b"aa"),
    Delimited(b"aba"),
    LengthPrefixed(),
    LengthPrefixed(1),
    LengthPrefixed(2, "little"),
    LengthPrefixed(8),
    FixedSize(3),
    LengthPrefixed(3),
    TPKT,
    VarintPrefixed(),
    DecimalPrefixed(b" "),
    Netstring(),
    JsonStream(),
    Slip(),
    Slip(checksum=total),
    Cobs(),
    Cobs(checksum=total),
    MLLP,
    DLE,
    HDLC,
    STX,
    STX_SUM,
    NMEA,
]
bodies = st.one_of(st.binary(max_size=12), st.text("ab\r\n\0", max_size=8).map(str.encode))


@pytest.mark.parametrize("framing", FRAMINGS)
@given(payloads=st.lists(bodies, max_size=12), sizes=st.lists(st.integers(0, 20), max_size=20))
@example(payloads=[b"\r0", b"[1] "], sizes=[])
def test_round_trip_whole_and_chunked(framing: PlainFraming, payloads: list[bytes], sizes: list[int]) -> None:
    good: list[bytes] = []
    for payload in payloads:
        try:
            framing.check(payload)
        except FormatError:
            with pytest.raises(FormatError):
                framing.encode(payload)
            with pytest.raises(FormatError):
                framing.encode_many([*good, payload])
        else:
            good.append(payload)
    data = framing.encode_many(good)
    assert data == b"".join(map(framing.encode, good))
    decoder = framing.decoder(100)
    rest, found = data, []
    for size in sizes:
        found += decoder.feed(rest[:size])
        rest = rest[size:]
    found += decoder.feed(rest)
    if isinstance(framing, JsonStream):  # White space around a value is left out.
        good = [each.strip() for each in good]
    assert found == framing.decoder(100).feed(data) == good
    assert (decoder.eof(), decoder.error) == ([], None)


@pytest.mark.parametrize("framing", [*FRAMINGS, EITHER, NESTED, MODBUS])
@given(data=st.lists(bodies, max_size=8).map(b"".join), sizes=st.lists(st.integers(0, 9), max_size=9))
@example(data=bytes(7) + b"\xc0\0", sizes=[8])  # what is behind a frame that is too large says nothing
def test_any_bytes_whole_equals_chunked(framing: PlainFraming, data: bytes, sizes: list[int]) -> None:
    whole, chunked = framing.decoder(6), framing.decoder(6)
    expected = whole.feed(data) + whole.eof()
    rest, found = data, []
    for size in sizes:
        found += chunked.feed(rest[:size])
        rest = rest[size:]
    found += chunked.feed(rest) + chunked.eof()
    assert found == expected
    assert type(chunked.error) is type(whole.error)


REFUSED: list[tuple[PlainFraming, bytes, str]] = [
    (Raw(), b"", "an empty message"),
    (Lines(), b"ab\ncd", r"newline at byte 2, a line cannot; use Json\(\)"),
    (Lines(b"\r\n"), b"\n", "newline at byte 0"),
    (Lines(), b"ab\r", "ends with a carriage return"),
    (Delimited(b";"), b"a;b", "delimiter b';' at byte 1"),
    (Delimited(b"--"), b"a-", "delimiter b'--' at byte 1"),
    (LengthPrefixed(1), bytes(256), "has 256 bytes, a prefix of size 1 says at most 255"),
    (LengthPrefixed(2), bytes(65536), "says at most 65535; use LengthPrefixed"),
    (FixedSize(4), b"abc", r"has 3 bytes, framing=FixedSize\(4\) carries exactly 4"),
    (FixedSize(4), b"", "has 0 bytes"),
]


@pytest.mark.parametrize(("framing", "payload", "text"), REFUSED)
def test_refused_payloads(framing: PlainFraming, payload: bytes, text: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: framing.check(payload),
        lambda: framing.encode(payload),
        lambda: framing.encode_many([b"good", payload, b"good"]),
    ]
    for call in calls:
        with pytest.raises(FormatError, match=text):
            call()


def test_raw_joins() -> None:
    assert Raw().encode_many([b"a", b"bc"]) == b"abc"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_encode_many_of_nothing(framing: PlainFraming) -> None:
    assert framing.encode_many([]) == b""


# --- Making framings ------------------------------------------------------------------------------

BAD_PARAMETERS: list[tuple[str, Callable[[], Any]]] = [
    (r"newline=….* must be b'\\n' or b'\\r\\n', not b';'", lambda: Lines(b";")),
    (r"not '\\n'", lambda: Lines("\n")),  # type: ignore[arg-type]
    (r"not bytearray", lambda: Lines(bytearray(b"\n"))),  # type: ignore[arg-type]
    ("at least one byte", lambda: Delimited(b"")),
    ("as in Delimited", lambda: Delimited(";")),  # type: ignore[arg-type]
    ("must be 1 to 8 bytes, not 9", lambda: LengthPrefixed(9)),
    ("not True", lambda: LengthPrefixed(True)),
    ("must be 'big' or 'little', not 'Big'", lambda: LengthPrefixed(4, "Big")),  # type: ignore[arg-type]
    ("at least 1, not 0", lambda: FixedSize(0)),
    ("not 2.5", lambda: FixedSize(2.5)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("text", "call"), BAD_PARAMETERS)
def test_bad_parameters(text: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_framings_are_values() -> None:
    order: Literal["little"] = "little"
    assert LengthPrefixed(2, order) == LengthPrefixed(size=2, byteorder="little") != LengthPrefixed()
    assert len({Lines(), Lines(b"\n"), Lines(b"\r\n"), Raw(), Raw(), Linked()}) == 4
    assert Delimited(b";") != Delimited(b",")
    with pytest.raises(AttributeError):
        FixedSize(3).size = 4  # type: ignore[misc]


def test_names_and_linked() -> None:
    framings: list[Framing] = [
        Linked(), Raw(), Lines(), Delimited(b";"), LengthPrefixed(), FixedSize(1)
    ]  # fmt: skip
    assert [framing.name for framing in framings] == [
        "linked", "raw", "lines", "delimited", "length-prefixed", "fixed-size"
    ]  # fmt: skip
    assert [framing.linked for framing in framings] == [True, False, False, False, False, False]


class Tagged(PlainFraming):
    """What a user may write: every method the long way."""

    def check(self, payload: bytes) -> None:
        if b"|" in payload:
            raise FormatError("no bars")

    def encode_many(self, payloads: Sequence[bytes]) -> bytes:
        self._check_all(payloads)
        return b"".join(payload + b"|" for payload in payloads)

    def decoder(self, limit: int) -> PlainDecoder:
        return Delimited(b"|").decoder(limit)


def test_a_framing_of_ones_own() -> None:
    framing = as_framing(Tagged)
    assert isinstance(framing, Tagged)
    assert framing.encode(b"a") == b"a|"
    assert framing.decoder(9).feed(framing.encode_many([b"a", b"b"])) == [b"a", b"b"]
    with pytest.raises(FormatError, match="no bars"):
        framing.encode_many([b"a", b"|"])


@pytest.mark.parametrize("made", [Linked, Raw, Lines, LengthPrefixed])
def test_as_framing_takes_both(made: type[Framing]) -> None:
    assert as_framing(made) == as_framing(made()) == made()


BAD_FRAMINGS: list[tuple[Any, str]] = [
    (Delimited, r"framing=Delimited needs more than its name: .* framing=Delimited\(b'"),
    (FixedSize, r"framing=FixedSize needs more than its name: .* framing=FixedSize\(64\)"),
    (PlainFraming, "framing=PlainFraming needs more than its name: .*abstract"),
    (Framing, r"framing must be Linked\(\), Raw\(\), Lines\(\)"),
    ("lines", "not 'lines'"),
    (None, "not None"),
    (bytes, "not <class 'bytes'>"),
]


@pytest.mark.parametrize(("value", "text"), BAD_FRAMINGS)
def test_as_framing_explains(value: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        as_framing(value)


def test_linked_is_a_value_too() -> None:
    assert Linked() == Linked() != Raw()
    assert len({Linked(), Linked(), Raw()}) == 2
    assert repr(Linked()) == "Linked()"

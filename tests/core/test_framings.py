"""The plain framings: every message there and back, every cut of the stream, every refusal by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkbox.core.wire.framings import (
    Delimited,
    FixedSize,
    Framing,
    LengthPrefixed,
    Lines,
    Linked,
    PlainDecoder,
    PlainFraming,
    Raw,
    as_framing,
)
from linkbox.errors import FormatError, ProtocolViolation, TooLarge

LIMIT = 10_000
SIZES = [1, 2, 3, 5, 4095, 1 << 20]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def decode(decoder: PlainDecoder, chunks: list[bytes]) -> list[bytes]:
    return [message for chunk in chunks for message in decoder.feed(chunk)]


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
]
bodies = st.one_of(st.binary(max_size=12), st.text("ab\r\n\0", max_size=8).map(str.encode))


@pytest.mark.parametrize("framing", FRAMINGS)
@given(payloads=st.lists(bodies, max_size=12), sizes=st.lists(st.integers(0, 20), max_size=20))
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
    assert found == framing.decoder(100).feed(data) == good
    assert (decoder.eof(), decoder.error) == ([], None)


@pytest.mark.parametrize("framing", FRAMINGS)
@given(data=st.lists(bodies, max_size=8).map(b"".join), sizes=st.lists(st.integers(0, 9), max_size=9))
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
    ("must be 1, 2, 4 or 8 bytes, not 3", lambda: LengthPrefixed(3)),
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
    (Framing(), "framing must be"),
    ("lines", "not 'lines'"),
    (None, "not None"),
    (bytes, "not <class 'bytes'>"),
]


@pytest.mark.parametrize(("value", "text"), BAD_FRAMINGS)
def test_as_framing_explains(value: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        as_framing(value)

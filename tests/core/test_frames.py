"""The Linked wire: every payload there and back, every cut of the stream, every violation by name."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Decoder
from linkbox.core.wire.frames import Type
from linkbox.errors import ProtocolViolation

U64 = (1 << 64) - 1
u64s = st.integers(0, U64)

# Known good frames: type, payload, the bytes on the wire (test vectors).
VECTORS = [
    (frames.HELLO, b"{}", "01000002 7b7d"),
    (frames.DATA, b"", "10000000"),
    (frames.DATA, b"hi", "10000002 6869"),
    (frames.ACK_NOW, b"", "14000000"),
    (frames.PING, b"\0" * 7 + b"\5", "16000008 0000000000000005"),
]

STREAM = [
    (frames.DATA, b"one"),
    (frames.DATA, b""),
    (frames.ACK, bytes(32)),
    (frames.PART, b"x" * 9000),
    (frames.BATCH, frames.encode_batch([b"a", b"", b"ccc"])[4:]),
    (frames.ACK_NOW, b""),
    (frames.DATA, b"y" * 300),
]


def wire(stream: list[tuple[int, bytes]]) -> bytes:
    return b"".join(frames.frame(type, payload) for type, payload in stream)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def decode(decoder: Decoder, chunks: list[bytes]) -> list[tuple[int, bytes]]:
    return [frame for chunk in chunks for frame in decoder.receive(chunk)]


def oversize(type: int, length: int) -> bytes:
    """A header that `frames.header` refuses to make."""
    return struct.pack(">I", type << 24 | length)


# --- Encoding and payloads ------------------------------------------------------------------------


def test_constants_are_the_enum() -> None:
    assert {type.name: getattr(frames, type.name) for type in Type} == dict(Type.__members__)
    assert {type(getattr(frames, name)) for name in Type.__members__} == {int}
    assert set(frames.MAXIMUM) == set(Type)


@pytest.mark.parametrize(("type", "payload", "expected"), VECTORS)
def test_vectors(type: int, payload: bytes, expected: str) -> None:
    data = bytes.fromhex(expected)
    assert frames.frame(type, payload) == data
    assert frames.header(type, len(payload)) == data[:4]
    assert Decoder().receive(data) == [(type, payload)]


def test_vectors_of_encoders() -> None:
    assert frames.preface().hex() == "894c4b420d0a1a01"
    assert frames.encode_batch([b"a", b"bc"]).hex() == "1100000f" + "00000002" + "0000000100000002" + "616263"
    assert frames.encode_ack(1, 2, 3, 4).hex() == "13000020" + "".join(f"{n:016x}" for n in (1, 2, 3, 4))
    assert frames.encode_number(Type.END, 7).hex() == "1c000008" + f"{7:016x}"
    assert frames.encode_ask(5, 2, 9, b"x").hex() == "1800000e" + f"{5:016x}" + "06" + "00000009" + "78"
    assert frames.encode_ask(5, 1, None, b"x").hex() == "1800000a" + f"{5:016x}" + "01" + "78"
    assert frames.encode_answer(5, 0, b"x").hex() == "1900000a" + f"{5:016x}" + "00" + "78"
    assert frames.encode_fail(5, "E", "no").hex() == "1a00000d" + f"{5:016x}" + "0001" + "45" + "6e6f"
    assert frames.encode_reject(5, "E", "no").hex() == "1500000d" + f"{5:016x}" + "0001" + "45" + "6e6f"
    assert frames.encode_cancel(5, "no").hex() == "1b00000a" + f"{5:016x}" + "6e6f"
    assert frames.encode_first_part(9, b"x").hex() == "12000009" + f"{9:016x}" + "78"


TOO_LONG: list[tuple[str, Callable[[], bytes]]] = [
    (
        "DATA frame: 1048577 bytes of payload, at most 1048576",
        lambda: frames.header(frames.DATA, (1 << 20) + 1),
    ),
    ("ACK_NOW frame: 1 bytes of payload, at most 0", lambda: frames.frame(frames.ACK_NOW, b"x")),
    ("ASK frame: 262145 bytes", lambda: frames.encode_ask(1, 0, 5, bytes(frames.MAX_ASK_PIECE + 1))),
    ("ANSWER frame: 262145 bytes", lambda: frames.encode_answer(1, 0, bytes(frames.MAX_ASK_PIECE + 1))),
    ("BATCH frame: 0 messages", lambda: frames.encode_batch([])),
    ("BATCH frame: 1 messages, 262145 bytes", lambda: frames.encode_batch([bytes(frames.MAX_BATCH - 7)])),
    ("PART frame", lambda: frames.encode_first_part(1 << 30, bytes(frames.MAX_PIECE + 1))),
]


@pytest.mark.parametrize(("text", "call"), TOO_LONG)
def test_encoders_refuse_what_the_peer_would(text: str, call: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError, match=text):
        call()


LARGEST = [
    frames.frame(frames.DATA, bytes(frames.MAX_PIECE)),
    frames.encode_first_part(frames.MAX_PIECE + 1, bytes(frames.MAX_PIECE)),
    frames.encode_batch([bytes(frames.MAX_BATCH - 8)]),
    frames.encode_ask(1, 0, 1, bytes(frames.MAX_ASK_PIECE)),
    frames.encode_answer(1, 0, bytes(frames.MAX_ASK_PIECE)),
    frames.encode_fail(1, "X" * 9000, "y" * 9000),
    frames.encode_reject(1, "\u20ac" * 9000, "\u20ac" * 9000),
    frames.encode_cancel(1, "y" * 9000),
]


@pytest.mark.parametrize("data", LARGEST, ids=lambda data: frames.type_name(data[0]))
def test_the_largest_of_each_is_accepted(data: bytes) -> None:
    decoder = Decoder()
    assert decode(decoder, cut(data, 65536)) == [(data[0], data[4:])]
    assert decoder.error is None


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=50))
def test_batch_round_trip(payloads: list[bytes]) -> None:
    assert frames.decode_batch(frames.encode_batch(payloads)[4:]) == payloads


@pytest.mark.parametrize("size", [0, 1, 64])
@pytest.mark.parametrize("count", [1, 8, 9, 500])
def test_batch_of_equal_sizes(size: int, count: int) -> None:
    payloads = [bytes([index % 256]) * size for index in range(count)]
    decoded = frames.decode_batch(frames.encode_batch(payloads)[4:])
    assert decoded == payloads
    assert {type(body) for body in decoded} == {bytes}


@given(st.lists(st.binary(max_size=40), max_size=50), st.integers(4, 600))
def test_fits_is_the_longest_prefix(payloads: list[bytes], limit: int) -> None:
    def payload_size(count: int) -> int:
        return 4 + 4 * count + sum(map(len, payloads[:count]))

    count = frames.fits(deque(payloads), limit)
    assert payload_size(count) <= limit
    assert count == len(payloads) or payload_size(count + 1) > limit


def test_fits_limits_its_work() -> None:
    assert frames.fits([]) == 0
    assert frames.fits([b""] * 10_000) == 4096
    assert frames.fits([bytes(frames.MAX_BATCH - 8)]) == 1
    assert frames.fits([bytes(frames.MAX_BATCH - 7), b""]) == 0


@given(u64s, u64s, u64s, u64s)
def test_ack_round_trip(received: int, taken: int, byte_limit: int, message_limit: int) -> None:
    numbers = (received, taken, byte_limit, message_limit)
    assert frames.decode_ack(frames.encode_ack(*numbers)[4:]) == numbers


@given(st.sampled_from([Type.PING, Type.PONG, Type.END, Type.END_ACK, Type.GOAWAY]), u64s)
def test_number_round_trip(type: int, number: int) -> None:
    data = frames.encode_number(type, number)
    assert Decoder().receive(data) == [(type, data[4:])]
    assert frames.decode_number(type, data[4:]) == number


@given(st.integers(1, U64), st.integers(0, 3), st.none() | st.integers(0, (1 << 32) - 1), st.binary())
def test_ask_and_answer_round_trip(id: int, flags: int, deadline: int | None, body: bytes) -> None:
    expected = flags if deadline is None else flags | frames.HAS_DEADLINE
    assert frames.decode_ask(frames.encode_ask(id, flags, deadline, body)[4:]) == (
        id,
        expected,
        deadline,
        body,
    )
    assert frames.decode_answer(frames.encode_answer(id, flags, body)[4:]) == (id, flags, body)


@pytest.mark.parametrize(("deadline", "sent"), [(-5, 0), (1 << 40, (1 << 32) - 1)])
def test_ask_deadline_is_clamped(deadline: int, sent: int) -> None:
    assert frames.decode_ask(frames.encode_ask(1, 0, deadline, b"")[4:])[2] == sent


@given(st.integers(1, U64), st.text(max_size=60), st.text(max_size=900))
def test_texts_round_trip(number: int, short: str, long: str) -> None:
    assert frames.decode_reject(frames.encode_reject(number, short, long)[4:]) == (number, short, long)
    assert frames.decode_fail(frames.encode_fail(number, short, long)[4:]) == (number, short, long)
    assert frames.decode_cancel(frames.encode_cancel(number, long)[4:]) == (number, long)


@pytest.mark.parametrize("character", ["a", "\u00e9", "\u20ac", "\U0001f600"])
def test_long_texts_are_cut_between_characters(character: str) -> None:
    data = frames.encode_fail(1, character * 300, character * 5000)
    assert len(data) <= 4 + frames.MAX_SMALL
    _, short, long = frames.decode_fail(data[4:])
    assert set(short) == set(long) == {character}


def test_lone_surrogates_are_escaped() -> None:
    assert frames.decode_cancel(frames.encode_cancel(1, "a\udc80b")[4:]) == (1, "a\\udc80b")


@given(st.integers(0, 1 << 40), st.binary(max_size=50))
def test_first_part_round_trip(rest: int, body: bytes) -> None:
    total = len(body) + rest
    assert frames.decode_first_part(frames.encode_first_part(total, body)[4:]) == (total, body)


def batch(count: int, *lengths: int, bodies: bytes = b"") -> bytes:
    return struct.pack(f">{len(lengths) + 1}I", count, *lengths) + bodies


BAD_PAYLOADS: list[tuple[str, Callable[[bytes], Any], bytes]] = [
    ("BATCH frame: 3 bytes of payload", frames.decode_batch, b"\0\0\0"),
    ("BATCH frame: it holds no messages", frames.decode_batch, batch(0)),
    ("BATCH frame: it holds no messages", frames.decode_batch, batch(0, 0)),
    ("BATCH frame: 4294967295 lengths need", frames.decode_batch, batch((1 << 32) - 1)),
    ("BATCH frame: 2 lengths need 8 bytes, 4 are there", frames.decode_batch, batch(2, 0)),
    ("BATCH frame: the 2 messages have 3 bytes, 2", frames.decode_batch, batch(2, 1, 2, bodies=b"xx")),
    ("BATCH frame: the 1 messages have 1 bytes, 2", frames.decode_batch, batch(1, 1, bodies=b"xx")),
    ("PART frame: 7 bytes of payload", frames.decode_first_part, bytes(7)),
    ("PART frame: 1 bytes of a message that has 0", frames.decode_first_part, bytes(9)),
    ("ACK frame: 31 bytes of payload, must be 32", frames.decode_ack, bytes(31)),
    ("PONG frame: 7 bytes", lambda payload: frames.decode_number(frames.PONG, payload), bytes(7)),
    ("END frame: 0 bytes", lambda payload: frames.decode_number(frames.END, payload), b""),
    ("ASK frame: 8 bytes of payload, at least 9", frames.decode_ask, bytes(8)),
    ("ASK frame: unknown flags 0x80", frames.decode_ask, bytes(8) + b"\x8c"),
    ("ASK frame: 12 bytes of payload, at least 13", frames.decode_ask, bytes(8) + b"\4\0\0\0"),
    ("ANSWER frame: 8 bytes of payload", frames.decode_answer, bytes(8)),
    ("ANSWER frame: unknown flags 0x04", frames.decode_answer, bytes(8) + b"\4"),
    ("REJECT frame: 9 bytes of payload", frames.decode_reject, bytes(9)),
    ("REJECT frame: the first text has 2 bytes, 1 are", frames.decode_reject, bytes(9) + b"\2x"),
    ("FAIL frame: 0 bytes of payload", frames.decode_fail, b""),
    ("FAIL frame: a text is not UTF-8 .* at byte 0", frames.decode_fail, bytes(9) + b"\1\xff"),
    ("FAIL frame: a text is not UTF-8 .* at byte 1", frames.decode_fail, bytes(10) + b"x\xff"),
    ("CANCEL frame: 7 bytes of payload", frames.decode_cancel, bytes(7)),
    ("CANCEL frame: a text is not UTF-8", frames.decode_cancel, bytes(8) + b"\xed\xa0\x80"),
]


@pytest.mark.parametrize(("text", "decode", "payload"), BAD_PAYLOADS)
def test_bad_payloads(text: str, decode: Callable[[bytes], Any], payload: bytes) -> None:
    with pytest.raises(ProtocolViolation, match=text):
        decode(payload)


# --- The preface ----------------------------------------------------------------------------------


def test_preface_byte_by_byte() -> None:
    whole = frames.preface()
    assert [frames.check_preface(whole[:size]) for size in range(9)] == [None] * 8 + [1]
    assert frames.check_preface(whole + b"more") == frames.VERSION
    assert frames.check_preface(frames.PREFACE + b"\x63") == 99


STRANGERS = [
    (b"\x16\x03\x01\x02\x00\x01", "TLS hello"),
    (b"\x15\x03\x03\x00\x02\x02\x28", "TLS alert"),
    (b"GET / HTTP/1.1\r\n", "HTTP request"),
    (b"PRI * HTTP/2.0\r\n", "HTTP request"),
    (b"HTTP/1.1 400 Bad Request\r\n", "HTTP response"),
    (b"SSH-2.0-OpenSSH", "SSH"),
    (b"PROXY TCP4 1.2.3.4", "PROXY protocol"),
    (b"\r\n\r\n\0\r\nQUIT\n", "PROXY protocol"),
    (b"\x89LKB\n\x1a\x01", "damaged by a conversion of line endings"),
    (b"\x09LKB\r\n\x1a\x01", "lost the top bit"),
    (b"hello there\n", r"did you mean framing=Lines\(\)"),
    (b"G", r"text; did you mean framing=Lines\(\)"),
    (b"\0\0\0\5hello", "do both sides use the same framing"),
    (b"\x89PNG", "do both sides use the same framing"),
]


@pytest.mark.parametrize(("data", "text"), STRANGERS)
def test_strangers_are_named(data: bytes, text: str) -> None:
    with pytest.raises(ProtocolViolation, match=text):
        frames.check_preface(data)


@given(st.binary(max_size=20))
def test_preface_answers_or_raises_from_eight_bytes_on(data: bytes) -> None:
    try:
        version = frames.check_preface(data)
    except ProtocolViolation:
        assert not frames.preface().startswith(data[:7])
    else:
        assert (version is None) == (len(data) < 8)


# --- The stream -----------------------------------------------------------------------------------

SIZES = [1, 2, 3, 4, 5, 7, 64, 4095, 4096, 5000, 1 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_stream_in_chunks(size: int) -> None:
    decoder = Decoder()
    assert decode(decoder, cut(wire(STREAM), size)) == STREAM
    assert (decoder.error, decoder.buffered, decoder.missing) == (None, 0, 0)


@pytest.mark.parametrize("left", [1, 3, 4, 5, 40])
def test_stream_with_bytes_left_over(left: int) -> None:
    decoder = Decoder()
    extra = frames.frame(frames.DATA, bytes(100))
    assert decoder.receive(wire(STREAM) + extra[:left]) == STREAM
    assert decoder.buffered == (left if left < 4 else left - 4)
    assert decoder.missing == (0 if left < 4 else 104 - left)
    assert decoder.receive(b"") == []
    assert decoder.receive(extra[left:]) == [(frames.DATA, bytes(100))]
    assert (decoder.buffered, decoder.missing) == (0, 0)


stream_strategy = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([frames.DATA, frames.PART, frames.HELLO]), st.binary(max_size=50)),
        st.tuples(st.just(frames.DATA), st.integers(4000, 9000).map(bytes)),
        st.tuples(st.just(0x80), st.binary(max_size=50)),
        st.tuples(st.just(0x11), st.just(None)),
    ),
    max_size=8,
)


@given(stream_strategy, st.lists(st.integers(0, 6000), max_size=30), st.booleans())
def test_whole_equals_chunked(stream: list[tuple[int, bytes | None]], sizes: list[int], small: bool) -> None:
    data = b"".join(
        oversize(type, 1 << 20) if payload is None else oversize(type, len(payload)) + payload
        for type, payload in stream
    )
    whole, chunked = Decoder(small), Decoder(small)
    expected = whole.receive(data)
    rest, found = data, []
    for size in sizes:
        found += chunked.receive(rest[:size])
        rest = rest[size:]
    found += chunked.receive(rest)
    assert found == expected
    assert str(chunked.error) == str(whole.error)
    assert chunked.buffered == whole.buffered


VIOLATIONS = [
    (
        oversize(frames.DATA, frames.MAX_PIECE + 1),
        "DATA frame: 1048577 bytes of payload, at most 1048576 allowed$",
    ),
    (oversize(frames.BATCH, frames.MAX_BATCH + 1), "BATCH frame: 262145 bytes"),
    (oversize(frames.ACK, 33), "ACK frame: 33 bytes of payload, at most 32"),
    (oversize(frames.ACK_NOW, 1), "ACK_NOW frame: 1 bytes of payload, at most 0"),
    (oversize(frames.HELLO, 4097), "HELLO frame: 4097 bytes"),
    (oversize(0, 0), "type 0x00 frame: there is no such type"),
    (oversize(0x7F, 0), "type 0x7f frame: there is no such type"),
]


@pytest.mark.parametrize("size", [1, 3, 4, 1 << 20])
@pytest.mark.parametrize(("data", "text"), VIOLATIONS)
def test_violations_come_after_good_frames(data: bytes, text: str, size: int) -> None:
    decoder = Decoder()
    good = [(frames.DATA, b"good"), (frames.PING, bytes(8))]
    assert decode(decoder, cut(wire(good) + data, size)) == good
    with pytest.raises(ProtocolViolation, match=text):
        raise decoder.error or AssertionError
    assert decoder.receive(wire(good)) == []
    assert decoder.buffered == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [0, 1, 5000, (1 << 24) - 1])
def test_unknown_types_are_skipped(length: int, size: int) -> None:
    decoder = Decoder()
    size = max(size, length >> 8)
    data = wire(STREAM[:1]) + oversize(0x80, length) + bytes(length) + oversize(0xFF, 0) + wire(STREAM[1:])
    found = []
    for chunk in cut(data, size):
        found += decoder.receive(chunk)
        assert decoder.buffered < 10_000
    assert found == STREAM
    assert decoder.error is None


def test_a_dribbled_frame_costs_what_it_holds() -> None:
    decoder = Decoder()
    data = frames.frame(frames.DATA, bytes(range(256)) * 64)
    for chunk in cut(data[:-1], 2):
        assert decoder.receive(chunk) == []
    assert len(decoder._pile._pieces) == 1
    assert decoder.receive(data[-1:]) == [(frames.DATA, data[4:])]


# --- Before the handshake is complete -------------------------------------------------------------

HELLO = (frames.HELLO, b"{hello}")
EARLY = [(frames.BATCH, frames.encode_batch([bytes(30_000)])[4:]), (frames.END, bytes(8))]


@pytest.mark.parametrize("first", [HELLO, (frames.WELCOME, b"{welcome}")])
@pytest.mark.parametrize("size", [1, 5, 11, 4096, 1 << 20])
def test_early_data_is_held_behind_hello(first: tuple[int, bytes], size: int) -> None:
    decoder = Decoder(small=True)
    assert decode(decoder, cut(wire([first, *EARLY]), size)) == [first]
    assert decoder.buffered == len(wire(EARLY))
    assert decoder.receive(b"") == []
    decoder.small = False
    assert decoder.receive(b"") == EARLY
    assert decoder.receive(wire(STREAM)) == STREAM
    assert (decoder.error, decoder.buffered) == (None, 0)


def test_what_was_held_goes_before_what_arrives() -> None:
    decoder = Decoder(small=True)
    data = wire([HELLO, *EARLY, *STREAM])
    assert decoder.receive(data[:5000]) == [HELLO]
    decoder.small = False
    assert decoder.receive(data[5000:]) == [*EARLY, *STREAM]


def test_nothing_held_behind_hello() -> None:
    decoder = Decoder(small=True)
    assert decoder.receive(wire([HELLO])) == [HELLO]
    decoder.small = False
    assert decoder.receive(wire(EARLY)) == EARLY


def test_proceed_reads_on_with_small_limits() -> None:
    decoder = Decoder(small=True)
    proof = (frames.PROOF, b"proof")
    assert decoder.receive(wire([HELLO, proof]) + oversize(frames.DATA, 4097)) == [HELLO]
    decoder.proceed()
    assert decoder.receive(b"") == [proof]
    assert "DATA frame: 4097 bytes of payload, at most 4096 allowed before the handshake" in str(
        decoder.error
    )


@pytest.mark.parametrize("type", [frames.DATA, frames.BATCH, 0x80])
def test_only_small_frames_before_the_handshake_is_over(type: int) -> None:
    decoder = Decoder(small=True)
    assert decoder.receive(oversize(type, 4097)) == []
    assert "at most 4096 allowed before the handshake is complete" in str(decoder.error)


def test_small_unknown_types_are_skipped_before_hello() -> None:
    decoder = Decoder(small=True)
    assert decoder.receive(oversize(0x80, 4096) + bytes(4096) + wire([HELLO])) == [HELLO]


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_early_data_is_bounded(size: int) -> None:
    hello = wire([HELLO])
    most = bytes(frames.MAX_EARLY + 4)
    fits, over = Decoder(small=True), Decoder(small=True)
    assert decode(fits, cut(hello + most, size)) == [HELLO]
    assert (fits.error, fits.buffered) == (None, len(most))
    assert decode(over, cut(hello + most + b"x", size)) == [HELLO]
    assert "more than 65536 bytes before the handshake was complete" in str(over.error)
    assert over.buffered == 0
    over.small = False
    assert over.receive(b"x") == []

"""Plain framings: a large frame is decoded as its pieces arrive, so no read takes long. Calls are counted."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from linkbox.core.wire.framings import Cobs, Enclosed, JsonStream, Netstring, PlainDecoder, PlainFraming, Slip
from linkbox.errors import DecodeError

SIZE = 512 * 1024
READ = 16 * 1024
DLE = Enclosed(b"\x10\x02", b"\x10\x03", escape=b"\x10")
HDLC = Enclosed(b"~", b"~", escape=b"}", escape_xor=0x20)
STX = Enclosed(b"\x02", b"\x03", escape=b"\x10")


def total(data: bytes) -> bytes:
    """A checksum."""
    return bytes([sum(data) % 256])


STX_SUM = Enclosed(b"\x02", b"\x03", escape=b"\x10", checksum=total, checksum_after=True)


def calls_of(function: Callable[[], Any]) -> int:
    """How many functions this calls, those in C included."""
    count = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


FRAMES: dict[str, tuple[PlainFraming, bytes, bytes, bytes]] = {
    "zeros": (Cobs(), b"", b"\x01", b"\0"),
    "short blocks": (Cobs(), b"", b"\x02a", b"\0"),
    "full blocks": (Cobs(), b"", b"\xff" + b"a" * 254, b"\0"),
    "slip": (Slip(), b"\xc0", b"\xdb\xdc", b"\xc0"),
    "marks": (STX, b"\x02", b"\x10\x03", b"\x03"),
    "escapes": (STX, b"\x02", b"\x10\x10", b"\x03"),
    "doubled": (DLE, b"\x10\x02", b"\x10\x10", b"\x10\x03"),
    "changed": (HDLC, b"~", b"}^", b"~"),
    "wrong": (DLE, b"\x10\x02", b"\x10a", b"\x10\x03"),
    "strings": (JsonStream(), b"[", b'"",', b"1]"),
    "in a string": (JsonStream(), b'"', b'\\"', b'"'),
    "digits": (Netstring(), b"%d:" % (SIZE - 3), b"1,", b","),
}


@pytest.mark.parametrize("name", FRAMES)
def test_no_read_of_a_large_frame_costs_much(name: str) -> None:
    """At its end, each of these made as many calls as a frame of the largest size has bytes, or more."""
    framing, begin, middle, end = FRAMES[name]
    data = begin + middle * (SIZE // len(middle)) + end
    decoder = framing.decoder(SIZE)
    worst = 0
    for start in range(0, len(data), READ):
        worst = max(worst, calls_of(partial(decoder.feed, data[start : start + READ])))
    assert worst < 200_000
    assert decoder.pending == 0


@pytest.mark.parametrize("framing", [Cobs(), Slip(), STX, DLE, HDLC])
@pytest.mark.parametrize("byte", [b"\0", b"\x03", b"\x10", b"~", b"\xdb", b"a"])
def test_encoding_takes_few_steps(framing: PlainFraming, byte: bytes) -> None:
    payload = byte * (64 * 1024)
    assert calls_of(lambda: framing.encode(payload)) < 2000
    assert framing.decoder(SIZE).feed(framing.encode(payload)) == [payload]


def test_a_frame_is_held_as_what_it_says() -> None:
    decoder = Slip().decoder(SIZE)
    piece = b"\xdb\xdc" * (READ // 2)
    tracemalloc.start()
    for _ in range(SIZE // READ):
        decoder.feed(piece)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoder.pending == SIZE
    assert held < 0.6 * SIZE


# --- The same as in one piece ----------------------------------------------------------------------------


def outcome(decoder: PlainDecoder, data: bytes, size: int) -> tuple[list[bytes], list[str], int, str]:
    """Messages, bad frames, bytes that are left, and the error at the end."""
    found = [m for start in range(0, len(data), size) for m in decoder.feed(data[start : start + size])]
    pending = decoder.pending
    found += decoder.eof()
    return found, list(map(str, decoder.rejected)), pending, str(decoder.error)


MIXED = bytes(range(256)) * 600
WIDE = b"\0".join(b"x" * size for size in (0, 1, 253, 254, 255, 508, 509, 80_000, 0, 70_000))
LARGE: list[tuple[PlainFraming, bytes, list[bytes], list[str], int]] = [
    (Cobs(), Cobs().encode(MIXED) + Cobs().encode(WIDE) + b"\2", [MIXED, WIDE], [], 1),
    (Cobs(total), Cobs(total).encode(WIDE), [WIDE], [], 0),
    (
        Cobs(),
        b"\2b" * 40_000 + b"\xfea\0\2b\0",
        [b"b"],
        [
            "a frame whose block at byte 80000 has 253 bytes, but 1 follow: "
            + repr(b"\2b" * 20)
            + "… (80002 bytes)"
        ],
        0,
    ),
    (Slip(), Slip().encode(MIXED) + b"a", [MIXED], [], 1),
    (Slip(total), Slip(total).encode(MIXED), [MIXED], [], 0),
    (
        Slip(),
        b"x" * 70_000 + b"\xdb" + b"y\xdb" * 10_000 + b"\xc0z\xc0" + b"x" * 70_000 + b"\xdb\xc0",
        [b"z"],
        [
            rf"a frame with b'\xdby' at byte 70000, which SLIP does not have: {b'x' * 40!r}… (90001 bytes)",
            rf"a frame with b'\xdb' at byte 70000, which SLIP does not have: {b'x' * 40!r}… (70001 bytes)",
        ],
        0,
    ),
    *((each, each.encode(MIXED) + each.encode(WIDE), [MIXED, WIDE], [], 0) for each in (STX, DLE, STX_SUM)),
    (HDLC, HDLC.encode(MIXED) + HDLC.encode(b"}" * 200_000), [MIXED, b"}" * 200_000], [], 0),
    (
        DLE,
        b"\x10\x02" + b"x" * 70_000 + b"\x10a" + b"x" * 70_000 + b"\x10\x03" + DLE.encode(MIXED),
        [MIXED],
        [rf"a frame with the unknown escape b'\x10a': {b'x' * 40!r}… (140002 bytes)"],
        0,
    ),
    (
        HDLC,
        b"~" + b"x" * 140_000 + b"}~y~",
        [b"y"],
        [rf"a frame with the unknown escape b'}}': {b'x' * 40!r}… (140001 bytes)"],
        0,
    ),
    (
        STX,
        b"\x02" + b"x" * 140_000 + STX.encode(MIXED),
        [MIXED],
        [f"a frame that was cut: {b'x' * 40!r}… (140000 bytes)"],
        0,
    ),
]


@pytest.mark.parametrize("size", [7, 999, 65_537, 100_001, 1 << 20])
@pytest.mark.parametrize(("framing", "data", "messages", "bad", "left"), LARGE)
def test_large_frames(
    framing: PlainFraming, data: bytes, messages: list[bytes], bad: list[str], left: int, size: int
) -> None:
    found, rejected, pending, error = outcome(framing.decoder(SIZE), data, size)
    assert found == messages
    assert rejected == bad
    assert pending == left
    assert ("ended inside" in error) == bool(left)


# --- Many bad frames -------------------------------------------------------------------------------------


FLOODS: list[tuple[PlainFraming, bytes]] = [
    (Cobs(), b"\5\0"),
    (Slip(), b"\xdb\1\xc0"),
    (STX, b"\x02a"),
    (STX, b"j\x02\x03"),
    (DLE, b"\x10\x02\x10a\x10\x03"),
]


@pytest.mark.parametrize(("framing", "frame"), FLOODS)
def test_of_many_bad_frames_the_first_are_reported(framing: PlainFraming, frame: bytes) -> None:
    decoder = framing.decoder(SIZE)
    good = framing.encode(b"good")
    assert decoder.feed(frame * 5000 + good) == [b"good"]
    assert len(decoder.rejected) == 100
    assert all(isinstance(each, DecodeError) for each in decoder.rejected)
    assert decoder.more_rejected in (4900, 4899)

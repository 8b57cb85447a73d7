"""The Linked wire: preface, stream of frames, and every payload."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fuzz.target import Choices, Target, cuts
from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Decoder
from linkbox.errors import ProtocolViolation

MOST_HELD = frames.MAX_PIECE + 12
MOST_HELD_SMALL = frames.MAX_EARLY + 4

DECODERS: dict[int, Callable[[bytes], Any]] = {
    frames.BATCH: frames.decode_batch,
    frames.PART: frames.decode_first_part,
    frames.ACK: frames.decode_ack,
    frames.REJECT: frames.decode_reject,
    frames.ASK: frames.decode_ask,
    frames.ANSWER: frames.decode_answer,
    frames.FAIL: frames.decode_fail,
    frames.CANCEL: frames.decode_cancel,
    frames.DROPPED: frames.decode_dropped,
    **{
        kind: lambda payload, kind=kind: frames.decode_number(kind, payload)  # type: ignore[misc]
        for kind in (frames.PING, frames.PONG, frames.END, frames.END_ACK, frames.GOAWAY)
    },
}


def frame_script(choices: Choices) -> bytes:
    """Frames whose headers are right, most of them; the payloads are anything."""
    out = bytearray()
    kinds = tuple(frames.MAXIMUM)
    while choices and len(out) < 200_000:
        kind, scale, size = choices.byte(), choices.byte(), choices.byte()
        kind = kind if kind >= 128 else kinds[kind % len(kinds)]
        length = size << (scale % 13 if scale >= 240 else 0)
        body = choices.bytes(min(length, 64))
        out += (kind << 24 | length).to_bytes(4) + body.ljust(length, b"\0")
    return bytes(out)


def decode(chunks: Iterable[bytes], small: bool, release: int) -> tuple[list[tuple[int, bytes]], str]:
    """What a decoder makes of it: frames, and the error. ``release``: how it goes on behind each stop."""
    decoder = Decoder(small)
    found: list[tuple[int, bytes]] = []
    for chunk in chunks:
        got = decoder.receive(chunk)
        while got and release and decoder.small and got[-1][0] <= frames.WELCOME:
            found += got
            if release == 1:
                decoder.small = False
            else:
                decoder.proceed()
            got = decoder.receive(b"")
        found += got
        most = MOST_HELD_SMALL if decoder.small else max(MOST_HELD, MOST_HELD_SMALL)
        assert decoder.buffered <= most, decoder.buffered
        assert decoder.missing >= 0
    return found, str(decoder.error)


def check_payload(kind: int, payload: bytes) -> None:
    """Only a violation comes out; and what is understood is written the same way again."""
    if kind not in DECODERS:
        return
    try:
        value = DECODERS[kind](payload)
    except ProtocolViolation:
        return
    again = None
    match kind:
        case frames.BATCH:
            again = frames.encode_batch(value)
        case frames.PART:
            again = frames.encode_first_part(*value)
        case frames.ACK:
            again = frames.encode_ack(*value)
        case frames.DROPPED:
            again = frames.encode_dropped(*value)
        case frames.ASK:
            again = frames.encode_ask(*value)
        case frames.ANSWER:
            again = frames.encode_answer(*value)
    assert again is None or again[4:] == payload


def run_stream(data: bytes) -> None:
    """A stream of frames: cut or whole, the same frames and the same error; little is held."""
    choices = Choices(data)
    flags, seed = choices.byte(), choices.byte()
    stream = frame_script(choices) if flags & 1 else choices.rest()
    small, release = bool(flags & 2), (flags >> 2) % 3
    if small and release:
        stream = stream[: frames.MAX_EARLY]  # in one go no more may come behind a HELLO
    whole = decode((stream,), small, release)
    assert decode(cuts(stream, seed), small, release) == whole
    for kind, payload in whole[0]:
        check_payload(kind, payload)


def run_payload(data: bytes) -> None:
    """One payload."""
    if data:
        kinds = tuple(DECODERS)
        check_payload(kinds[data[0] % len(kinds)], data[1:])


def run_preface(data: bytes) -> None:
    """The first bytes of a stranger: an answer after eight of them, whatever they are."""
    try:
        version = frames.check_preface(data)
    except ProtocolViolation:
        return
    assert data[:7] == frames.PREFACE[: len(data)]
    assert (version is None) == (len(data) < 8)


_SOME = (
    frames.frame(frames.DATA, b"one")
    + frames.encode_batch([b"a", b"", b"ccc"])
    + frames.encode_ack(1, 1, 99, 99)
    + frames.encode_first_part(5, b"ab")
    + frames.frame(frames.PING, bytes(8))
    + frames.encode_ask(1, 0, 5, b"q")
    + frames.encode_fail(1, "E", "no")
)
TARGETS = [
    Target("frames", run_stream, (b"\0\0" + _SOME, b"\2\1" + frames.frame(frames.HELLO, b"{}") + _SOME)),
    Target("payloads", run_payload, tuple(bytes((index, *bytes(20))) for index in range(len(DECODERS)))),
    Target("preface", run_preface, (frames.preface(), b"GET / HTTP/1.1\r\n", b"\x16\x03\x01")),
]

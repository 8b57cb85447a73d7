"""The plain framings: messages in a stream, however it is cut."""

from __future__ import annotations

from collections.abc import Iterable

from fuzz.target import Choices, Run, Target, cuts
from linkbox.core.wire.framings import (
    Cobs,
    DecimalPrefixed,
    Delimited,
    Enclosed,
    FixedSize,
    JsonStream,
    LengthPrefixed,
    Lines,
    Netstring,
    PlainFraming,
    Raw,
    Slip,
    VarintPrefixed,
)
from linkbox.errors import FormatError

LIMITS = (1, 5, 50, 3000)
SLACK = 32
"""Bytes over the limit that may be held: a header, a prefix, a delimiter that is not whole."""


def decode(framing: PlainFraming, limit: int, chunks: Iterable[bytes]) -> tuple[list[bytes], str]:
    """The messages, and the name of the error."""
    decoder = framing.decoder(limit)
    found: list[bytes] = []
    for chunk in chunks:
        found += decoder.feed(chunk)
        assert decoder.pending <= (2 * limit if isinstance(framing, Slip | Enclosed) else limit) + SLACK
        assert not (decoder.error and decoder.feed(chunk))
    if decoder.error is None:
        found += decoder.eof()
    assert decoder.pending == 0
    assert all(len(message) <= limit for message in found)
    return found, type(decoder.error).__name__


def check(framing: PlainFraming, limit: int, stream: bytes, seed: int) -> None:
    """Cut or whole, the same; and what can be sent comes through."""
    messages, error = decode(framing, limit, (stream,))
    parts, other_error = decode(framing, limit, cuts(stream, seed))
    if isinstance(framing, Raw):
        assert b"".join(parts) == b"".join(messages) == stream
    else:
        assert (parts, other_error) == (messages, error)
    try:
        again = framing.encode_many(messages)
    except FormatError:
        return
    assert again == b"".join(map(framing.encode, messages))
    back, _ = decode(framing, limit, cuts(again, seed))
    assert back == messages if not isinstance(framing, Raw) else b"".join(back) == stream


def total(data: bytes) -> bytes:
    """A checksum."""
    return bytes([sum(data) % 256])


def runner(*framings: PlainFraming) -> Run:
    """A target's function for these."""

    def run(data: bytes) -> None:
        choices = Choices(data)
        which, seed = choices.byte(), choices.byte()
        framing = framings[which % len(framings)]
        limit = LIMITS[which // len(framings) % len(LIMITS)]
        if isinstance(framing, FixedSize):
            limit = max(limit, framing.size)
        check(framing, limit, choices.rest(), seed)

    return run


TARGETS = [
    Target("raw", runner(Raw()), (b"\0\1abc",)),
    Target("lines", runner(Lines(), Lines(b"\r\n")), (b"\4\1one\ntwo\r\n\n\r\r\nlast", b"\5\1one\r\ntwo")),
    Target(
        "delimited",
        runner(Delimited(b";"), Delimited(b"--"), Delimited(b"aab")),
        (b"\6\1one;two;", b"\7\1one--two---x", b"\x08\1aaabaabaa"),
    ),
    Target(
        "length-prefixed",
        runner(LengthPrefixed(1), LengthPrefixed(2, "little"), LengthPrefixed(), LengthPrefixed(8)),
        (b"\x08\1\3abc\0\1x", b"\x09\1\3\0abc", b"\x0a\1\0\0\0\2ab", b"\x0b\1" + bytes(7) + b"\1x"),
    ),
    Target(
        "headers",
        runner(
            LengthPrefixed(3, adjust=1),
            LengthPrefixed(2, offset=2, adjust=-4, header=b"\3\0"),
            VarintPrefixed(),
            DecimalPrefixed(b" "),
            Netstring(),
        ),
        (b"\x0a\1\0\0\1ab", b"\x0b\1\3\0\0\6ab", b"\x0c\1\3abc", b"\x0d\0013 abc", b"\x0e\0013:abc,"),
    ),
    Target("json-stream", runner(JsonStream()), (b'\2\1{"a":[1,"]"]}[]"x"12 true', b"\2\1[}")),
    Target(
        "enclosed",
        runner(
            Enclosed(b"\x0b", b"\x1c\r"),
            Enclosed(b"\x10\x02", b"\x10\x03", escape=b"\x10"),
            Enclosed(b"~", b"~", escape=b"}", escape_xor=0x20),
            Enclosed(b"\x02", b"\x03", checksum=total, checksum_after=True),
            Slip(),
            Slip(total),
            Cobs(),
        ),
        (
            b"\x0e\1\x0babc\x1c\r",
            b"\x0f\1\x10\x02a\x10\x10\x10\x03",
            b"\x10\1~a}^~b~",
            b"\x11\1\x02a\x03d\x02b\x03",
            b"\x12\1\xc0a\xdb\xdc\xc0",
            b"\x13\1aa\xc0",
            b"\x14\1\3ab\2c\0",
        ),
    ),
    Target("fixed-size", runner(FixedSize(1), FixedSize(7), FixedSize(3000)), (b"\1\1abcdefgh",)),
]

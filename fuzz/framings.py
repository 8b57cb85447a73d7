"""The plain framings: messages in a stream, however it is cut."""

from __future__ import annotations

from collections.abc import Iterable

from fuzz.target import Choices, Run, Target, cuts
from linkbox.core.wire.framings import Delimited, FixedSize, LengthPrefixed, Lines, PlainFraming, Raw
from linkbox.errors import FormatError

LIMITS = (1, 5, 50, 3000)
SLACK = 8
"""Bytes over the limit that may be held: a prefix of a length, a delimiter that is not whole."""


def decode(framing: PlainFraming, limit: int, chunks: Iterable[bytes]) -> tuple[list[bytes], str]:
    """The messages, and the name of the error."""
    decoder = framing.decoder(limit)
    found: list[bytes] = []
    for chunk in chunks:
        found += decoder.feed(chunk)
        assert decoder.pending <= limit + SLACK
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
    Target("fixed-size", runner(FixedSize(1), FixedSize(7), FixedSize(3000)), (b"\1\1abcdefgh",)),
]

"""Bytes that are no good JSON, through a real link: rejected by name, the stream goes on."""

from __future__ import annotations

from linkbox import DecodeError, EventKind, Json, TooLarge
from linkbox.core.wire import frames
from tests.faults.bare import Bare, data, reason_of
from tests.faults.place import Place


def _rejected(place: Place, *bodies: bytes) -> None:
    """Each of these is rejected alone: its sender is told why, and so is whoever listens here."""
    with place.serving(format=Json) as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.ERROR)
        bare.meet(format="json")
        view = place.view(server)
        for count, body in enumerate(bodies, 1):
            bare.say(data(b'"before"'), data(body), data(b'"after"'))
            assert reason_of(bare.until(frames.REJECT))
            assert [view.data_get(5), view.data_get(5)] == ["before", "after"]
            assert isinstance(ear.wait(count).error, DecodeError | TooLarge)
        assert view.data_empty()
        assert server.statistics().rejected == len(bodies)


def test_deep_json(place: Place) -> None:
    """101 levels, and as many as fit into one frame: no RecursionError, no crash of the interpreter."""
    _rejected(place, b"[" * 101 + b"]" * 101, b"[" * 500_000 + b"]" * 500_000, b'{"a":' * 200_000)


def test_bad_utf8(place: Place) -> None:
    """Also what only the strict find: overlong forms, surrogates as bytes."""
    _rejected(place, b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'{"\x80":1}')


def test_nan_and_infinity(place: Place) -> None:
    _rejected(place, b"NaN", b"[Infinity]", b"-Infinity")


def test_a_number_beyond_all_floats(place: Place) -> None:
    _rejected(place, b"1e999", b"[-1e999]")


def test_lone_surrogates(place: Place) -> None:
    _rejected(place, rb'"\ud800"', rb'["\udc00\ud800"]')


def test_an_integer_of_5000_digits(place: Place) -> None:
    """Turning it into an int would take quadratic time: it is refused, as Python itself refuses it."""
    _rejected(place, b"9" * 5000, b"[-" + b"1" * 1_000_000 + b"]")


def test_duplicate_keys(place: Place) -> None:
    """No fault as JSON has it: the last one wins, as in Python. Documented in docs/formats.md."""
    with place.serving(format=Json) as server, Bare(place, server.address) as bare:
        bare.meet(format="json")
        view = place.view(server)
        bare.say(data(b'{"a": 1, "a": 2}'))
        assert view.data_get(5) == {"a": 2}


def test_no_json_at_all(place: Place) -> None:
    _rejected(place, b"", b"{", b"{'a': 1}", b"1 2", b"\x00", b"\xef\xbb\xbf1", b"01")

"""The formats: a value, or `DecodeError` and nothing else; and a value that came can be sent on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec

from fuzz.target import Target
from linkbox.errors import DecodeError, FormatError
from linkbox.format_checks import MAX_DEPTH
from linkbox.formats import Bytes, Format, Json, MsgPack, Typed

MISSING = object()


class Point(msgspec.Struct):
    """Something to check fields against."""

    x: int
    y: float = 0.0
    tags: list[str] = []
    next: Point | None = None


class Strict(Exception):
    """The reference says no."""


def decoded(format: Format[Any, Any], data: bytes) -> Any:
    """The value, or `MISSING`."""
    try:
        return format.decode(data)
    except DecodeError as error:
        text = str(error)
    assert len(text) < 2000
    return MISSING


def no_constant(name: str) -> None:
    raise Strict(name)


def finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Strict(text)
    return value


def reference(data: bytes, number: Callable[[str], float] = finite) -> Any:
    """The same by the standard library, without what it is too lenient about: the value, or `MISSING`."""
    try:
        text = data.decode()
        value = json.loads(text, parse_constant=no_constant, parse_float=number)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
    except (ValueError, RecursionError, Strict):
        return MISSING
    return value


def depth(value: Any) -> int:
    """How deep arrays and objects stand inside each other."""
    deepest, layer = 0, [value]
    while layer := [each for each in layer if isinstance(each, list | dict)]:
        deepest += 1
        layer = [child for each in layer for child in (each.values() if isinstance(each, dict) else each)]
    return deepest


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    return one == other and repr(one) == repr(other)


def run_bytes(data: bytes) -> None:
    """Bytes are what they are."""
    assert Bytes().decode(data) is data
    assert Bytes().encode(bytearray(data)) == data


def run_json(data: bytes) -> None:
    """Json and Typed say what a strict reading of RFC 8259 says."""
    expected = reference(data)
    if expected is not MISSING and depth(expected) > MAX_DEPTH:
        expected = MISSING
    for format in (Json(), ANYTHING):
        value = decoded(format, data)
        assert same(value, expected), (value, expected)
        if value is not MISSING:
            assert same(format.decode(format.encode(value)), value)


def run_typed(data: bytes) -> None:
    """What Typed takes is of the type, comes back the same, and is JSON. In fields that the type has not,
    a number that is too large for a float is none of its business."""
    for format in (POINT, EITHER):
        value = decoded(format, data)
        if value is not MISSING:
            assert format.decode(format.encode(value)) == value
            assert reference(data, float) is not MISSING


def run_msgpack(data: bytes) -> None:
    """MessagePack: a value that can be sent on comes back."""
    for format in (MsgPack(), MSGPACK_POINT):
        value = decoded(format, data)
        if value is MISSING:
            continue
        try:
            again = format.encode(value)
        except FormatError:
            continue  # a time zone of its own, say
        assert format.encode(format.decode(again)) == again


ANYTHING: Typed[Any] = Typed(Any)
POINT: Typed[Any] = Typed(Point)
EITHER: Typed[Any] = Typed(list[int] | dict[str, list[float]] | None)
MSGPACK_POINT: MsgPack[Any] = MsgPack(Point)
_JSON = b'{"x":1,"y":-2.5e3,"tags":["a","\\u00e9\\n"],"next":{"x":2,"more":[true,false,null]}}'
TARGETS = [
    Target("bytes", run_bytes),
    Target("json", run_json, (_JSON, b"[1,[2]]", b'"\xc3\xa9"', b"[" * 101 + b"]" * 101, b"1e999")),
    Target("typed", run_typed, (_JSON, b"[1,2]", b'{"a":[1.5]}')),
    Target(
        "msgpack", run_msgpack, (MsgPack().encode(json.loads(_JSON)), b"\xca\0\0\0\0", b"\xd6\xff\0\0\0\0")
    ),
]

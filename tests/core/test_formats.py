"""Formats: what goes through, what is refused, and that refusing never takes another exception."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import sys
import threading
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar, Union

import msgspec
import pytest

from linkbox.errors import DecodeError, FormatError
from linkbox.format_checks import MAX_DEPTH, too_deep
from linkbox.formats import Bytes, Format, Json, MsgPack, Text, Typed, as_format


class Point(msgspec.Struct):
    x: int
    y: float = 0.0


class Point3(Point):
    z: float = 0.0


class Empty(msgspec.Struct):
    pass


class Either(msgspec.Struct):
    value: Point | None = None
    more: list[Either] | None = None


class Picky(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise KeyError("negative")


@dataclasses.dataclass
class Place:
    name: str
    what: Any = None


class Row(TypedDict):
    id: int


class Pair(NamedTuple):
    a: int
    b: int


class Color(enum.Enum):
    RED = "red"


class Plain:
    """Something msgspec knows nothing about."""


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Holder(msgspec.Struct):
    inner: list[Plain]


class Undefined(msgspec.Struct):
    field: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Shape(Protocol):
    x: int


V = TypeVar("V")


class Box(msgspec.Struct, Generic[V]):
    content: V


Celsius = NewType("Celsius", float)
Natural = Annotated[int, msgspec.Meta(ge=0)]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


# ---- Bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]])
def test_bytes(value) -> None:
    data = Bytes().encode(value)
    assert type(data) is bytes
    assert data == bytes(value)
    assert Bytes().decode(data) is data
    assert (data is value) == (type(value) is bytes), "what can change is copied, what cannot is not"


def test_a_subclass_of_bytes_becomes_bytes() -> None:
    assert type(Bytes().encode(type("B", (bytes,), {})(b"abc"))) is bytes


@pytest.mark.parametrize(
    ("value", "says"),
    [("abc", r"encode it first.*\.encode\(\)"), (1, "an int"), (None, "a None"), ([1], "Json")],
)
def test_bytes_refuse(value, says) -> None:
    with pytest.raises(FormatError, match=says):
        Bytes().encode(value)


# ---- Json: texts ----------------------------------------------------------------------------------

ACCEPTED: list[tuple[bytes, Any]] = [
    (b"null", None),
    (b"true", True),
    (b"false", False),
    (b"0", 0),
    (b"-0", 0),
    (b"-0.0", -0.0),
    (b"1", 1),
    (b"-1", -1),
    (b"1.5", 1.5),
    (b"1e2", 100.0),
    (b"1E+2", 100.0),
    (b"1e-2", 0.01),
    (b"0e0", 0.0),
    (b"1e-999", 0.0),
    (b"1e308", 1e308),
    (b"9007199254740993", 2**53 + 1),
    (b"9223372036854775807", 2**63 - 1),
    (b"9223372036854775808", 2**63),
    (b"18446744073709551615", 2**64 - 1),
    (b"18446744073709551616", 2**64),
    (b"-9223372036854775809", -(2**63) - 1),
    (b"1" * 300, int("1" * 300)),
    (b"1" * 400, int("1" * 400)),
    (b'""', ""),
    (b'"a"', "a"),
    (b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\/\b\f\n\r\t'),
    (b'"\\u0000"', "\0"),
    (b'"\\u00e4\\u00E4"', "ää"),
    (b'"\\ud83d\\ude00"', "😀"),
    ('"😀 ä \u2028 \ufffe"'.encode(), "😀 ä \u2028 \ufffe"),
    (b'"\x7f"', "\x7f"),
    (b'"[{]}"', "[{]}"),
    (b"[]", []),
    (b"[ ]", []),
    (b"{}", {}),
    (b"[1,[2,[3]]]", [1, [2, [3]]]),
    (b'{"a":{"b":[null]}}', {"a": {"b": [None]}}),
    (b'{"":0}', {"": 0}),
    (b'{"a":1,"a":2}', {"a": 2}),
    (b" \t\r\n1 \t\r\n", 1),
    (b'\n{ "a" :\t[ 1 , 2 ]\r}', {"a": [1, 2]}),
    (b"[" * 100 + b"]" * 100, nested(100)),
    (b'["' + b"[" * 5000 + b'"]', ["[" * 5000]),
    (b'["' + b'\\"[' * 5000 + b'"]', ['"[' * 5000]),
    (b'["' + b"\\\\" * 500 + b'",' + b'"[",' * 200 + b"1]", ["\\" * 500, *["["] * 200, 1]),
    (b"[" + b"[]," * 5000 + b"1]", [[]] * 5000 + [1]),
]

REJECTED: list[bytes] = [
    b"",
    b" ",
    b"\n\t",
    b"\x00",
    b"nul",
    b"nulll",
    b"Null",
    b"True",
    b"tru",
    b"undefined",
    b"NaN",
    b"-NaN",
    b"Infinity",
    b"-Infinity",
    b"[NaN]",
    b"1e999",
    b"-1e999",
    b"[1e999]",
    b'{"a":[1,{"b":-1e400}]}',
    b"1e5000000000000",
    b"1.7976931348623159e308",
    b"01",
    b"-00",
    b"-",
    b"+1",
    b".5",
    b"1.",
    b"1e",
    b"1e+",
    b"0x10",
    b"1_000",
    b"1 2",
    b"1,2",
    b"1\x00",
    b"1" * 5000,
    b"[" + b"9" * 100_000 + b"]",
    b"'a'",
    b'"',
    b'"a',
    b'"a\nb"',
    b'"a\tb"',
    b'"a\x00b"',
    b'"\\x41"',
    b'"\\u12"',
    b'"\\u12g4"',
    b'"\\',
    b'"\\ud800"',
    b'"\\udc00"',
    b'"\\ud800x"',
    b'"\\ud800\\u0041"',
    b'"\\udc00\\ud800"',
    b'{"\\ud800":1}',
    b'"\xff"',
    b'"\xc3"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"\xf0\x9f"',
    b'{"\xff":1}',
    b'{"a":"\xff"}',
    '"é"'.encode("latin-1"),
    '"a"'.encode("utf-16"),
    b"\xef\xbb\xbf1",
    b"\xff",
    b"[",
    b"[1",
    b"[1,",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1]]",
    b"[1}",
    b"]",
    b"{",
    b'{"a"',
    b'{"a":',
    b'{"a":1',
    b'{"a":1,}',
    b'{"a":}',
    b'{"a" 1}',
    b"{1:2}",
    b"{a:1}",
    b"{,}",
    b'{"a":1}}',
    b"// c\n1",
    b"1 /* c */",
    b"1 # c",
    b"\x0c1",
    b"\xc2\xa01",
    b"[" * 101 + b"]" * 101,
    b"[" * 5000 + b"]" * 5000,
    b"[" * 100_000,
    b'{"a":' * 101 + b"1" + b"}" * 101,
    b'{"a":[' * 51 + b"1" + b"]}" * 51,
    b'["]",' * 101 + b"1" + b"]" * 101,
    b'["\\"]",' * 101 + b"1" + b"]" * 101,
    b'["\\\\",' * 101 + b"1" + b"]" * 101,
    b'["]]]]' * 200,
    b"[" * 200 + b'"',
]


def test_the_tables_are_long_enough() -> None:
    assert len(ACCEPTED) + len(REJECTED) >= 120
    assert len(set(REJECTED)) == len(REJECTED)


@pytest.mark.parametrize(("text", "value"), ACCEPTED, ids=lambda case: repr(case)[:30])
def test_json_accepts(text: bytes, value: Any) -> None:
    result = Json().decode(text)
    assert result == value
    assert type(result) is type(value)
    assert Json().decode(Json().encode(result)) == value
    if isinstance(value, float):
        assert math.copysign(1, result) == math.copysign(1, value)


@pytest.mark.parametrize("text", REJECTED, ids=lambda text: repr(text)[:30])
@pytest.mark.parametrize("format", [Json(), Typed(Any), Typed(dict[str, Any]), Typed(list)], ids=repr)
def test_json_rejects(format: Format[Any, str], text: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        format.decode(text)
    assert repr(text[:40])[:-1] in str(caught.value), "the error shows what came"
    assert f"({len(text)} bytes)" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "it is empty"),
        (b"[1,", "truncated"),
        (b'"\\ud800"', "half a surrogate pair"),
        (b'"\xff"', "not UTF-8"),
        (b'{"a":[1e999]}', r"Number out of range - at `\$\[\.\.\.\]\[0\]`"),
        (b"[1,]", r"trailing comma in array \(byte 3\)"),
        (b"[" * 101 + b"]" * 101, "more than 100 deep"),
        (b"x" * 100, r"'x{40}'… \(100 bytes\)"),
        (b'\xef\xbb\xbf{"x": 1}', r"it begins with a UTF-8 byte order mark \(BOM\)"),
    ],
)
def test_what_a_decode_error_says(text: bytes, says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        Json().decode(text)


def test_undefined_by_the_standard_but_defined_here() -> None:
    assert Json().decode(b'{"a":1,"b":2,"a":3}') == {"a": 3, "b": 2}
    assert Json().decode(b"0.1234567890123456789012") == 0.12345678901234568
    assert Json().decode(b"12345678901234567890.5") == 12345678901234567890.5


@pytest.mark.parametrize(
    ("text", "deep"),
    [
        (nested(100), False),
        (nested(101), True),
        ([nested(99)] * 50, False),
        ([nested(100)] * 50, True),
        ([nested(50), [nested(100)]], True),
        ({"a]": nested(99), "b": ["]}"] * 200}, False),
        ({'a"]': {'b\\"[': nested(99)}, "c": ['\\"]}'] * 200}, True),
        ({'a"]': {'b\\"[': nested(98)}, "c": ['\\"]}'] * 200}, False),
    ],
)
def test_the_depth_scan_counts_right(text: Any, deep: bool) -> None:
    data = msgspec.json.encode(text)
    assert too_deep(data) is deep
    assert too_deep(msgspec.json.format(data, indent=1)) is deep


# ---- Json: values -----------------------------------------------------------------------------------

THERE_AND_BACK: list[Any] = [
    None,
    True,
    0,
    -(2**63),
    2**64,
    -(10**400),
    1.5,
    1e-320,
    1.7976931348623157e308,
    "",
    "äö😀\0\x7f\u2028",
    "null",
    ["null", None],
    {"null": None},
    {"a": [1, {"b": None}], "ключ": "значение"},
    nested(100),
    [None] * 1000,
    [[None]] * 1000,
    ["]"] * 1000,
    {"x": None, "y": 10**30, "z": 1.5},
    {"like a nan": "\u02ff\u02fd", "x": None},
    [2**63 + 0x7FF8, None, 0x7FF0_0000_0000_0000],
]


@pytest.mark.parametrize("value", THERE_AND_BACK, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("format", [Json(), Typed(Any)], ids=repr)
def test_json_there_and_back(format: Format[Any, str], value: Any) -> None:
    data = format.encode(value)
    assert type(data) is bytes
    assert format.decode(data) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, 2), b"[1,2]"),
        ({1}, b"[1]"),
        (b"abc", b'"YWJj"'),
        (datetime.date(2024, 2, 29), b'"2024-02-29"'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (decimal.Decimal("1.10"), b'"1.10"'),
        (decimal.Decimal("NaN"), b'"NaN"'),
        (Color.RED, b'"red"'),
        (Point(1), b'{"x":1,"y":0.0}'),
        (Place("a"), b'{"name":"a","what":null}'),
        ({1: 2}, b'{"1":2}'),
        (msgspec.Raw(b"[null]"), b"[null]"),
        ([msgspec.Raw(b"null"), 10**30], b"[null,1000000000000000000000000000000]"),
    ],
)
def test_json_sends_as_something_similar(value: Any, text: bytes) -> None:
    assert Json().encode(value) == text


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
NAN, INF = math.nan, math.inf

UNFIT: list[tuple[Any, str]] = [
    (NAN, r"JSON has no nan \(at \$\)"),
    (INF, "no inf"),
    (-INF, "no -inf"),
    ([1, NAN], r"at \$\[1\]"),
    ({"a": [None, {"b c": INF}]}, r"at \$\.a\[1\]\['b c'\]"),
    ({"big": 10**30, "x": NAN}, r"\$\.x"),
    ((1, (NAN,)), r"\$\[1\]\[0\]"),
    ({NAN}, r"\$\[0\]"),
    (Point(1, NAN), r"\$\.y"),
    (Place("a", [INF]), r"\$\.what\[0\]"),
    ([msgspec.Raw(b"1"), NAN], r"\$\[1\]"),
    ({"pad": "x" * 300, "n": NAN}, r"\$\.n"),
    (Plain(), r"a Plain at \$ does not fit JSON: .*Plain is unsupported"),
    ([1, {"a": Plain()}], r"a Plain at \$\[1\]\.a "),
    (Place("a", (1, {2: Plain()})), r"Plain at \$\.what\[1\]\[2\]"),
    ([{frozenset({1j})}], r"a complex at \$\[0\]\[0\]\[0\]"),
    (Empty, r"a StructMeta at \$ "),
    ({(1,): 2}, r"a dict at \$ .*keys"),
    ({"a": {None: 2}}, r"a dict at \$\.a .*keys"),
    ({Mute(): 1}, "a dict at"),
    ({1: Mute()}, "a Mute at"),
    ("\ud800", r"a str at \$ .*surrogates"),
    (["a", {"b": "\udfff"}], r"\$\[1\]\.b .*surrogates"),
    ({"\ud800": 1}, "surrogates"),
    ([{"\ud800": Plain()}], r"\$\[0\]\['\\ud800'\]"),
    (10**5000, "an int .*4300"),
    (CYCLE, "a list is nested too deep for JSON, or contains itself"),
    (nested(101), "a list nested more than 100 deep"),
    (nested(100_000), "nested"),
    ({"a": nested(100)}, "a dict nested more than 100 deep"),
    ([nested(99), Plain()], r"\$\[1\]"),
    (print, "a builtin_function_or_method"),
    (iter([1]), "list_iterator"),
]


@pytest.mark.parametrize(("value", "says"), UNFIT, ids=[says[:30] for _, says in UNFIT])
@pytest.mark.parametrize("format", [Json(), Typed(Any)], ids=repr)
def test_json_refuses(format: Format[Any, str], value: Any, says: str) -> None:
    with pytest.raises(FormatError, match=says) as caught:
        format.encode(value)
    assert len(str(caught.value)) < 400


def test_far_down_the_path_is_cut_off() -> None:
    value: Any = Plain()
    for _ in range(MAX_DEPTH + 20):
        value = [value]
    with pytest.raises(FormatError, match=r"a list at \$(\[0\]){100} does not fit"):
        Json().encode(value)


def test_integers_of_4300_digits() -> None:
    value = 10**4300 - 1
    assert Json().decode(Json().encode(value)) == value
    with pytest.raises(FormatError):
        Json().encode(value + 1)
    with pytest.raises(DecodeError):
        Json().decode(b"9" * 4301)


# ---- Typed and MsgPack: the class that is sent ------------------------------------------------------

FITS: list[tuple[Any, Any]] = [
    (Point, Point(1, 2.0)),
    (Place, Place("a", [1])),
    (Row, {"id": 1}),
    (Pair, Pair(1, 2)),
    (Color, Color.RED),
    (Either, Either(Point(1), [Either()])),
    (Box[int], Box(1)),
    (list[Point], [Point(1), Point(2)]),
    (dict[str, int], {"a": 1}),
    (tuple[int, ...], (1, 2)),
    (Sequence[int], [1]),
    (int, 1),
    (bool, True),
    (int | bool, True),
    (float, 1.5),
    (str, "a"),
    (bytes, b"abc"),
    (datetime.datetime, datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)),
    (None, None),
    (Point | None, None),
    (Union[Point, int, str], 3),  # noqa: UP007
    (Point | Any, "x"),
    (Literal["a", 1], "a"),
    (Natural, 3),
    (Celsius, 1.5),
    (Any, [1]),
    (object, [1]),
    (Annotated[list[Natural], msgspec.Meta(max_length=3)], [1, 2]),
]


@pytest.mark.parametrize("make", [Typed, MsgPack])
@pytest.mark.parametrize(("type", "value"), FITS, ids=lambda case: str(case)[:30])
def test_typed_there_and_back(make, type, value) -> None:
    format = make(type)
    assert format.type is type
    for _ in range(2):
        result = format.decode(format.encode(value))
        assert result == value
        assert result.__class__ is value.__class__


@pytest.mark.parametrize("make", [Typed, MsgPack])
def test_what_is_like_it_is_sent_too(make) -> None:
    assert make(Point).decode(make(Point).encode(Point3(1, 2.0, 3.0))) == Point(1, 2.0)
    assert make(float).decode(make(float).encode(1)) == 1.0
    assert make(bytes).decode(make(bytes).encode(bytearray(b"a"))) == b"a"


@pytest.mark.parametrize("make", [Typed, MsgPack])
@pytest.mark.parametrize(
    ("type", "value", "says"),
    [
        (Point, {"x": 1}, r"expected Point, got dict: \{'x': 1\}"),
        (Point, Place("a"), "expected Point, got Place"),
        (Point, None, "expected Point, got NoneType"),
        (Point, Mute(), "expected Point, got Mute: …"),
        (Point3, Point(1), "expected Point3, got Point"),
        (list[Point], (1,), r"expected list\[.*Point\], got tuple"),
        (Row, [1], "expected Row, got list"),
        (int | None, "x" * 500, r"expected int \| None, got str: 'x{59}$"),
        (int, True, "expected int, got bool"),
        (float, False, "expected float, got bool"),
        (int, 1.0, "expected int, got float"),
        (Literal["a", 1], 2.0, r"expected Literal\['a', 1\], got float"),
        (Natural, "1", "expected .*int.*, got str"),
        (bytes, "a", "expected bytes, got str"),
    ],
)
def test_another_class_is_refused(make, type, value, says) -> None:
    with pytest.raises(FormatError, match=says):
        make(type).encode(value)


@pytest.mark.parametrize(
    ("type", "text", "says"),
    [
        (Point, b"{}", "does not fit Point: .*missing required field `x`"),
        (Point, b'{"x":"a"}', r"Expected `int`, got `str` - at `\$\.x`"),
        (Point, b'{"x":1e999}', r"out of range - at `\$\.x`"),
        (Point, b'{"x":1,"unknown":"\xff"}', "not UTF-8"),
        (Point, b'{"x":1,"unknown":"\\ud800"}', "half a surrogate"),
        (list[Point], b'[{"x":1},[]]', r"Expected `object`, got `array` - at `\$\[1\]`"),
        (int, b"1e3", "Expected `int`"),
        (float, b"1" * 400, "out of range"),
        (Picky, b'{"x":-1}', "KeyError: 'negative'"),
        (Either, b'{"more":[' * 100 + b"]}" * 100, "more than 100 deep"),
    ],
)
def test_typed_rejects(type, text, says) -> None:
    with pytest.raises(DecodeError, match=says):
        Typed(type).decode(text)


def test_typed_is_as_strict_as_json() -> None:
    assert Typed(Point).decode('{"x":1,"unknown":"ä"}'.encode()) == Point(1)
    assert Typed(Point).decode(b'{"x":1,"unknown":1e999}') == Point(1)  # it is a number, though of no use
    with pytest.raises(FormatError, match=r"no nan \(at \$\.y\)"):
        Typed(Point).encode(Point(1, NAN))
    with pytest.raises(FormatError, match=r"\$\.what"):
        Typed(Place).encode(Place("a", Plain()))
    with pytest.raises(FormatError, match="more than 100 deep"):
        Typed(list).encode(nested(101))
    half = Point(1)
    del half.x
    with pytest.raises(FormatError, match="Struct field 'x' is unset"):
        Typed(Point).encode(half)


def test_json_and_typed_understand_each_other() -> None:
    assert Json().name == Typed(Point).name == "json"
    assert Typed(Point).decode(Json().encode({"x": 1, "y": 2})) == Point(1, 2.0)
    assert Json().decode(Typed(Point).encode(Point(1, 2.0))) == {"x": 1, "y": 2.0}


@pytest.mark.parametrize("make", [Typed, MsgPack])
@pytest.mark.parametrize(
    ("type", "says"),
    [
        (Plain, "cannot read Plain from a message; make it"),
        (Holder, r"cannot read Plain \(inside Holder\)"),
        (dict[str, Plain | None], r"cannot read Plain \(inside dict"),
        (complex, "cannot read complex"),
        (Shape, "cannot read Shape"),
        (Point | Row, "more than one dict-like type"),
        (Undefined, "cannot read Undefined .*Nowhere"),
        ("Point", "use the type itself, not 'Point'"),
        (..., "use the type itself"),
        (3, "cannot read 3"),
    ],
)
def test_types_that_no_message_can_be_of(make, type, says) -> None:
    with pytest.raises(TypeError, match=says):
        make(type)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is new in Python 3.12")
def test_type_statements_are_seen_through() -> None:
    names: dict[str, Any] = {"Point": Point}
    exec("type Alias = Point", names)
    assert Typed(names["Alias"]).decode(b'{"x":1}') == Point(1)
    with pytest.raises(FormatError, match="expected Alias, got int"):
        Typed(names["Alias"]).encode(1)


def test_a_type_that_msgspec_reads_but_cannot_describe(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(type: Any) -> Any:
        raise TypeError("'<' not supported")

    monkeypatch.setattr(msgspec.inspect, "type_info", fail)
    assert Typed(Literal["a", 1]).decode(b"1") == 1


# ---- MsgPack ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, 2**64 - 1, -(2**63), INF, "ä", b"\xff", [1, [2]], {1: 2, (1, 2): 3, None: 4}, {"a": None}],
)
def test_msgpack_there_and_back(value: Any) -> None:
    assert MsgPack().decode(MsgPack().encode(value)) == value


def test_msgpack_has_nan() -> None:
    assert math.isnan(MsgPack().decode(MsgPack().encode(NAN)))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (2**64, r"an int at \$ does not fit MessagePack: .*2\*\*64"),
        ([1, {"a": -(2**63) - 1}], r"\$\[1\]\.a"),
        (Plain(), "Plain"),
        ("\ud800", "surrogates"),
        (CYCLE, "too deep for MessagePack, or contains itself"),
        (nested(100_000), "too deep"),
    ],
)
def test_msgpack_refuses(value: Any, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        MsgPack().encode(value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"\xc1", "does not fit MessagePack: .*invalid opcode"),
        (b"\x01\x01", "trailing"),
        (b"\x81\xa1a", "truncated"),
        (b"\xdd\xff\xff\xff\xff", "truncated"),
        (b"\xc6\xff\xff\xff\xff", "truncated"),
        (b"\xa1\xff", "not UTF-8"),
        (b"\x81\xa1\xff\x01", "not UTF-8"),
        (b"\x81\x80\x01", "hashable"),
        (b"\x91" * 200_000 + b"\x01", "nested too deep"),
        (b"\xc7\x0c\xff" + b"\xff" * 12, "timestamp"),
    ],
    ids=lambda case: repr(case)[:30],
)
def test_msgpack_rejects(data: bytes, says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        MsgPack().decode(data)


def test_msgpack_of_a_type() -> None:
    with pytest.raises(DecodeError, match=r"does not fit Point: Expected `int`, got `str` - at `\$\.x`"):
        MsgPack(Point).decode(msgspec.msgpack.encode({"x": "a"}))


# ---- all of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "text", "name"),
    [
        (Bytes(), "Bytes()", "bytes"),
        (Json(), "Json()", "json"),
        (Typed(Point), "Typed(Point)", "json"),
        (Typed(int | None), "Typed(int | None)", "json"),
        (Typed(list[int]), "Typed(list[int])", "json"),
        (MsgPack(), "MsgPack()", "msgpack"),
        (MsgPack(Point), "MsgPack(Point)", "msgpack"),
    ],
)
def test_names(format, text, name) -> None:
    assert repr(format) == text
    assert format.name == name
    assert as_format(format) is format


class _OutOfMemory:
    """Stands in for msgspec when there is no memory: that is not the message's fault."""

    def __call__(self, *args: Any) -> Any:
        raise MemoryError


def test_no_memory_is_no_fault_of_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from linkbox import formats

    for name in ("json_encode", "json_decode", "msgpack_encode"):
        monkeypatch.setattr(formats, name, _OutOfMemory())
    typed: list[Any] = [Typed(int), MsgPack(int)]
    for format in typed:
        format._decode = _OutOfMemory()
    for format in [Json(), *typed]:
        with pytest.raises(MemoryError):
            format.encode(1)
        with pytest.raises(MemoryError):
            format.decode(b"1")


def test_formats_are_shared_between_threads() -> None:
    """msgspec promises it; eight threads with one format each of their own values."""
    formats: list[Any] = [Json(), Typed(list[int]), MsgPack()]
    wrong: list[Any] = []

    def work(number: int) -> None:
        value = list(range(number, number + 100))
        for _ in range(300):
            wrong.extend(one for one in formats if one.decode(one.encode(value)) != value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- as_format --------------------------------------------------------------------------------------


class Mine:
    name = "mine"

    def encode(self, value: int) -> bytes:
        return b"%d" % value

    def decode(self, data: bytes) -> int:
        return int(data)


class Needy(Mine):
    def __init__(self, level: int) -> None: ...


@pytest.mark.parametrize(
    ("given", "kind"), [(Bytes, Bytes), (Json, Json), (MsgPack, MsgPack), (Mine, Mine), (Mine(), Mine)]
)
def test_as_format(given, kind) -> None:
    assert type(as_format(given)) is kind


def attributes(**values: Any) -> object:
    return type("Given", (Mine,), values)()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Typed, r"needs the type of the messages: format=Typed\(MyStruct\)"),
        (Point, r"format=Typed\(Point\)"),
        (dict, r"format=Typed\(dict\)"),
        (str, r"format=Typed\(str\)"),
        (Needy, r"is a class whose constructor needs arguments; use an instance: Needy\(…\)"),
        ("json", "is a str; use a format"),
        (None, "has no name, encode, decode; use"),
        (3, "has no name, encode, decode"),
        (print, "a function that answers requests is given by handler="),
        (Plain(), "has no name"),
        (list[int], "has no name|has no encode"),
        (attributes(name=3), "must be a str of 1 to 100 characters, not 3"),
        (attributes(name=""), "1 to 100"),
        (attributes(name="x" * 101), "1 to 100"),
        (attributes(encode=3), "must be methods"),
        (attributes(decode=None), "must be methods"),
    ],
    ids=lambda case: str(case)[:30],
)
def test_as_format_helps(given, says) -> None:
    with pytest.raises(TypeError, match=says):
        as_format(given)


# --- Text, Json(default=), Typed(Question, Answer) -----------------------------------------------------


@pytest.mark.parametrize(
    ("format", "value", "data", "name"),
    [
        (Text(), "° ", "° ".encode(), "text"),
        (Text("UTF8"), "", b"", "text"),
        (Text("latin-1"), "°", b"\xb0", "text:iso8859-1"),
        (Text("ascii", "replace"), "?", b"?", "text:ascii"),
    ],
)
def test_text(format: Text, value: str, data: bytes, name: str) -> None:
    assert (format.encode(value), format.decode(data), format.name) == (data, value, name)
    assert as_format(Text).name == "text"


def test_text_that_does_not_fit() -> None:
    with pytest.raises(FormatError, match="cannot send an int over Text"):
        Text().encode(1)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="does not fit ascii"):
        Text("ascii").encode("°")
    with pytest.raises(FormatError, match="does not fit utf-8"):
        Text().encode("\udc80")
    with pytest.raises(DecodeError, match="not UTF-8"):
        Text().decode(b"\xb0")
    assert Text(errors="replace").decode(b"\xb0") == "\ufffd"
    assert (repr(Text()), repr(Text("ascii", "ignore"))) == (
        "Text('utf-8')",
        "Text('ascii', errors='ignore')",
    )
    for wrong in (("nonsense", "strict"), ("utf-8", "nonsense"), (1, "strict"), ("hex", "strict")):
        with pytest.raises(ValueError, match=r"Text\("):
            Text(*wrong)  # type: ignore[arg-type]


class Meters:
    """A number of another library."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value


def test_json_with_a_default() -> None:
    format = Json(default=float)
    assert format.encode([Meters(1.5), None, {"a": Meters(2.0)}]) == b'[1.5,null,{"a":2.0}]'
    with pytest.raises(FormatError, match=r"JSON has no inf \(at \$\[1\]\)"):
        format.encode([1, Meters(float("inf"))])
    with pytest.raises(FormatError, match=r"an object at \$\[0\] does not fit JSON"):
        format.encode([object()])
    assert Json(default=None).encode(1) == b"1"
    assert "Json(default=<class 'float'>)" in repr(format)
    with pytest.raises(TypeError, match="takes a function"):
        Json(default=1)  # type: ignore[arg-type]


def test_a_pair_of_types() -> None:
    client = Typed(int, str)
    server = client.of_server()
    assert client.is_pair and not Typed(int).is_pair
    assert (client.encode(1), client.decode(b'"a"')) == (b"1", "a")
    assert (server.encode("a"), server.decode(b"1")) == (b'"a"', 1)
    assert repr(client) == "Typed(int, str)"
    with pytest.raises(FormatError, match="expected int, got str"):
        client.encode("a")  # type: ignore[arg-type]
    with pytest.raises(DecodeError, match="does not fit str"):
        client.decode(b"1")
    for wrong in ((Meters, int), (int, Meters)):
        with pytest.raises(TypeError, match="cannot read Meters"):
            Typed(*wrong)

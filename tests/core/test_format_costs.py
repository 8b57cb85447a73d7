"""What decoding costs: no value takes more memory than was estimated, and what is slow is found.

Memory is measured by tracemalloc, and time not at all: docs/limits.md says what was measured.
"""

from __future__ import annotations

import datetime
import decimal
import json
import random
import struct
import sys
import tracemalloc
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from linkbox.format_costs import (
    LONG_NUMBER,
    QUICK,
    SLOW_NUMBER,
    SMALL,
    STEP,
    Weights,
    _near_exponents,
    _outside_of_strings,
    cost_of,
    weights_of,
)
from linkbox.formats import Bytes, Json, MsgPack, Text, Typed
from linkbox.limits import Limits
from linkbox.msgpack_survey import Survey

LIMIT = Limits().decoded
MODULUS = (1 << 61) - 1
"""All multiples of it have the same hash."""


class Empty(msgspec.Struct):
    pass


class Wide(msgspec.Struct):
    a: list[int] = []
    b: dict[str, int] = {}
    c: set[int] = set()
    d: int = 0


@dataclass
class Plain:
    a: list[int] = field(default_factory=list)
    b: int = 0


class Pair(NamedTuple):
    a: int = 0
    b: int = 0


class Fields(TypedDict, total=False):
    a: int


def array(item: bytes | str, size: int = 3 * QUICK) -> bytes:
    """A JSON array of the same item again and again."""
    item = item.encode() if isinstance(item, str) else item
    return b"[" + b",".join([item] * (size // (len(item) + 1))) + b"]"


def packed(item: bytes, size: int = 3 * QUICK) -> bytes:
    """The same in MessagePack."""
    count = size // len(item)
    return b"\xdd" + struct.pack(">I", count) + item * count


JSON_ITEMS = [
    *(
        "[]",
        "{}",
        '""',
        "0",
        "300",
        "1.5",
        "99999999999999999999",
        "1e5",
        "null",
        "[0]",
        "[[]]",
        '"ab"',
        '"é"',
    ),
    *('"a😀"', '"\\ud83d\\ude00"', '{"":0}', '{"":{}}', '{"a":[]}', '{"a":"b","c":"d"}', '"\\n"', '"["'),
    *("[" * 98 + "]" * 98, '{"":' * 98 + "0" + "}" * 98, '"' + "a" * 3000 + '\\ud83d\\ude00"', "9" * 4300),
]
TYPED_ITEMS: list[tuple[Any, str]] = [
    (decimal.Decimal, "1"),
    (decimal.Decimal, '"1.25"'),
    (uuid.UUID, f'"{uuid.UUID(int=5)}"'),
    (datetime.datetime, '"2020-01-01T00:00:00+01:01"'),
    (datetime.date, '"2020-01-01"'),
    (datetime.time, '"00:00:00+01:01"'),
    (datetime.timedelta, '"P1D"'),
    (bytes, '"AAAA"'),
    (bytearray, '""'),
    (memoryview, '""'),
    (msgspec.Raw, "1"),
    (float, "1"),
    (set[str], "[]"),
    (set[int], "[1000]"),
    (frozenset[str], '["ab"]'),
    (tuple[int, ...], "[0]"),
    (dict[str, int], '{"0":0}'),
    (dict[int, int], '{"1000":0}'),
    (Empty, "{}"),
    (Wide, "{}"),
    (Plain, "{}"),
    (Pair, "[]"),
    (Fields, "{}"),
    (Literal["a", "b"], '"a"'),
    (int | str | None | list[Any] | dict[str, Any], '{"a":[]}'),
]
PACKED_ITEMS = [
    *(b"\x90", b"\x80", b"\xc0", b"\0", b"\xa0", b"\xa2ab", b"\xc4\0", b"\xc4\x02ab", b"\xca\0\0\0\1"),
    *(b"\xcb" + struct.pack(">d", 1.1), b"\xcd\x7f\0", b"\x91\0", b"\x81\0\0", b"\x81\0\x80", b"\x91\x90"),
    *(b"\xc7\0\x05", b"\xd4\x05\0", b"\xd6\xff\0\0\0\0", b"\xa4\xf0\x9f\x98\x80", b"\x91" * 90 + b"\0"),
    *(
        b"\xd9\x02ab",
        b"\xda\0\x02ab",
        b"\xdb\0\0\0\x02ab",
        b"\xc5\0\x01a",
        b"\xc6\0\0\0\x01a",
        b"\xdc\0\x01\0",
    ),
]
PACKED_TYPES: list[tuple[Any, bytes]] = [
    (decimal.Decimal, b"\0"),
    (decimal.Decimal, b"\xa11"),
    (uuid.UUID, b"\xc4\x10" + b"\1" * 16),
    (datetime.datetime, b"\xd6\xff\0\0\0\0"),
    (set[str], b"\x90"),
    (frozenset[int], b"\x91\0"),
    (Empty, b"\x80"),
    (Wide, b"\x80"),
    (Plain, b"\x80"),
    (Pair, b"\x90"),
]


def memory_of(format: Any, data: bytes) -> int:
    """The memory that the value takes, which shares nothing with anything before it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        value = format.decode(data)
        after = tracemalloc.get_traced_memory()[0]
        del value
        return after - before
    finally:
        tracemalloc.stop()


def cost(format: Any, *payloads: bytes) -> tuple[int, int]:
    known = cost_of(format, LIMIT)
    assert known is not None
    return known.of(payloads)


def is_enough(format: Any, data: bytes) -> None:
    assert cost(format, data)[0] >= memory_of(format, data)


@pytest.mark.parametrize("size", [100, SMALL - 100, 3 * QUICK])
@pytest.mark.parametrize("item", JSON_ITEMS, ids=[item[:12] for item in JSON_ITEMS])
def test_json_takes_no_more_memory_than_estimated(item: str, size: int) -> None:
    is_enough(Json(), array(item, max(size, len(item.encode()) + 1)))


@pytest.mark.parametrize("size", [100, SMALL - 100, 3 * QUICK])
@pytest.mark.parametrize(
    ("type", "item"), TYPED_ITEMS, ids=[f"{each[0]} {each[1][:8]}" for each in TYPED_ITEMS]
)
def test_a_type_takes_no_more_memory_than_estimated(type: Any, item: str, size: int) -> None:
    is_enough(Typed(list[type]), array(item, max(size, len(item) + 1)))


@pytest.mark.parametrize("size", [100, SMALL - 100, 3 * QUICK])
@pytest.mark.parametrize("item", PACKED_ITEMS, ids=[item[:8].hex() for item in PACKED_ITEMS])
def test_messagepack_takes_no_more_memory_than_estimated(item: bytes, size: int) -> None:
    is_enough(MsgPack(), packed(item, max(size, len(item))))


@pytest.mark.parametrize("size", [100, SMALL - 100, 3 * QUICK])
@pytest.mark.parametrize(
    ("type", "item"), PACKED_TYPES, ids=[f"{each[0]} {each[1][:4].hex()}" for each in PACKED_TYPES]
)
def test_a_type_in_messagepack_takes_no_more_memory_than_estimated(type: Any, item: bytes, size: int) -> None:
    is_enough(MsgPack(list[type]), packed(item, size))


def test_messages_together_take_no_more_memory_than_estimated() -> None:
    for text in (b"{}", b"[]", b'{"a":1.5}', b"1000", b'"ab"'):
        values = 1000 * memory_of(Json(), text)
        assert cost(Json(), *[text] * 1000)[0] >= values
    for packed_text in (b"\x80", b"\x90", b"\x81\xa1a\xcb" + bytes(8), b"\xcd\x7f\0"):
        assert cost(MsgPack(), *[packed_text] * 1000)[0] >= 1000 * memory_of(MsgPack(), packed_text)


def documents(count: int) -> list[dict[str, Any]]:
    """What applications really send."""
    return [
        {
            "id": number,
            "name": f"sensor {number}",
            "values": [number * 1.1, 2.5],
            "ok": True,
            "when": "2020-01-01",
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("format", [Json(), MsgPack()], ids=str)
@pytest.mark.parametrize("count", [1000, 20_000])
def test_the_estimate_for_usual_messages_is_not_far_off(format: Any, count: int) -> None:
    data = format.encode(documents(count))
    memory, work = cost(format, data)
    assert memory < 6 * memory_of(format, data)
    assert memory + work < LIMIT


@pytest.mark.parametrize("format", [Json(), MsgPack()], ids=str)
@pytest.mark.parametrize("count", [1, 30])
def test_small_messages_are_estimated_roughly(format: Any, count: int) -> None:
    data = format.encode(documents(count))
    assert cost(format, data)[0] < 60 * len(data)


@pytest.mark.parametrize("size", [5000, 100_000, 10 << 20])
def test_bytes_in_messagepack_count_as_they_are(size: int) -> None:
    """Random bytes look like heads of everything."""
    data = MsgPack().encode({"id": 7, "picture": random.Random(1).randbytes(size), "after": [1, 2]})
    memory, work = cost(MsgPack(), data)
    assert size < memory < size + 2000
    assert not work


def test_a_text_of_16_mebibytes_is_no_problem() -> None:
    for text in (b'"' + b"e3" * (8 << 20) + b'"', b'"' + b"hello, [world] " * (1 << 20) + b'"'):
        assert sum(cost(Json(), text)) < LIMIT
    assert sum(cost(Json(), b'"' + b"e300" * (4 << 20) + b'"')) < LIMIT, "no number, but a text"
    assert sum(cost(Json(), rb'"\"' + b"e300" * (4 << 20) + b'"')) < LIMIT


@pytest.mark.parametrize("size", [1, 7, 64 * 1024])
def test_what_is_outside_of_strings_does_not_depend_on_the_pieces(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linkbox.format_costs._PIECE", size)
    chance = random.Random(3)
    texts = ["".join(chance.choices('ab"\\\\,:[{ ', k=chance.randrange(20))) for _ in range(200)]
    found = list(_outside_of_strings(Json().encode([texts, {"a": texts}])))
    outside = b"".join(each for each, _ in found).replace(b" ", b"")
    assert outside == b"[[%s],{:[%s]}]" % (b"," * 199, b"," * 199)
    assert sum(count for _, count in found) == 401


def test_an_estimate_takes_little_memory_itself() -> None:
    """Millions of strings: they must not become millions of objects to count them."""
    data = array('"ab"', 8 << 20)
    tracemalloc.start()
    try:
        assert sum(cost(Json(), data)) > LIMIT
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()


# ---- what is slow -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", ["1e308", "1e-308", "1E+300", "-9.5e307", "5e-324", "1.7976931348623157e0308"]
)
@pytest.mark.parametrize("format", [Json(), Typed(list[float])], ids=str)
def test_each_number_with_a_large_exponent_counts(format: Any, number: str) -> None:
    data = array(number)
    assert cost(format, data)[1] >= SLOW_NUMBER * data.count(number.encode())
    assert sum(cost(format, array(number, 1 << 20))) > LIMIT
    assert cost(format, array(number, QUICK))[1] == 0, "a short message is quick in any case"


def test_numbers_of_two_digits_of_exponent_count_less() -> None:
    assert 100 * 5000 < cost(Json(), array("1e23", 25_000 * 5))[1] < SLOW_NUMBER * 5000
    assert cost(Json(), array("1.25e-07", 25_000 * 5))[1] == 0, "they are as quick as others"


@pytest.mark.parametrize(
    "number",
    [
        "999999999999999.5",
        "9007199254740993.5",
        "9007199254740993e0",
        "90071992547409930e-1",
        "90071992547.40993e5",
        "9.007199254740993E+15",
        "9007199254740993000000e-6",
        "0.0009007199254740993e19",
        "562949953421313.0625",
    ],
)
def test_numbers_halfway_between_two_floats_count(number: str) -> None:
    """The decoder has to compare them digit by digit: 12 MiB of them took 0.28 s."""
    assert sum(cost(Json(), array(number, 12 << 20))) > LIMIT


@pytest.mark.parametrize(
    "number",
    [
        "99999999999999.25",
        "9999999999999.875",
        "999999999999.0625 ",
        "9999999999.015625",
        "99999999999999.00",
        "99999999999999.750",
        "9999999999999925e-2",
        "9.999999999999925e13",
    ],
)
def test_long_numbers_that_are_exact_in_binary_count(number: str) -> None:
    """So has it with these: 16 MiB of them took 0.3 s."""
    assert sum(cost(Json(), array(number, 12 << 20))) > LIMIT


def test_measured_values_hardly_do() -> None:
    """Of floats with all their digits, one in fifty looks as if it were exact in binary."""
    numbers = random.Random(1)
    measured = json.dumps([numbers.random() for _ in range(100_000)]).encode()
    memory, work = cost(Json(), measured)
    assert 0 < work < memory / 4


@pytest.mark.parametrize("number", ["0.30000000000000004", "1234567.891", "-273.15", "1764410400123456789"])
def test_usual_numbers_do_not(number: str) -> None:
    assert cost(Json(), array(number, 12 << 20))[1] == 0


def test_digits_of_long_integers_count() -> None:
    for digits in (LONG_NUMBER + 1, 600, 4300):
        assert cost(Json(), array("9" * digits, 2 << 20))[1] > 5 * (2 << 20)
    assert cost(Json(), array("9" * (LONG_NUMBER - 1), 2 << 20))[1] == 0
    assert sum(cost(Json(), array("9" * 4300, 8 << 20))) > LIMIT


def numbers(count: int) -> list[int]:
    """Different numbers with the same hash."""
    return [number * MODULUS for number in range(count)]


def quoted(count: int) -> bytes:
    return b",".join(b'"%d":0' % number for number in numbers(count))


KEYED: list[tuple[Any, bytes]] = [
    (Typed(set[int]), b"[%s]" % b",".join(b"%d" % number for number in numbers(5000))),
    (Typed(frozenset[decimal.Decimal]), b"[%s]" % b",".join(b'"%d"' % number for number in numbers(5000))),
    (Typed(dict[int, int]), b"{%s}" % quoted(5000)),
    (Typed(list[set[uuid.UUID] | None]), b"[[%s]]" % b",".join(b'"%032x"' % each for each in numbers(5000))),
    (MsgPack(set[int]), msgspec.msgpack.encode(list(range(2**60, 2**60 + 5000)))),
    (
        MsgPack(dict[uuid.UUID, int]),
        msgspec.msgpack.encode({bytes([*number.to_bytes(16, "big")]): 0 for number in numbers(5000)}),
    ),
    (MsgPack(), msgspec.msgpack.encode({number << 40: 0 for number in range(10_000)})),
    (
        MsgPack(),
        b"\xdf"
        + struct.pack(">I", 8000)
        + b"".join(b"\x91\xcd" + struct.pack(">H", n) + b"\0" for n in range(8000)),
    ),
    (
        MsgPack(),
        b"\xdf"
        + struct.pack(">I", 5000)
        + b"".join(b"\xd6\x05" + struct.pack(">I", n) + b"\0" for n in range(5000)),
    ),
    (MsgPack(Any), msgspec.msgpack.encode([{number << 40: 0 for number in range(10_000)}])),
]


@pytest.mark.parametrize(("format", "data"), KEYED, ids=[str(each[0]) for each in KEYED])
def test_many_keys_whose_hashes_can_be_chosen_cost_too_much(format: Any, data: bytes) -> None:
    assert len(data) > QUICK
    assert sum(cost(format, data)) > LIMIT


def test_keys_that_are_text_cost_nothing_more() -> None:
    many = {f"key {number}": number for number in range(50_000)}
    assert cost(Json(), Json().encode(many))[1] == 0
    assert cost(Typed(dict[str, int]), Json().encode(many))[1] == 0
    assert cost(Typed(set[str]), Json().encode(list(many)))[1] == 0
    assert cost(MsgPack(), MsgPack().encode(many))[1] == 0
    assert cost(MsgPack(dict[str, int]), MsgPack().encode(many))[1] == 0


def test_some_thousand_numbers_as_keys_are_no_problem() -> None:
    known = dict.fromkeys(range(2000), "some text")
    assert (
        sum(cost(MsgPack(), MsgPack().encode({**known, **{-number: "" for number in range(1, 4000)}})))
        < LIMIT
    )
    assert sum(cost(Typed(dict[int, str]), Json().encode(known))) < LIMIT
    assert sum(cost(MsgPack(dict[int, str]), MsgPack().encode(known))) < LIMIT


def test_arrays_of_numbers_in_messagepack_are_no_keys() -> None:
    """Also if their bytes look like large maps, and if they are of all sizes."""
    chance = random.Random(2)
    floats = [chance.random() for _ in range(100_000)]
    mixed = [chance.choice((5, 300, 70_000, 1 << 40, 0.5, None, True)) for _ in range(100_000)]
    for values in (floats, mixed, {"a": floats, "b": mixed}, [floats] * 3):
        data = MsgPack().encode(values)
        memory, work = cost(MsgPack(), data)
        assert not work
        assert memory < 10 * memory_of(MsgPack(), data)


def test_what_cannot_be_surveyed_in_time_is_taken_for_the_worst() -> None:
    data = packed(b"\xa1\xde\xc0", 6 * LIMIT // STEP)
    assert sum(cost(MsgPack(), data)) > LIMIT


# ---- what is known of types -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a", "a" * 1000, "é" * 1000, "a" * 1000 + "☃", "a" * 1000 + "😀"])
def test_text(text: str) -> None:
    data = text.encode()
    assert cost(Text(), data)[0] >= sys.getsizeof(text)
    assert cost(Text(), data)[1] == 0


def test_a_pair_of_types_costs_what_is_received() -> None:
    data = b"[" + b'"",' * 5000 + b'""]'
    assert cost(Typed(int, list[str]), data) == cost(Typed(list[str]), data)


def test_formats_that_have_no_cost() -> None:
    class Own:
        name = "own"

        def encode(self, value: str) -> bytes:
            return value.encode()

        def decode(self, data: bytes) -> str:
            return data.decode()

    assert cost_of(Bytes(), LIMIT) is None
    assert cost_of(Own(), LIMIT) is None


def test_a_type_that_cannot_be_described_may_be_any(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(type: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(msgspec.inspect, "type_info", fails)
    assert weights_of(int).has_any


def test_what_a_factory_makes_is_taken_for_large() -> None:
    class Own(msgspec.Struct):
        a: list[int] = msgspec.field(default_factory=lambda: [1, 2, 3])

    assert weights_of(Own).map > Weights().map


def test_a_wide_struct_makes_its_members_cost_more() -> None:
    wide = msgspec.defstruct("wide", [(f"f{number}", int, 0) for number in range(300)])
    assert weights_of(wide).member > 300


# ---- the survey -------------------------------------------------------------------------------------------


def survey(data: bytes, steps: int = 1 << 40) -> Survey:
    found = Survey()
    assert found.go(data, steps)
    return found


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": [1, 2.5, {}], "b": b"abc", "long" * 20: "text" * 100},
        list(range(200)),
        [[number] * 3 for number in range(100)],
        {"x": [1.5] * 100, 7: {8: [None] * 40, "9": b"x" * 70_000}},
        [2**63, -(2**63), 2**31, -(2**31), 2**15, -(2**15), 200, -100, 0, -1],
    ],
)
def test_a_survey_counts_what_is_there(value: Any) -> None:
    found = survey(msgspec.msgpack.encode(value))
    expected = {"values": 0, "texts": 0, "arrays": 0, "maps": 0, "letters": 0}
    waiting = [value]
    while waiting:
        each = waiting.pop()
        expected["values"] += 1
        if isinstance(each, dict):
            expected["maps"] += 1
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            expected["arrays"] += 1
            waiting += each
        elif isinstance(each, (str, bytes)):
            expected["texts"] += 1
            expected["letters"] += len(each) * isinstance(each, str)
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.at == len(msgspec.msgpack.encode(value))


def test_a_survey_counts_pairs_of_keys() -> None:
    assert survey(msgspec.msgpack.encode({1: 0, 2.5: 0, "a": 0, None: 0})).pairs == 9
    assert survey(msgspec.msgpack.encode([{1: 2}, {3: {4: 5, 6: 7}}])).pairs == 1 + 1 + 4
    assert survey(b"\x82\x91\0\0\xd4\x05\0\0").pairs == 64, "an array and an extension"


def test_a_survey_goes_on_where_it_stopped() -> None:
    data = msgspec.msgpack.encode([documents(5), {1: 2}, [1.5] * 500])
    whole, parts = survey(data), Survey()
    while not parts.go(data, 3):
        pass
    for name in ("values", "texts", "arrays", "maps", "pairs", "letters"):
        assert getattr(parts, name) == getattr(whole, name)


@pytest.mark.parametrize(
    "data", [b"\xdf\xff\xff\xff\xff", b"\xdc", b"\xdb\0\xff", b"\xc1", b"\x91" * 5000, b"\x82\0"]
)
def test_a_survey_of_nonsense_ends(data: bytes) -> None:
    survey(data)
    cost(MsgPack(), data)


@pytest.mark.parametrize("others", [0, 20, 2000])
def test_what_is_near_the_exponents_has_the_same_counts(others: int) -> None:
    """In shorter text, if there are few of them."""
    chance = random.Random(others)
    patterns = (b"e", b"e0", b"e-", b"e000", b"e-000", b"0" * 15 + b"e")
    for _ in range(100):
        parts = chance.choices([b"e", b"e", b"0", b"00", b"-", b"0" * 15, b".", b"," * others], k=200)
        text = b"".join(parts)
        near = _near_exponents(text)
        assert [near.count(each) for each in patterns] == [text.count(each) for each in patterns]
        assert len(near) < len(text) / 5 or others < 2000

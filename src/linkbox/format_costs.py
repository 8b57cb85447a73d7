"""What it costs to decode a message: an upper estimate, made from its bytes before it is decoded.

A few bytes can become a large value: an empty list takes one byte of MessagePack and 72 bytes of memory. So
limits count what a message costs when it is decoded, not its size. `cost_of` returns the `Cost` of a format.

**Memory** (`Cost.memory`) follows from the number of commas, colons and brackets of JSON, or of the heads of
MessagePack. `Weights` has the bytes for one of each; they depend on the type that is decoded. Creating a
byte of a value takes at most 1.3 ns on the machine where docs/limits.md was measured, so a limit on memory is
also a limit on time, with two exceptions.

**Work** (`Cost.work`) counts the exceptions, in bytes that take as long:

- Numbers of JSON that msgspec converts slowly: 8 µs for each exponent of about ±300, and a time that grows
  with the square of the digits for long integers.
- Keys that are not text. The hash of a number can be chosen, so n keys of one set or dict can cost n²
  comparisons. The hash of a text or of bytes has a secret seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, Protocol

import msgspec

from .formats import Format, Json, MsgPack, Text, Typed
from .msgpack_survey import Survey

SMALL: Final = 1024
"""Up to this size one count is enough: the estimate is rough, and takes 0.2 µs."""
_STR: Final = 80
"""Bytes of memory of a str, besides its characters, with its place in a list."""
QUICK: Final = 32 * 1024
"""A message of this size is decoded quickly whatever is in it: its work is not counted."""
SLOW_NUMBER: Final = 8 * 1024
"""Work of a number with an exponent of three digits, such as 1e308."""
_EXPONENT: Final = 160
"""Work of a number with an exponent of two digits: 1e23 takes 0.3 µs."""
_HALFWAY: Final = 400
"""Work of a number that msgspec converts in 0.4 µs: of at least 15 digits before its exponent, such as
9007199254740993e22, or exact in binary with 16 digits or more, such as 99999999999999.25."""
_DIGITS: Final = b"0" * 15
LONG_NUMBER: Final = 256
"""Digits from which on a number is a long one."""
_LONG_DIGIT: Final = 16
"""Work of each of its digits."""
FEW: Final = 100
OTHER_KEY: Final = 4
"""Work of a pair of keys, to the power of ½: if they are Decimal, UUID, tuple, …; and for numbers."""
NUMBER_KEY: Final = 3
ENOUGH: Final = 32 * 1024 * 1024
"""An estimate of less memory need not be more exact."""
_STRETCH: Final = 50_000
"""Steps of a survey before it is checked whether it shows enough."""
STEP: Final = 160
"""A survey has one step for this number of bytes of the limit. With the default, it takes 0.12 s at most."""


class Weights:
    """The bytes of memory that the parts of a message become, at most."""

    __slots__ = ("array", "has_any", "has_sets", "key", "map", "member", "small", "text", "value")

    def __init__(self) -> None:
        self.small: int = 10
        """A value that exists once in the process (None, a small int), with its place in a list."""
        self.value: int = 42
        """A number, with its place in a list or a dict."""
        self.text: int = 32
        """A text or bytes: this, ``value`` and the length."""
        self.array: int = 144
        self.map: int = 240
        self.member: int = 42
        """The key of a member of a map, or of a field; without ``text``."""
        self.key: int = 0
        """`NUMBER_KEY` or `OTHER_KEY` if there may be keys whose hashes can be chosen, else 0."""
        self.has_sets: bool = False
        """May such keys be the items of a set?"""
        self.has_any: bool = False
        """May there be values of any type?"""

    def largest(self) -> int:
        """The most memory for one of the characters that show the structure, or one head of MessagePack."""
        # A map that is not empty has at least two of them.
        member = self.map + self.member + self.value + 2 * self.text
        return max(self.array, self.map, self.value + self.text, member // 2)

    def add(self, info: object) -> None:
        """Raise the weights to what a part of a type needs."""
        inspect = msgspec.inspect
        if isinstance(info, inspect.AnyType):
            self.has_any = True
        elif isinstance(info, inspect.DecimalType):
            self.value, self.small = max(self.value, 150), 150
        elif isinstance(info, (inspect.DateTimeType, inspect.TimeType, inspect.UUIDType)):
            self.value = max(self.value, 200)
        elif isinstance(info, (inspect.MemoryViewType, inspect.ByteArrayType, inspect.RawType)):
            self.value, self.array, self.map = max(self.value, 400), max(self.array, 400), max(self.map, 400)
        elif isinstance(info, (inspect.SetType, inspect.FrozenSetType)):
            self.array = max(self.array, 260)
            self.has_sets = self._add_keys(info.item_type) or self.has_sets
        elif isinstance(info, inspect.DictType):
            if not isinstance(info.key_type, inspect.AnyType):  # in JSON text; in MessagePack: `has_any`
                self._add_keys(info.key_type)
        elif fields := getattr(info, "fields", ()):
            self._add_fields(info, fields)

    def _add_keys(self, info: object) -> bool:
        """A set or dict may have keys of this type. Returns whether their hashes can be chosen."""
        kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
        keys = [
            NUMBER_KEY if isinstance(kind, _NUMBERS) else OTHER_KEY
            for kind in kinds
            if not isinstance(kind, _SAFE_KEYS)
        ]
        self.key = max(self.key, *keys, 0)
        return bool(keys)

    def _add_fields(self, info: object, fields: Sequence[Any]) -> None:
        """An object may have these fields, all of which may be defaults."""
        size = 120 if isinstance(info, msgspec.inspect.StructType) else 400
        for field in fields:
            factory = field.default_factory
            size += 16 + (_FACTORIES.get(factory, 400) if factory is not msgspec.NODEFAULT else 0)
        self.array, self.map = max(self.array, size), max(self.map, size)
        # msgspec compares the name of a member with those of the fields, one after the other.
        self.member = max(self.member, 42 + len(fields))


_SAFE_KEYS: Final = (
    msgspec.inspect.StrType,
    msgspec.inspect.BytesType,
    msgspec.inspect.EnumType,
    msgspec.inspect.LiteralType,
    msgspec.inspect.NoneType,
    msgspec.inspect.BoolType,
    msgspec.inspect.DateTimeType,
    msgspec.inspect.DateType,
    msgspec.inspect.TimeType,
)
"""Few values, or hashes with a secret seed."""
_NUMBERS: Final = (msgspec.inspect.IntType, msgspec.inspect.FloatType)
_FACTORIES: Final[dict[object, int]] = {list: 64, dict: 72, set: 230, bytearray: 64}
"""Memory of the results of usual factories. What another one makes is unknown."""


def weights_of(type: Any) -> Weights:
    """The weights of a type: the largest of all parts that a message may contain."""
    weights = Weights()
    for part in _parts(type):
        weights.add(part)
    return weights


def _parts(type: Any) -> Iterator[object]:
    """The type and all types inside it."""
    try:
        waiting: list[object] = [msgspec.inspect.type_info(type)]
    except Exception:  # a type that msgspec can decode, but not describe
        waiting = [msgspec.inspect.AnyType()]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, tuple):
            waiting += part
        elif isinstance(part, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(part) not in seen:
            seen.add(id(part))
            yield part
            waiting += [getattr(part, name) for name in part.__struct_fields__ if name != "cls"]


class Cost(Protocol):
    """What the messages of one format cost."""

    def of(self, payloads: Sequence[bytes]) -> tuple[int, int]:
        """The memory of the values of these messages, and the work of decoding them, at most.

        Work is counted only of a single message, larger than `QUICK`.
        """
        ...


def cost_of(format: Format[Any, Any], limit: int) -> Cost | None:
    """What the messages of a format cost; None if they are bytes, or if the format is not one of ours.

    ``limit``: what costs more need not be known exactly.
    """
    if isinstance(format, Json):
        return JsonCost(Weights(), limit)
    if isinstance(format, Typed):
        return JsonCost(weights_of(format.received), limit)
    if isinstance(format, Text):
        return TextCost()
    if isinstance(format, MsgPack):
        return MsgPackCost(weights_of(format.type), limit)
    return None


class TextCost:
    """The cost of Text: one character beyond U+FFFF makes each character of its text take four bytes."""

    __slots__ = ()

    def of(self, payloads: Sequence[bytes]) -> tuple[int, int]:
        memory = _STR * len(payloads)
        for each in payloads:
            memory += len(each) if each.isascii() else 4 * len(each)
        return memory, 0


# ---- JSON -------------------------------------------------------------------------------------------------

_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b",:[{"))
_PIECE: Final = 64 * 1024
_ALIKE: Final = bytes.maketrans(b"E123456789", b"e000000000")
"""Makes all numbers of as many digits alike, to count them."""
_ENDS: Final = bytes.maketrans(b"7]} \t\r\neE", b"2,,,,,,,,")
"""Makes the ends of numbers alike, which are exact in binary only if they end in .5, 25, 75 or 0."""


class JsonCost:
    """The cost of JSON. What is inside strings is counted, too: that can only raise the estimate."""

    __slots__ = ("_largest", "_limit", "_weights")

    def __init__(self, weights: Weights, limit: int) -> None:
        self._weights = weights
        self._limit = limit
        self._largest = weights.largest()

    def of(self, payloads: Sequence[bytes]) -> tuple[int, int]:
        data, weights = payloads[0] if len(payloads) == 1 else b"".join(payloads), self._weights
        size, count = len(data), len(payloads)
        if size <= SMALL:
            return 4 * size + self._largest * (len(data.translate(None, _NOT_STRUCTURE)) + count), 0
        # A character beyond U+FFFF, also as an escape, makes each character of its text take four bytes.
        is_wide = not data.isascii() or data.find(b"\\u") >= 0
        memory = (4 * size if is_wide else size) + weights.value * count
        bound = weights.text * (data.count(b'"') // 2) + self._structure(data)
        if memory + bound <= ENOUGH:
            memory += bound
        else:
            for outside, strings in _outside_of_strings(data):  # exact, but slower
                memory += weights.text * strings + self._structure(outside)
                if memory > self._limit:
                    return memory, 0
        return memory, self._work(data) if count == 1 and size > QUICK else 0

    def _structure(self, text: bytes) -> int:
        """The memory of the values of a JSON text, without the characters of strings."""
        weights = self._weights
        return (
            weights.value * text.count(b",")
            + weights.member * text.count(b":")
            + weights.array * text.count(b"[")
            + weights.map * text.count(b"{")
        )

    def _work(self, data: bytes) -> int:
        work = _slow_numbers(data)
        if work > SLOW_NUMBER * FEW and data.find(b'"') >= 0:
            work = _slow_numbers(_without_strings(data))
        key = self._weights.key
        if key and self._weights.has_sets:
            work += (key * (data.count(b",") + data.count(b":"))) ** 2
        elif key:
            keys = data.translate(_ALIKE, b" ").count(b'"0') + data.count(b'"-')
            work += (key * keys) ** 2
        return work


def _slow_numbers(text: bytes) -> int:
    """The work of the numbers of a JSON text, as exponents and long runs of digits show it."""
    is_long = len(text) > 1024 * 1024
    if not is_long and text.count(b"e") + text.count(b"E") <= FEW:
        return 0  # Usually so, and found much faster.
    alike = text.translate(_ALIKE, b"+")
    near = _near_exponents(alike)
    work = SLOW_NUMBER * (near.count(b"e000") + near.count(b"e-000")) + _EXPONENT * near.count(b"e0")
    fractions = alike.count(b".") + near.count(b"e-")
    work += _HALFWAY * (_exact_fractions(text, alike, fractions) + near.count(_DIGITS + b"e"))
    if is_long:
        work += LONG_NUMBER * _LONG_DIGIT * alike.count(b"0" * LONG_NUMBER)
    return work


def _near_exponents(alike: bytes) -> bytes:
    """What is around the exponents, if there are few: it has the same counts of them, and is shorter."""
    if alike.count(b"e") * 128 > len(alike):
        return alike
    parts = alike.split(b"e")
    before = len(_DIGITS)
    return b",".join([left[-before:] + b"e" + right[:4] for left, right in pairwise(parts)])


def _exact_fractions(text: bytes, alike: bytes, fractions: int) -> int:
    """At most how many numbers have 16 digits or more, a point or an exponent, and are exact in binary?"""
    if fractions > FEW:
        fractions = min(fractions, alike.translate(None, b".").count(b"0" * 16))
    if fractions > FEW:
        ends = text.translate(_ENDS)
        fractions = min(fractions, ends.count(b"25,") + ends.count(b".5,") + ends.count(b"0,"))
    return fractions if fractions > FEW else 0


def _without_strings(text: bytes) -> bytes:
    """The text without what is inside of strings."""
    return b" ".join(outside for outside, _ in _outside_of_strings(text))


def _outside_of_strings(text: bytes) -> Iterator[tuple[bytes, int]]:
    """What is outside of strings, and the number of strings, in pieces: this takes little memory."""
    at, is_inside = 0, 0
    while at < len(text):
        piece = text[at : at + _PIECE]
        if (len(piece) - len(piece.rstrip(b"\\"))) & 1:  # The last backslash belongs to the next character.
            piece = text[at : at + _PIECE + 1]
        at += len(piece)
        if piece.find(b"\\") >= 0:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")  # no quote is escaped now
        parts = piece.split(b'"')
        yield b" ".join(parts[is_inside::2]), (len(parts) - is_inside) // 2
        is_inside ^= ~len(parts) & 1


# ---- MessagePack ------------------------------------------------------------------------------------------


class MsgPackCost:
    """The cost of MessagePack: from a survey, or an upper bound where that would take too long."""

    __slots__ = ("_largest", "_limit", "_weights")

    def __init__(self, weights: Weights, limit: int) -> None:
        self._weights = weights
        self._limit = limit
        self._largest = weights.largest()

    def of(self, payloads: Sequence[bytes]) -> tuple[int, int]:
        data = payloads[0] if len(payloads) == 1 else b"".join(payloads)
        size = len(data)
        bound = self._bound(data)
        if size <= SMALL:
            return bound, 0
        survey = Survey()
        is_whole = survey.go(data, min(size // 64, 1024))
        memory = min(bound, self._memory(survey, data))
        is_large = len(payloads) == 1 and size > QUICK
        has_keys = is_large and self._may_have_keys(data)
        if not is_whole and (memory > ENOUGH or has_keys):
            steps = self._limit // STEP
            while not is_whole and steps > 0 and self._seen(survey, survey.at) <= self._limit:
                is_whole = survey.go(data, _STRETCH)
                steps -= _STRETCH
            memory = min(bound, self._memory(survey, data))
        if not has_keys:
            return memory, 0
        # Not whole: it has more values than can be checked. All of them are taken for keys.
        all_values = survey.values if is_whole else size
        has_chosen = is_whole and self._weights.key != OTHER_KEY and not self._weights.has_sets
        return memory, survey.pairs if has_chosen else (OTHER_KEY * all_values) ** 2

    def _may_have_keys(self, data: bytes) -> bool:
        """May there be many keys that are not text? A map of more than 15 members has one of two heads."""
        weights = self._weights
        return weights.has_sets or (
            (weights.key > 0 or weights.has_any) and (b"\xde" in data or b"\xdf" in data)
        )

    def _bound(self, data: bytes) -> int:
        """The memory if every byte that may be a head is one."""
        weights, size = self._weights, len(data)
        memory = (4 + weights.small) * size
        if size <= SMALL:
            return memory + self._largest * len(data.translate(None, _NO_HEADS))
        return (
            memory
            + (weights.value + weights.text) * len(data.translate(None, _NO_VALUES))
            + weights.array * len(data.translate(None, _NO_ARRAYS))
            + (weights.map + weights.member) * len(data.translate(None, _NO_MAPS))
        )

    def _memory(self, survey: Survey, data: bytes) -> int:
        """The memory of what was surveyed, and the bound of the rest."""
        at = min(survey.at, len(data))
        return self._seen(survey, at) + (self._bound(data[at:]) if at < len(data) else 0)

    def _seen(self, survey: Survey, size: int) -> int:
        """The memory of what was surveyed: ``size`` bytes."""
        weights = self._weights
        return (
            size
            + 3 * survey.letters
            + weights.value * survey.values
            + weights.text * survey.texts
            + weights.array * survey.arrays
            + (weights.map + weights.member) * survey.maps
        )


_MAPS: Final = {*range(0x80, 0x90), 0xDE, 0xDF}
_ARRAYS: Final = {*range(0x90, 0xA0), 0xDC, 0xDD}
_VALUES: Final = {*range(0xA0, 0xC0), *range(0xC4, 0xDC)}
"""Heads, without those of values that exist once (None, small numbers)."""


def _all_but(kept: set[int]) -> bytes:
    return bytes(set(range(256)) - kept)


_NO_MAPS: Final = _all_but(_MAPS)
_NO_ARRAYS: Final = _all_but(_ARRAYS)
_NO_VALUES: Final = _all_but(_VALUES)
_NO_HEADS: Final = _all_but(_MAPS | _ARRAYS | _VALUES)

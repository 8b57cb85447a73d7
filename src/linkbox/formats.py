"""Formats convert one message to bytes and back. The format determines the message type T.

| format | T | on the wire | name |
|---|---|---|---|
| `Bytes()` | bytes | unchanged | ``bytes`` |
| `Json()` | any JSON value | JSON (RFC 8259) | ``json`` |
| `Typed(Point)` | Point | JSON, checked against the type | ``json`` |
| `MsgPack()`, `MsgPack(Point)` | any MessagePack value, or Point | MessagePack | ``msgpack`` |

The two ends compare the names in the handshake: `Json` at one end works with `Typed` at the other.
Any object with ``name``, ``encode`` and ``decode`` is a format too.

``encode`` raises only `FormatError`, and ``decode`` only `DecodeError` (and MemoryError). All four can be
shared between threads: msgspec keeps no state between calls.

How the types are inferred. An endpoint is generic in (T, K): T is the item type, K the type of the format's
*name*. `Bytes` declares its name as `Joined` (a str), every other format as str; from this a type checker
knows that ``data_get_count`` returns ``bytes`` and not ``list[T]``. K follows from ``name``, so a format of
yours needs no base class, and a format for ``bytes`` (compression, for example) gives ``list[bytes]``.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Generic, NewType, Protocol, TypeAlias, overload

import msgspec

from .errors import DecodeError, FormatError
from .format_types import brief, check_class, classes_of, decoder_of, describe, with_article
from .text import shown, text_of

if TYPE_CHECKING:
    # Type variables have defaults from Python 3.13 on; before, only type checkers see them.
    from typing_extensions import TypeVar

    T = TypeVar("T", default=bytes)
    K_co = TypeVar("K_co", covariant=True, default=object)
    A = TypeVar("A", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
    K_co = TypeVar("K_co", covariant=True)
    A = TypeVar("A")

__all__ = ["Bytes", "Format", "FormatLike", "Joined", "Json", "MsgPack", "Typed", "as_format"]

MAX_DEPTH = 100  # nested JSON arrays and objects; the depth that Python itself can parse differs by version
_SHALLOW = (
    2 * MAX_DEPTH
)  # a JSON text of this length cannot be deeper; nor can one with few "[" (91) and "{" (123)

Joined = NewType("Joined", str)
"""The type of `Bytes.name`: type checkers infer from it that ``data_get_count`` joins messages."""


class Format(Protocol[T, K_co]):
    """What an endpoint needs of a format: a name, and functions to encode and decode."""

    @property
    def name(self) -> K_co:
        """A short str, compared with the peer's in the handshake."""
        ...

    def encode(self, value: T, /) -> bytes:
        """Return the bytes of one message. Raise `FormatError` if the value does not fit."""
        ...

    def decode(self, data: bytes, /) -> T:
        """Return the value of one message. Raise `DecodeError` if the bytes do not fit."""
        ...


FormatLike: TypeAlias = "Format[T, K_co] | Callable[[], Format[T, K_co]]"
"""The type of ``format=``: a format, or a format class whose constructor needs no arguments.

pyright cannot match overloaded constructors with it: it requires ``MsgPack()``, mypy also accepts
``MsgPack``.
"""


# ---- the four formats ---------------------------------------------------------------------------


class Bytes:
    """Messages are bytes and are sent unchanged."""

    __slots__ = ()
    name: Joined = Joined("bytes")

    def encode(self, value: bytes | bytearray | memoryview, /) -> bytes:
        """Return the bytes. A bytearray or memoryview is copied: you may change it after the call."""
        if type(value) is bytes:
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, str):
            raise FormatError('cannot send a str over Bytes(); encode it first: "…".encode()')
        kind = type(value).__name__
        raise FormatError(
            f"cannot send {with_article(kind)} over Bytes(), only bytes; for objects use format=Json()"
        )

    def decode(self, data: bytes, /) -> bytes:
        """Return ``data`` itself."""
        return data

    def __repr__(self) -> str:
        return "Bytes()"


class Json:
    """Messages are JSON values: dict, list, str, int, float, bool, None.

    Strict (RFC 8259): UTF-8 only, no NaN and no Infinity (nor numbers that overflow to it, as ``1e999``), at
    most 100 nested arrays and objects. If an object has a key twice, the last value counts. Integers keep all
    digits, up to 4,300 including the sign; programs in other languages may round those beyond 2**53.

    Some values arrive as another type: tuples and sets (list), bytes (base64 str), datetime, UUID and Decimal
    (str), Enum (its value), Struct and dataclass (dict), number keys of a dict (str). To receive the original
    types, use `Typed`. A `msgspec.Raw` is inserted unchanged and unchecked.
    """

    __slots__ = ()
    name: str = "json"

    def encode(self, value: Any, /) -> bytes:
        """Return ``value`` as JSON. `FormatError` names the part that JSON cannot represent."""
        try:
            data = _json_encode(value)
        except MemoryError:
            raise
        except Exception as error:
            raise _unfit(value, error, _json_encode, "JSON") from error
        if data.find(b"null") >= 0 or (len(data) > _SHALLOW and data.count(91) + data.count(123) > MAX_DEPTH):
            _check_encoded(value, data)
        return data

    def decode(self, data: bytes, /) -> Any:
        """Return the value of a JSON text. `DecodeError` says what is wrong with the text, and where."""
        if len(data) > _SHALLOW and data.count(91) + data.count(123) > MAX_DEPTH and _too_deep(data):
            raise DecodeError(f"JSON nested more than {MAX_DEPTH} deep: {_excerpt(data)}")
        try:
            return _json_decode(data)
        except MemoryError:
            raise
        except Exception as error:
            raise _undecodable(data, error, "JSON") from shown(error)

    def __repr__(self) -> str:
        return "Json()"


class Typed(Generic[A]):
    """Messages are of one type: a msgspec Struct, a dataclass, a TypedDict, ``list[Point]``, ….

    JSON on the wire, strict like `Json`. A received message is checked against the whole type, including
    every field. For a sent message only the class is checked (for ``list[Point]``: that it is a list),
    because a type checker covers the rest; if a field is wrong, the receiver rejects the message and its
    receipt fails. Unknown fields are ignored.

    `TypeError` at construction if msgspec cannot build the type from JSON.
    """

    __slots__ = ("_classes", "_decode", "type")
    name: str = "json"

    @overload
    def __init__(self, type: type[A]) -> None: ...

    @overload
    def __init__(self, type: Any) -> None: ...  # unions and the like: Typed[int | str](int | str)

    def __init__(self, type: Any) -> None:
        self.type = type
        self._decode = decoder_of(msgspec.json.Decoder, type, (dict, list, str, int, float, bool, _None))
        self._classes = classes_of(type)

    def encode(self, value: A, /) -> bytes:
        """Return ``value`` as JSON. `FormatError` if it has another class, or JSON cannot represent it."""
        if self._classes is not None and type(value) not in self._classes:
            check_class(value, self._classes, self.type)
        try:
            data = _json_encode(value)
        except MemoryError:
            raise
        except Exception as error:
            raise _unfit(value, error, _json_encode, "JSON") from error
        if data.find(b"null") >= 0 or (len(data) > _SHALLOW and data.count(91) + data.count(123) > MAX_DEPTH):
            _check_encoded(value, data)
        return data

    def decode(self, data: bytes, /) -> A:
        """Return the value of a JSON text. `DecodeError` says what does not fit the type, and where."""
        if len(data) > _SHALLOW and data.count(91) + data.count(123) > MAX_DEPTH and _too_deep(data):
            raise DecodeError(f"JSON nested more than {MAX_DEPTH} deep: {_excerpt(data)}")
        try:
            if not data.isascii():
                data.decode()  # msgspec does not look into fields it skips
            value: A = self._decode(data)
            return value
        except MemoryError:
            raise
        except Exception as error:
            raise _undecodable(data, error, describe(self.type)) from shown(error)

    def __repr__(self) -> str:
        return f"Typed({describe(self.type)})"


class MsgPack(Generic[A]):
    """Messages in MessagePack: like JSON, but smaller, and bytes stay bytes.

    With a type, it checks like `Typed`; without one, it accepts every MessagePack value, including NaN and
    keys that are not str. Integers are from -2**63 to 2**64-1. The nesting depth is limited by Python (less
    on 3.11 than on 3.13). Sets arrive as lists, datetimes without time zone as str.
    """

    __slots__ = ("_classes", "_decode", "type")
    name: str = "msgpack"

    @overload
    def __init__(self: MsgPack[Any]) -> None: ...

    @overload
    def __init__(self, type: type[A]) -> None: ...

    @overload
    def __init__(self, type: Any) -> None: ...

    def __init__(self, type: Any = Any) -> None:
        self.type = type
        self._decode = decoder_of(
            msgspec.msgpack.Decoder, type, (dict, list, str, bytes, int, float, bool, _None)
        )
        self._classes = classes_of(type)

    def encode(self, value: A, /) -> bytes:
        """Return ``value`` as MessagePack. `FormatError` if it has another class, or does not fit."""
        if self._classes is not None and type(value) not in self._classes:
            check_class(value, self._classes, self.type)
        try:
            return _msgpack_encode(value)
        except MemoryError:
            raise
        except Exception as error:
            raise _unfit(value, error, _msgpack_encode, "MessagePack") from error

    def decode(self, data: bytes, /) -> A:
        """Return the value. `DecodeError` says what is wrong with the bytes, and where."""
        try:
            value: A = self._decode(data)
            return value
        except MemoryError:
            raise
        except Exception as error:
            what = "MessagePack" if self.type is Any else describe(self.type)
            raise _undecodable(data, error, what) from shown(error)

    def __repr__(self) -> str:
        return "MsgPack()" if self.type is Any else f"MsgPack({describe(self.type)})"


def as_format(value: object) -> Format[Any, Any]:
    """Return ``value`` if it is a format, or an instance if it is a format class such as `Json`.

    Raises a `TypeError` that says what to write instead.
    """
    if isinstance(value, type):
        return as_format(_instance(value))
    if isinstance(value, str):
        raise TypeError(f"format={value!r} is a str; use a format: Bytes(), Json(), Typed(…) or MsgPack()")
    missing = [part for part in ("name", "encode", "decode") if not hasattr(value, part)]
    if missing:
        raise TypeError(
            f"format={value!r} has no {', '.join(missing)}; "
            "use Bytes(), Json(), Typed(…), MsgPack(), or an object with name, encode and decode"
        )
    made: Any = value
    if not isinstance(made.name, str) or not 0 < len(made.name) <= 100:
        raise TypeError(
            f"the name of format={value!r} must be a str of 1 to 100 characters, not {made.name!r}"
        )
    if not callable(made.encode) or not callable(made.decode):
        raise TypeError(f"encode and decode of format={value!r} must be methods")
    return typing.cast("Format[Any, Any]", made)


def _instance(cls: type) -> object:
    """Make an instance of a format class."""
    name = cls.__name__
    if issubclass(cls, Typed):
        raise TypeError(f"format={name} needs the type of the messages: format={name}(MyStruct)")
    if not hasattr(cls, "encode") or not hasattr(cls, "decode"):
        raise TypeError(
            f"format={name} is not a format; for messages of that type write format=Typed({name})"
        )
    try:
        return cls()
    except TypeError as error:
        raise TypeError(
            f"format={name} is a class whose constructor needs arguments; use an instance: {name}(…)"
        ) from error


# ---- encoding: checks and error messages ------------------------------------------------------

_json_encode = msgspec.json.Encoder().encode
_json_decode = msgspec.json.Decoder().decode
_msgpack_encode = msgspec.msgpack.Encoder().encode
_None = type(None)


def _check_encoded(value: object, data: bytes) -> None:
    """Raise for output of msgspec that strict JSON does not allow; ``data`` is ``value`` encoded."""
    if data.count(91) + data.count(123) > MAX_DEPTH and _too_deep(data):
        raise FormatError(
            f"{with_article(type(value).__name__)} nested more than {MAX_DEPTH} deep does not fit JSON"
        )
    if data.find(b"null") >= 0 and _may_hold_nan(value):
        _refuse_nan(value)


# msgspec writes NaN and infinities as null. In MessagePack they are 0xCB and a float64 with all exponent bits
# set: encoding the value again and searching it is several times as fast as a recursive walk.
_nan_in_msgpack = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]").search


def _may_hold_nan(value: object) -> bool:
    """False: the value contains no NaN and no infinity. True: it may contain one."""
    try:
        return _nan_in_msgpack(_msgpack_encode(value)) is not None
    except Exception:  # for example an integer that is too big for MessagePack
        return True


def _refuse_nan(value: object) -> None:
    """Raise a `FormatError` that names the first NaN or infinity in the value, if there is one."""
    waiting: list[tuple[str, Any]] = [("$", msgspec.to_builtins(value, enc_hook=lambda raw: None))]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise FormatError(f"JSON has no {item} (at {path}); send None, or use format=MsgPack()")
        waiting += [(path + step, child) for step, child in _children(item)][::-1]


def _children(value: object) -> Iterator[tuple[str, object]]:
    """The direct children of a value, each with its step in the path notation of msgspec."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield (
                (f".{key:.40}" if isinstance(key, str) and key.isidentifier() else f"[{brief(key)}]"),
                child,
            )
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, child in enumerate(value):
            yield f"[{index}]", child
    elif not isinstance(value, type):
        fields: Any = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", ())
        for field in fields:
            yield f".{field}", getattr(value, field, None)


def _unfit(value: object, error: Exception, encode: Callable[[Any], bytes], what: str) -> FormatError:
    """The error for a value that could not be encoded. It names the part at fault."""
    if isinstance(error, RecursionError):
        return FormatError(
            f"{with_article(type(value).__name__)} is nested too deep for {what}, or contains itself"
        )
    path, culprit = "$", value
    for _ in range(MAX_DEPTH):  # descend into the child that cannot be encoded either
        for step, child in _children(culprit):
            if not _encodes(child, encode):
                path, culprit = path + step, child
                break
        else:
            break
    kind = type(culprit).__name__
    return FormatError(f"{with_article(kind)} at {path} does not fit {what}: {error}")


def _encodes(value: object, encode: Callable[[Any], bytes]) -> bool:
    try:
        encode(value)
    except Exception:
        return False
    return True


# ---- decoding -------------------------------------------------------------------------------------

_ALL_ELSE = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")  # as signed bytes: one deeper, one up
_LAYERS = 3


def _too_deep(data: bytes) -> bool:
    """Is JSON nested more than MAX_DEPTH deep? Counts brackets outside of strings.

    There is no Python loop over the text: for 1 MiB of small objects it takes a fraction of the parsing time.
    It may return True for a shallow text whose brackets do not match, which is invalid JSON anyway.
    """
    if data.find(b"\\") >= 0:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # now every quote begins or ends a string
    kept = data.translate(_ONE_KIND, _ALL_ELSE).replace(b'""', b"")  # strings without brackets are gone
    if kept.find(b'"') >= 0:
        kept = re.sub(rb'"[^"]*"?', b"", kept)
    for _ in range(_LAYERS):  # remove the innermost layers, and with them most of the brackets
        kept = kept.replace(b"[]", b"")
    steps = memoryview(kept.translate(_STEPS)).cast("b")
    return any(map((MAX_DEPTH - _LAYERS).__lt__, accumulate(steps)))


def _undecodable(data: bytes, error: Exception, what: str) -> DecodeError:
    """The error for bytes that could not be decoded: what is wrong with them, and how they begin."""
    why = text_of(error)
    if isinstance(error, RecursionError):
        why = "nested too deep"
    elif isinstance(error, UnicodeDecodeError):
        why = f"text that is not UTF-8 ({error.reason})"
    elif "truncated" in why:
        why = "it is empty" if not data.strip() else "it is truncated, or contains half a surrogate pair"
    elif not isinstance(error, msgspec.MsgspecError):  # for example from a __post_init__
        why = f"{type(error).__name__}: {why}"
    return DecodeError(f"does not fit {what}: {why}: {_excerpt(data)}")


def _excerpt(data: bytes) -> str:
    """The beginning of a message, for an error message."""
    more = "…" if len(data) > 40 else ""
    return f"{bytes(data[:40])!r}{more} ({len(data)} bytes)"

"""Formats convert one message to bytes and back. The format determines the message type T.

| format | T | on the wire | name |
|---|---|---|---|
| `Bytes()` | bytes | unchanged | ``bytes`` |
| `Json()` | any JSON value | JSON (RFC 8259) | ``json`` |
| `Typed(Point)` | Point | JSON, checked against the type | ``json`` |
| `Text()` | str | the text, UTF-8 unless another encoding is given | ``text`` |
| `MsgPack()`, `MsgPack(Point)` | any MessagePack value, or Point | MessagePack | ``msgpack`` |

The two ends compare the names in the handshake: `Json` at one end works with `Typed` at the other.
Any object with ``name``, ``encode`` and ``decode`` is a format too.

``encode`` raises only `FormatError`, and ``decode`` only `DecodeError` (and MemoryError). All of them can be
shared between threads: msgspec keeps no state between calls.

How the types are inferred. An endpoint is generic in (T, K): T is the item type, K the type of the format's
*name*. `Bytes` declares its name as `Joined` (a str), every other format as str; from this a type checker
knows that ``data_get_count`` returns ``bytes`` and not ``list[T]``. K follows from ``name``, so a format of
yours needs no base class, and a format for ``bytes`` (compression, for example) gives ``list[bytes]``.
"""

from __future__ import annotations

import codecs
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NewType, Protocol, TypeAlias, overload

import msgspec

from .errors import DecodeError, FormatError
from .format_checks import (
    MAX_DEPTH,
    SHALLOW,
    check_encoded,
    excerpt,
    json_decode,
    json_encode,
    msgpack_encode,
    too_deep,
    undecodable,
    unfit,
)
from .format_types import check_class, classes_of, decoder_of, describe, with_article
from .text import shown

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

__all__ = ["Bytes", "Format", "FormatLike", "Joined", "Json", "MsgPack", "Skip", "Text", "Typed", "as_format"]


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


class Skip(Exception):
    """Raised by the ``decode`` of a format of yours: drop this message silently.

    It is counted in ``statistics().skipped``. The sender's receipt goes on to TAKEN.
    A request that is skipped fails at the client with "skipped".
    """


_None = type(None)


class _Same:
    """Responses have the same type as requests."""

    def __repr__(self) -> str:
        return "type"


_SAME: Any = _Same()


# ---- the formats ---------------------------------------------------------------------------


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


class Text:
    """Messages are str, as most devices with a text protocol need them.

    ``encoding`` and ``errors`` are those of ``str.encode``: with ``errors="replace"`` no message is rejected.
    """

    __slots__ = ("encoding", "errors", "name")

    def __init__(self, encoding: str = "utf-8", errors: str = "strict") -> None:
        try:
            codec = codecs.lookup(encoding).name
            codecs.lookup_error(errors)
            "".encode(encoding, errors)
        except (LookupError, TypeError) as error:
            raise ValueError(f"Text({encoding!r}, {errors!r}): {error}") from None
        self.encoding: str = codec
        self.errors: str = errors
        self.name: str = "text" if codec == "utf-8" else f"text:{codec}"

    def encode(self, value: str, /) -> bytes:
        """Return the text in the encoding. `FormatError` for a character that it lacks."""
        if not isinstance(value, str):
            kind = type(value).__name__
            raise FormatError(f"cannot send {with_article(kind)} over Text(), only str")
        try:
            return value.encode(self.encoding, self.errors)
        except UnicodeError as error:
            raise FormatError(f"the text does not fit {self.encoding}: {error}") from error

    def decode(self, data: bytes, /) -> str:
        """Return the text. `DecodeError` if the bytes are not in the encoding."""
        try:
            return data.decode(self.encoding, self.errors)
        except UnicodeError as error:
            raise undecodable(data, error, self.encoding) from shown(error)

    def __repr__(self) -> str:
        errors = "" if self.errors == "strict" else f", errors={self.errors!r}"
        return f"Text({self.encoding!r}{errors})"


class Json:
    """Messages are JSON values: dict, list, str, int, float, bool, None.

    Strict (RFC 8259): UTF-8 only, no NaN and no Infinity (nor numbers that overflow to it, as ``1e999``), at
    most 100 nested arrays and objects. If an object has a key twice, the last value counts. Integers keep all
    digits, up to 4,300 including the sign; programs in other languages may round those beyond 2**53.

    Some values arrive as another type: tuples and sets (list), bytes (base64 str), datetime, UUID and Decimal
    (str), Enum (its value), Struct and dataclass (dict), number keys of a dict (str). To receive the original
    types, use `Typed`. A `msgspec.Raw` is inserted unchanged and unchecked.

    ``default``: a function that is called with each value that JSON lacks, and returns one that it has, or
    raises TypeError: ``default=float`` for numbers of numpy.
    """

    __slots__ = ("_as_msgpack", "_encode", "default")
    name: str = "json"

    def __init__(self, default: Callable[[Any], Any] | None = None) -> None:
        if default is not None and not callable(default):
            raise TypeError(f"Json(default=…) takes a function of one value, not {default!r}")
        self.default: Callable[[Any], Any] | None = default
        self._encode = json_encode if default is None else msgspec.json.Encoder(enc_hook=default).encode
        self._as_msgpack = (
            msgpack_encode if default is None else msgspec.msgpack.Encoder(enc_hook=default).encode
        )

    def encode(self, value: Any, /) -> bytes:
        """Return ``value`` as JSON. `FormatError` names the part that JSON cannot represent."""
        try:
            data = self._encode(value)
        except MemoryError:
            raise
        except Exception as error:
            raise unfit(value, error, self._encode, "JSON") from error
        if data.find(b"null") >= 0 or (len(data) > SHALLOW and data.count(91) + data.count(123) > MAX_DEPTH):
            check_encoded(value, data, self._as_msgpack, self.default)
        return data

    def decode(self, data: bytes, /) -> Any:
        """Return the value of a JSON text. `DecodeError` says what is wrong with the text, and where."""
        if len(data) > SHALLOW and data.count(91) + data.count(123) > MAX_DEPTH and too_deep(data):
            raise DecodeError(f"JSON nested more than {MAX_DEPTH} deep: {excerpt(data)}")
        try:
            return json_decode(data)
        except MemoryError:
            raise
        except Exception as error:
            raise undecodable(data, error, "JSON") from shown(error)

    def __repr__(self) -> str:
        return "Json()" if self.default is None else f"Json(default={self.default!r})"


class Typed(Generic[A]):
    """Messages are of one type: a msgspec Struct, a dataclass, a TypedDict, ``list[Point]``, ….

    JSON on the wire, strict like `Json`. A received message is checked against the whole type, including
    every field. For a sent message only the class is checked (for ``list[Point]``: that it is a list),
    because a type checker covers the rest; if a field is wrong, the receiver rejects the message and its
    receipt fails. Unknown fields are ignored.

    ``Typed(Question, Answer)``, for AR, has one type for requests and one for responses.

    `TypeError` at construction if msgspec cannot build the type from JSON.
    """

    __slots__ = ("_classes", "_decode", "answer", "received", "type")
    name: str = "json"

    @overload
    def __init__(self, type: type[A]) -> None: ...

    @overload
    def __init__(self: Typed[Any], type: Any, answer: Any) -> None: ...

    @overload
    def __init__(self, type: Any) -> None: ...  # unions and the like: Typed[int | str](int | str)

    def __init__(self, type: Any, answer: Any = _SAME) -> None:
        self.type: Any = type
        """The type of requests; without ``answer``, of all messages."""
        self.answer: Any = answer
        """The type of responses."""
        self._classes = classes_of(type)
        self.received: Any = type if answer is _SAME else answer
        """The type of the messages that arrive."""
        self._decode = _typed_decoder(self.received)
        if answer is not _SAME:
            _typed_decoder(type)  # TypeError here, not at the first connection.

    @property
    def is_pair(self) -> bool:
        """Are there two types, so that only AR can use it?"""
        return self.answer is not _SAME

    def of_server(self) -> Typed[Any]:
        """The same for the server of AR, which receives requests. As it is, it is for the client."""
        return Typed(self.answer, self.type)

    def encode(self, value: A, /) -> bytes:
        """Return ``value`` as JSON. `FormatError` if it has another class, or JSON cannot represent it."""
        if self._classes is not None and type(value) not in self._classes:
            check_class(value, self._classes, self.type)
        try:
            data = json_encode(value)
        except MemoryError:
            raise
        except Exception as error:
            raise unfit(value, error, json_encode, "JSON") from error
        if data.find(b"null") >= 0 or (len(data) > SHALLOW and data.count(91) + data.count(123) > MAX_DEPTH):
            check_encoded(value, data, msgpack_encode, None)
        return data

    def decode(self, data: bytes, /) -> A:
        """Return the value of a JSON text. `DecodeError` says what does not fit the type, and where."""
        if len(data) > SHALLOW and data.count(91) + data.count(123) > MAX_DEPTH and too_deep(data):
            raise DecodeError(f"JSON nested more than {MAX_DEPTH} deep: {excerpt(data)}")
        try:
            if not data.isascii():
                data.decode()  # msgspec does not look into fields it skips
            value: A = self._decode(data)
            return value
        except MemoryError:
            raise
        except Exception as error:
            raise undecodable(data, error, describe(self.received)) from shown(error)

    def __repr__(self) -> str:
        answer = "" if self.answer is _SAME else f", {describe(self.answer)}"
        return f"Typed({describe(self.type)}{answer})"


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
        self.type: Any = type
        self._decode = decoder_of(
            msgspec.msgpack.Decoder, type, (dict, list, str, bytes, int, float, bool, _None)
        )
        self._classes = classes_of(type)

    def encode(self, value: A, /) -> bytes:
        """Return ``value`` as MessagePack. `FormatError` if it has another class, or does not fit."""
        if self._classes is not None and type(value) not in self._classes:
            check_class(value, self._classes, self.type)
        try:
            return msgpack_encode(value)
        except MemoryError:
            raise
        except Exception as error:
            raise unfit(value, error, msgpack_encode, "MessagePack") from error

    def decode(self, data: bytes, /) -> A:
        """Return the value. `DecodeError` says what is wrong with the bytes, and where."""
        try:
            value: A = self._decode(data)
            return value
        except MemoryError:
            raise
        except Exception as error:
            what = "MessagePack" if self.type is Any else describe(self.type)
            raise undecodable(data, error, what) from shown(error)

    def __repr__(self) -> str:
        return "MsgPack()" if self.type is Any else f"MsgPack({describe(self.type)})"


def _typed_decoder(type: Any) -> Callable[[bytes], Any]:
    return decoder_of(msgspec.json.Decoder, type, (dict, list, str, int, float, bool, _None))


def as_format(value: object) -> Format[Any, Any]:
    """Return ``value`` if it is a format, or an instance if it is a format class such as `Json`.

    Raises a `TypeError` that says what to write instead.
    """
    if isinstance(value, type):
        return as_format(_instance(value))
    if isinstance(value, str):
        raise TypeError(
            f"format={value!r} is a str; use a format: Bytes(), Text(), Json(), Typed(…) or MsgPack()"
        )
    missing = [part for part in ("name", "encode", "decode") if not hasattr(value, part)]
    if missing:
        hint = "; a function that answers requests is given by handler=" if callable(value) else ""
        raise TypeError(
            f"format={value!r} has no {', '.join(missing)}; use Bytes(), Text(), Json(), Typed(…), "
            f"MsgPack(), or an object with name, encode and decode{hint}"
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

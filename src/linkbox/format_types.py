"""Message types of formats: which classes a value of a type may have, and how error messages show types."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from .errors import FormatError


def decoder_of(make: Callable[[Any], Any], type: Any, native: tuple[type, ...]) -> Callable[[bytes], Any]:
    """The decode function for a type. `TypeError` if no message can have that type.

    ``native``: the classes that the wire format itself produces.
    """
    if isinstance(type, str) or type is ...:
        raise TypeError(f"use the type itself, not {type!r}")
    try:
        decode: Callable[[bytes], Any] = make(type).decode
    except Exception as error:  # TypeError for the type itself, NameError for an annotation inside it
        raise TypeError(f"msgspec cannot read {describe(type)} from a message: {error}") from error
    for custom in _customs(type):
        if not any(_is_subclass(one, custom) for one in native):
            inside = "" if custom is type else f" (inside {describe(type)})"
            raise TypeError(
                f"msgspec cannot read {describe(custom)}{inside} from a message; "
                "make it a msgspec.Struct or a dataclass"
            )
    return decode


def _customs(type: Any) -> set[Any]:
    """The classes in a type that msgspec does not support."""
    try:
        info = msgspec.inspect.type_info(type)
    except Exception:  # msgspec 0.19 can decode Literal["a", 1], but not describe it
        return set()
    found: set[Any] = set()
    seen: set[int] = set()
    waiting: list[Any] = [info]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, msgspec.inspect.CustomType):
            found.add(part.cls)
        elif isinstance(part, tuple):
            waiting += part
        elif isinstance(part, (msgspec.inspect.Type, msgspec.inspect.Field)):
            waiting += [getattr(part, field) for field in part.__struct_fields__ if field != "cls"]
    return found


def _is_subclass(one: type, other: Any) -> bool:
    try:
        return issubclass(one, other)
    except TypeError:  # a Protocol that is not runtime_checkable
        return False


def classes_of(kind: Any) -> tuple[type, ...] | None:
    """The classes that a value of the type may have, or None if it may have any class."""
    kind = _unwrapped(kind)
    origin = typing.get_origin(kind)
    if kind in (Any, object) or isinstance(kind, typing.TypeVar):
        return None
    if kind is None:
        return (type(None),)
    if origin in (typing.Union, types.UnionType):
        parts = [classes_of(arg) for arg in typing.get_args(kind)]
        return None if None in parts else tuple(one for part in parts for one in part or ())
    if origin is typing.Literal:
        return tuple({type(value) for value in typing.get_args(kind)})
    if typing.is_typeddict(origin or kind):
        return (dict,)
    cls: type = origin or kind
    return _ALSO.get(cls, (cls,))


_ALSO: dict[type, tuple[type, ...]] = {float: (float, int), bytes: (bytes, bytearray, memoryview)}
_TYPE = type  # where a parameter is called `type`


def _unwrapped(kind: Any) -> Any:
    """A type without NewType, Annotated and ``type X = …`` around it."""
    while True:
        if typing.get_origin(kind) is typing.Annotated:
            inner = typing.get_args(kind)[0]
        else:
            inner = getattr(kind, "__supertype__", None) or getattr(kind, "__value__", None)
        if inner is None:
            return kind
        kind = inner


def check_class(value: object, classes: tuple[type, ...], type: Any) -> None:
    """Raise `FormatError` if the value has none of the classes. A bool does not count as a number here."""
    if not isinstance(value, classes) or (isinstance(value, bool) and (int in classes or float in classes)):
        raise FormatError(f"expected {describe(type)}, got {value.__class__.__name__}: {brief(value)}")


def brief(value: object) -> str:
    """The value in a few characters. Its repr is user code and may fail."""
    try:
        return f"{value!r:.60}"
    except Exception:
        return "…"


def describe(type: Any) -> str:
    """A type as it is written in code."""
    if isinstance(type, _TYPE) and not typing.get_args(type):
        return type.__qualname__.rpartition("<locals>.")[2]
    return str(type).replace("typing.", "")


def with_article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"

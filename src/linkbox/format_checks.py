"""Checks and error messages of the formats: which part of a value does not fit, and why."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, Final

import msgspec

from .errors import DecodeError, FormatError
from .format_types import brief, with_article
from .text import text_of

MAX_DEPTH = 100  # nested JSON arrays and objects; the depth that Python itself can parse differs by version
SHALLOW = (
    2 * MAX_DEPTH
)  # a JSON text of this length cannot be deeper; nor can one with few "[" (91) and "{" (123)

# ---- encoding: checks and error messages ------------------------------------------------------

json_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
json_decode: Callable[[bytes | str], Any] = msgspec.json.Decoder().decode
msgpack_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


def check_encoded(
    value: object,
    data: bytes,
    as_msgpack: Callable[[Any], bytes],
    default: Callable[[Any], Any] | None,
) -> None:
    """Raise for output of msgspec that strict JSON does not allow; ``data`` is ``value`` encoded."""
    if data.count(91) + data.count(123) > MAX_DEPTH and too_deep(data):
        raise FormatError(
            f"{with_article(type(value).__name__)} nested more than {MAX_DEPTH} deep does not fit JSON"
        )
    if data.find(b"null") >= 0 and _may_hold_nan(value, as_msgpack):
        _refuse_nan(value, default)


# msgspec writes NaN and infinities as null. In MessagePack they are 0xCB and a float64 with all exponent bits
# set: encoding the value again and searching it is several times as fast as a recursive walk.
_nan_in_msgpack = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]").search


def _may_hold_nan(value: object, as_msgpack: Callable[[Any], bytes]) -> bool:
    """False: the value contains no NaN and no infinity. True: it may contain one."""
    try:
        return _nan_in_msgpack(as_msgpack(value)) is not None
    except Exception:  # for example an integer that is too big for MessagePack
        return True


def _refuse_nan(value: object, default: Callable[[Any], Any] | None) -> None:
    """Raise a `FormatError` that names the first NaN or infinity in the value, if there is one."""
    waiting: list[tuple[str, Any]] = [("$", msgspec.to_builtins(value, enc_hook=default or _ignore))]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise FormatError(f"JSON has no {item} (at {path}); send None, or use format=MsgPack()")
        waiting += [(path + step, child) for step, child in _children(item)][::-1]


def _ignore(value: object) -> None:
    """Take the place of a value that contains no number, as `msgspec.Raw`."""


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


def unfit(value: object, error: Exception, encode: Callable[[Any], bytes], what: str) -> FormatError:
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


def too_deep(data: bytes) -> bool:
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


BOM: Final = b"\xef\xbb\xbf"
"""Some programs write it at the beginning of a text; it costs the first message of a connection."""


def undecodable(data: bytes, error: Exception, what: str) -> DecodeError:
    """The error for bytes that could not be decoded: what is wrong with them, and how they begin."""
    why = text_of(error)
    if isinstance(error, RecursionError):
        why = "nested too deep"
    elif isinstance(error, UnicodeDecodeError):
        why = f"text that is not UTF-8 ({error.reason})"
    elif data.startswith(BOM):
        why = "it begins with a UTF-8 byte order mark (BOM), which the sender must leave out"
    elif "UTF-8" in why:  # msgspec from 0.23 on; the exception is then its own
        why = "text that is not UTF-8"
    elif "truncated" in why:
        why = "it is empty" if not data.strip() else "it is truncated, or contains half a surrogate pair"
    elif not isinstance(error, msgspec.MsgspecError):  # for example from a __post_init__
        why = f"{type(error).__name__}: {why}"
    return DecodeError(f"does not fit {what}: {why}: {excerpt(data)}")


def excerpt(data: bytes) -> str:
    """The beginning of a message, for an error message."""
    more = "…" if len(data) > 40 else ""
    return f"{bytes(data[:40])!r}{more} ({len(data)} bytes)"

"""Writes docs/api.md from the docstrings: ``python docs/make_api.py``.

A test fails when the page is not what this makes, or when a public name has no place in `SECTIONS`.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import linkbox
from linkbox import tls
from linkbox.core.endpoint import OutgoingMessage
from linkbox.operations.mailbox import MailboxCalls
from linkbox.operations.unsupported import Unsupported
from linkbox.threaded.endpoint import Endpoint
from linkbox.threaded.mailbox import Receiving

PAGE = Path(__file__).with_name("api.md")

HEAD = """\
# API reference

Generated from the docstrings by `docs/make_api.py`; do not edit it by hand. Everything here is imported from
`linkbox`. Times are seconds and sizes are bytes, unless stated otherwise. The guides explain how the
parts work together: [getting started](getting-started.md), [patterns](patterns.md),
[guarantees](guarantees.md).

`linkbox.__version__` is the version. `linkbox.compiled` is True on the compiled build, and False on the pure
Python one.
"""

# Heading -> (a line about it, the names in it). Every name of linkbox.__all__ is in exactly one.
SECTIONS: dict[str, tuple[str, list[Any]]] = {
    "Every endpoint": ("The part that all six share.", [Endpoint, Receiving]),
    "Servers": ("", ["Server", "ServerP2P", "ServerP2M", "ServerAR", "LinkView"]),
    "Clients": ("", ["Client", "ClientP2P", "ClientP2M", "ClientAR"]),
    "Messages, receipts, requests": ("", ["Message", "Receipt", "Stage", "Request", "Peer", "PeerInfo"]),
    "Events": ("[Interrupts and polling](interrupts-and-polling.md) is the guide.", ["Event", "EventKind"]),
    "Statistics": ("", ["EndpointState", "Statistics", "PeerStatistics", "Percentiles"]),
    "Formats": (
        "[Formats](formats.md) is the guide.",
        ["Format", "Bytes", "Text", "Json", "Typed", "MsgPack", "Skip"],
    ),
    "Framings": (
        "[Framings and devices](framings-and-devices.md) is the guide.",
        """Linked Raw Lines Delimited LengthPrefixed FixedSize VarintPrefixed DecimalPrefixed Netstring
        JsonStream Enclosed Slip Cobs Framing Dialogue""".split(),
    ),
    "Settings": ("[Limits](limits.md) has all defaults.", ["Limits", "Backoff", "Address", "Nats"]),
    "Errors": (
        "[Errors](errors.md) says who is at fault, and what to do.",
        """LinkboxError AddressError StateError FormatError DecodeError TooLarge LinkError ListenFailed
        ConnectFailed Refused AuthenticationFailed ProtocolViolation PeerLost SessionLost MailboxEmpty
        MailboxFull EndOfData Incomplete DeadlineExceeded AnswerError StoreError""".split(),
    ),
}

# Not for users, though their names have no underscore.
HIDDEN = {"encode_many", "check", "check_limit", "tokens", "unescaped", "of_server", "is_pair"}
# Handed out, or the base of others: nobody calls these. The fields of Limits are in its table.
NOT_MADE = set(
    """Message Request LinkView Peer PeerInfo Event Receipt Statistics PeerStatistics Percentiles
    Format Framing
    Server Client Limits""".split()
)
WIDTH = 100
SHARED = (Endpoint, Receiving)
ROLES = {Endpoint: "Life cycle, callbacks, peers", Receiving: "The mailbox"}


def documented() -> list[str]:
    """The public names that have a place on the page."""
    return [each for _, names in SECTIONS.values() for each in names if isinstance(each, str)]


def page() -> str:
    """The whole of docs/api.md."""
    parts = [HEAD]
    for title, (about, names) in SECTIONS.items():
        parts.append(f"## {title}\n")
        if about:
            parts.append(f"{about}\n")
        for each in names:
            made = getattr(linkbox, each) if isinstance(each, str) else each
            parts += of_class(made)
    parts.append("## TLS\n\nIn `linkbox.tls`; [security](security.md) is the guide.\n")
    for name in tls.__all__:
        parts += [f"### `tls.{name}{signature_of(getattr(tls, name))}`\n", text(getattr(tls, name).__doc__)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def of_class(cls: type) -> Iterator[str]:
    yield f"### {ROLES[cls]}\n" if cls in ROLES else f"### `{cls.__name__}`\n"
    if cls not in ROLES and (signature := constructor(cls)):
        yield f"```text\n{signature}\n```\n"
    yield text(cls.__doc__)
    inherits = [base.__name__ for base in cls.__bases__ if base.__name__ in linkbox.__all__]
    if inherits:
        yield f"Inherits from {', '.join(f'[`{base}`](#{base.lower()})' for base in inherits)}.\n"
    shared = [base for base in SHARED if cls is not base and issubclass(cls, base) and has_all(cls, base)]
    if shared:
        links = [f"[{ROLES[base]}](#{anchor(ROLES[base])})" for base in shared]
        yield f"Has everything of: {'; '.join(links)}.\n"
    off = [name for name, member in vars(cls).items() if isinstance(member, Unsupported)]
    if off:
        yield f"Without: {', '.join(f'`{name}`' for name in off)}. There `hasattr` is False.\n"
    yield from fields(cls)
    for name, member in members(cls):
        if is_public(name, member) and not overrides_quietly(cls, name, member):
            yield from of_member(name, member)


def members(cls: type) -> Iterator[tuple[str, object]]:
    """What the class itself has, with what comes from a base that is no part of the interface."""
    if cls is linkbox.Receipt:
        yield "stage", vars(OutgoingMessage)["stage"]
        yield "failed", vars(OutgoingMessage)["failed"]
    if cls is Receiving:
        yield from vars(MailboxCalls).items()
    yield from vars(cls).items()


def has_all(cls: type, base: type) -> bool:
    """Has the class all that the base has?"""
    names = [name for name, member in vars(base).items() if is_public(name, member)]
    return all(hasattr(cls, name) for name in names)


def anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def is_public(name: str, member: object) -> bool:
    is_callable = isinstance(member, (property, classmethod, staticmethod)) or inspect.isfunction(member)
    if name == "decoder":  # For users, only as what a framing of theirs must have.
        return member is vars(linkbox.Framing)["decoder"]
    return is_callable and not name.startswith("_") and name not in HIDDEN


def overrides_quietly(cls: type, name: str, member: object) -> bool:
    """Is the docstring of a method that of the one it overrides? Then that one is enough."""
    above = [vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)]
    return name in vars(cls) and bool(above) and doc_of(member) in (None, doc_of(above[0]))


def doc_of(member: Any) -> str | None:
    doc: str | None = getattr(member, "__func__", member).__doc__
    return doc


def of_member(name: str, member: Any) -> Iterator[str]:
    if isinstance(member, property):
        yield f"**`{name}`** (attribute)\n"
    else:
        function = getattr(member, "__func__", member)
        yield f"**`{name}{signature_of(function)}`**\n"
    yield text(doc_of(member))


def constructor(cls: type) -> str:
    """How to make one; empty for what is only ever handed out, for errors, enums and bases."""
    function: Any = vars(cls).get("__init__")
    if cls.__name__ in NOT_MADE or issubclass(cls, enum.Enum | Exception):
        return ""
    line = cls.__name__ + (signature_of(function) if function is not None else "()")
    if len(line) <= WIDTH:
        return line
    shown = [f"    {each}," for each in parameters(function)]
    if keyword_only(function):
        shown.insert(keyword_only(function), "    *,")
    return "\n".join([f"{cls.__name__}(", *shown, ")"])


def parameters(function: Any) -> list[str]:
    signature = inspect.signature(function)
    given = [each for each in signature.parameters.values() if each.name != "self"]
    return [str(each.replace(annotation=plain(each.annotation))) for each in given]


def keyword_only(function: Any) -> int:
    """Where the parameters begin that are given by name only; 0 if there are none."""
    given = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    return next((at for at, each in enumerate(given) if each.kind is each.KEYWORD_ONLY), 0)


def signature_of(function: Any) -> str:
    """The parameters and result, without self, on one line, as they are written in the source."""
    signature = inspect.signature(function)
    shown = [
        each.replace(annotation=plain(each.annotation))
        for each in signature.parameters.values()
        if each.name not in ("self", "cls")
    ]
    result = plain(signature.return_annotation)
    if result is not inspect.Signature.empty and str(result) == "None":
        result = inspect.Signature.empty
    line = str(inspect.Signature(shown, return_annotation=result))
    return line.replace(", /)", ")").replace("(/)", "()")


class Plain:
    """An annotation that is shown as it was written."""

    def __init__(self, written: str) -> None:
        self._written = written

    def __repr__(self) -> str:
        return self._written

    __str__ = __repr__


def plain(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    written = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", repr(annotation))
    return Plain(written)


def fields(cls: type) -> Iterator[str]:
    """Attributes with the docstrings below them, in a table. What the constructor says is not repeated."""
    if issubclass(cls, Exception) or not (dataclasses.is_dataclass(cls) or has_notes(cls)):
        return
    found = list(noted(cls))
    if not any(each.note for each in found):
        return
    if issubclass(cls, enum.Enum):
        rows = ["| member | value | |", "|---|---|---|"]
        rows += [f"| `{each.name}` | `{each.default}` | {each.note} |" for each in found]
    else:
        rows = ["| attribute | type | default | |", "|---|---|---|---|"]
        for each in found:
            default = f"`{each.default}`" if each.default else ""
            rows.append(f"| `{each.name}` | `{each.type}` | {default} | {each.note} |")
    yield "\n".join(rows) + "\n"


def has_notes(cls: type) -> bool:
    return issubclass(cls, enum.Enum) or cls.__name__ in ("Event", "LinkView")


class Attribute(NamedTuple):
    name: str
    type: str
    default: str
    note: str


def noted(cls: type) -> Iterator[Attribute]:
    """Each public attribute in the class body, with the docstring below it."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            target: ast.expr = node.target
            written = ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            target, written = node.targets[0], ""
        else:
            continue
        if not isinstance(target, ast.Name) or target.id.startswith("_") or written.startswith("ClassVar"):
            continue
        note = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            note = one_line(str(following.value.value))
        yield Attribute(target.id, written.replace("|", "\\|"), default_of(node.value), note)


def default_of(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node).replace("_MIB", "1024 * 1024")


def one_line(note: str) -> str:
    return " ".join(note.split()).replace("``", "`").replace("|", "\\|")


def text(doc: str | None) -> str:
    return inspect.cleandoc(doc or "").replace("``", "`") + "\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

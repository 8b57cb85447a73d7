"""The tables of docs/reference have each option of each constructor, and each field of what users get."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest

import linkbox
from linkbox import aio

REFERENCE = Path(__file__).parents[2] / "docs/reference"
PAGE = REFERENCE / "options.md"
ENDPOINTS = ("ServerP2P", "ServerP2M", "ServerAR", "ClientP2P", "ClientP2M", "ClientAR")
GROUPS = {"all": "", "servers": "Server", "clients": "Client", "P2P": "P2P", "P2M": "P2M", "AR": "AR"}
"""What the page calls several endpoints, and the part of a name that all of them have."""

# What the page has in place of names that users cannot import, and of what differs only for type checkers.
TYPES = {
    "ClientAddress": "str | tuple[str, int] | list",
    "str | tuple[str, int] | socket.socket": "str | tuple[str, int] | socket",
    "FormatLike[T, K_co]": "Format | type",
    "FormatLike[T, object]": "Format | type",
    "Overflow": '"block" | "drop_oldest" | "drop_newest" | "error"',
    "StorePath": "str | PathLike[str] | None",
    "Secret | None": "bytes | str | Path | Callable | Sequence",
    "Accept | None": 'Callable[[PeerInfo], bool | "later"] | None',
    "Connect | None": "Callable[[], socket] | None",
    "Proxies": "bool | Sequence[str]",
}


class Option(NamedTuple):
    name: str
    endpoint: str
    type: str
    default: str


def endpoints(words: str) -> list[str]:
    """The endpoints that a cell of the page names."""
    found = []
    for word in re.split(r"[`, ]+", words.strip("` ")):
        found += [word] if word in ENDPOINTS else [name for name in ENDPOINTS if GROUPS[word] in name]
    return found


def cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def rows(text: str) -> list[list[str]]:
    return [cells(line) for line in text.splitlines() if line.startswith("| `")]


def on_page(text: str) -> list[Option]:
    return [
        Option(name.strip("`"), endpoint, kind.strip("`"), default.strip("`").replace(",", ""))
        for name, words, kind, _, default, _ in rows(text)
        for endpoint in endpoints(words)
    ]


def default_of(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    return "Backoff()" if parameter.default == linkbox.Backoff() else str(parameter.default)


def options_of(endpoint: str, made: type) -> list[Option]:
    found = inspect.signature(made).parameters.values()
    return [
        Option(each.name, endpoint, TYPES.get(each.annotation, each.annotation), default_of(each))
        for each in found
        if each.annotation != "None"  # It is there for its error, which says why this endpoint lacks it.
    ]


def test_the_page_has_each_option() -> None:
    options = [each for name in ENDPOINTS for each in options_of(name, getattr(linkbox, name))]
    assert sorted(on_page(PAGE.read_text(encoding="utf-8"))) == sorted(options)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_aio_has_the_same_options(name: str) -> None:
    threaded, asynchronous = (options_of(name, getattr(each, name)) for each in (linkbox, aio))
    assert [each._replace(type="") for each in threaded] == [each._replace(type="") for each in asynchronous]


def test_each_time_has_its_unit() -> None:
    for name, _, kind, unit, _, meaning in rows(PAGE.read_text(encoding="utf-8")):
        assert ("float" in kind) == (unit == "s"), name
        assert bool(re.search(r"\bint\b", kind)) == (unit not in ("", "s")) or "tuple" in kind, name
        assert meaning


@pytest.mark.parametrize(
    ("old", "new"),
    [("`10.0`", "`5.0`"), ("`workers`", "`threads`"), ("`float`", "`int`"), ("| AR |", "| `ClientAR` |")],
)
def test_a_wrong_row_is_seen(old: str, new: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert old in text
    assert sorted(on_page(text)) != sorted(on_page(text.replace(old, new)))


def test_backoff_has_its_arguments() -> None:
    table = rows((REFERENCE / "settings.md").read_text(encoding="utf-8"))
    assert [(argument, kind, default) for argument, kind, _, default, _ in table] == [
        (f"`{name}`", f"`{kind}`", f"`{default}`")
        for (name, kind), default in zip(
            linkbox.Backoff.__annotations__.items(), linkbox.Backoff.__struct_defaults__, strict=True
        )
    ]


@pytest.mark.parametrize("name", ["Message", "Peer", "PeerInfo", "Event", "Receipt", "Request"])
def test_the_fields_are_there(name: str) -> None:
    """All that is no method."""
    text = " ".join(row[0] for row in rows((REFERENCE / "messages.md").read_text(encoding="utf-8")))
    made = getattr(linkbox, name)
    fields = {"stage", "failed", "error", "payload"} if name == "Receipt" else set(public_fields(made))
    assert set(re.findall(rf"`{name}\.(\w+)`", text)) == fields


def public_fields(made: type) -> list[str]:
    slots = [*getattr(made, "__annotations__", {}), *vars(made)]
    return [each for each in slots if not each.startswith("_") and not callable(getattr(made, each, None))]

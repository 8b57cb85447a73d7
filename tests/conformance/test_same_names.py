"""The two front ends side by side: the same public names, the same parameters, the same defaults."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import linkbox
from linkbox import aio

CLASSES = (
    "Server", "ServerP2P", "ServerP2M", "ServerAR",
    "Client", "ClientP2P", "ClientP2M", "ClientAR",
    "LinkView", "Receipt",
)  # fmt: skip
HANDED_OUT = {"LinkView", "Receipt"}
"""Users do not make these, so their constructors may differ."""
AWAITED = {
    "start", "stop", "send", "send_many", "broadcast", "end", "flush", "wait", "wait_connected",
    "data_get", "data_get_count", "data_get_until", "bytes_get", "message_get", "ask", "ask_many", "tell",
}  # fmt: skip


def public(cls: type) -> dict[str, Any]:
    return {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of the parameters; formats and framings by their names."""
    return [
        (each.name, each.kind, repr(each.default)) for each in inspect.signature(function).parameters.values()
    ]


def test_aio_has_the_classes_and_no_others() -> None:
    assert set(aio.__all__) == set(CLASSES)
    assert set(CLASSES) <= set(linkbox.__all__)


@pytest.mark.skipif(hasattr(linkbox.Server, "__mypyc_attrs__"), reason="compiled methods have no signatures")
@pytest.mark.parametrize("name", CLASSES)
def test_names_and_parameters_are_the_same(name: str) -> None:
    threaded, awaiting = getattr(linkbox, name), getattr(aio, name)
    ours, theirs = public(threaded), public(awaiting)
    assert set(ours) == set(theirs)
    assert shape(threaded.__init__) == shape(awaiting.__init__) or name in HANDED_OUT
    for each, member in ours.items():
        assert type(member).__name__ == type(theirs[each]).__name__ or inspect.isfunction(member), each
        if inspect.isfunction(member):
            assert shape(member) == shape(theirs[each]), each


@pytest.mark.parametrize("name", CLASSES)
def test_what_waits_is_awaited_and_nothing_else(name: str) -> None:
    for each, member in public(getattr(aio, name)).items():
        if inspect.isfunction(member):
            assert inspect.iscoroutinefunction(member) is (each in AWAITED), each


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_doors_are_open(name: str) -> None:
    """with and async with, for and async for."""
    threaded, awaiting = getattr(linkbox, name), getattr(aio, name)
    assert hasattr(threaded, "__enter__") is hasattr(awaiting, "__aenter__")
    assert hasattr(threaded, "__iter__") is hasattr(awaiting, "__aiter__")
    assert not hasattr(awaiting, "__enter__")

"""Endpoints, views, receipts and requests have the promised public attributes, and no others."""

from __future__ import annotations

import inspect
from abc import ABC
from typing import Any

import pytest

import linkbox
from linkbox import Request, aio
from linkbox.core.endpoint import OutgoingMessage
from linkbox.operations.receipts import OF_THE_CORE

ENDPOINT = set(
    """address state connected ended last_error retry_at start stop wait_connected peers statistics
    add_callback remove_callback on""".split()
)
MAILBOX = set(
    """data_empty data_count data_get data_get_count data_get_all data_get_until data_peek bytes_get
    message_get""".split()
)
SERVER = ENDPOINT | MAILBOX | {"disconnect"}
PROMISED = {
    "ServerP2P": SERVER | {"send", "broadcast", "end", "link"},
    "ServerP2M": SERVER,
    "ServerAR": SERVER | {"handler"},
    "ClientP2P": ENDPOINT | MAILBOX | {"send", "end"},
    "ClientP2M": ENDPOINT | {"send", "send_many", "flush"},
    "ClientAR": ENDPOINT | MAILBOX | {"ask", "ask_many", "tell", "send"},
}
BASES = {"Server": "ServerP2P, ServerP2M or ServerAR", "Client": "ClientP2P, ClientP2M or ClientAR"}
VIEW = MAILBOX | {"peer", "send", "end"}
REQUEST = {"data", "messages", "peer", "deadline", "cancelled", "answer", "fail", "ignore"}
RECEIPT = {"stage", "failed", "error", "payload", "wait"}


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def make(front: Any, name: str) -> Any:
    return getattr(front, name)("tcp://127.0.0.1:0" if name.startswith("Server") else "tcp://127.0.0.1:1")


@pytest.mark.parametrize("front", [linkbox, aio], ids=["threaded", "aio"])
@pytest.mark.parametrize("name", PROMISED)
def test_endpoints_have_what_is_promised(front: Any, name: str) -> None:
    endpoint = make(front, name)
    assert public(endpoint) == PROMISED[name]
    assert [each for each in PROMISED[name] if not hasattr(endpoint, each)] == []


@pytest.mark.parametrize("front", [linkbox, aio], ids=["threaded", "aio"])
@pytest.mark.parametrize(
    ("name", "missing"),
    [("ServerP2M", ["send", "broadcast", "end", "link"]), ("ClientP2M", sorted(MAILBOX))],
)
def test_what_a_class_lacks_is_no_attribute(front: Any, name: str, missing: list[str]) -> None:
    for thing in (getattr(front, name), make(front, name)):
        assert [each for each in missing if hasattr(thing, each)] == []
    endpoint = make(front, name)
    assert not set(dir(endpoint)) & set(missing)
    with pytest.raises(AttributeError, match=f"{name} has no {missing[0]}"):
        getattr(endpoint, missing[0])


@pytest.mark.parametrize("front", [linkbox, aio], ids=["threaded", "aio"])
def test_a_client_that_only_sends_cannot_be_iterated(front: Any) -> None:
    client = make(front, "ClientP2M")
    assert not hasattr(client, "__iter__")
    assert not hasattr(client, "__aiter__")
    with pytest.raises(TypeError):
        iter(client)


@pytest.mark.parametrize("front", [linkbox, aio], ids=["threaded", "aio"])
def test_views_requests_and_receipts(front: Any) -> None:
    assert public(front.LinkView) == VIEW
    assert public(Request) == REQUEST
    assert public(front.Receipt) == RECEIPT | OF_THE_CORE
    assert public(front.Receipt.__new__(front.Receipt)) == RECEIPT
    assert issubclass(front.Receipt, OutgoingMessage)


@pytest.mark.parametrize("front", [linkbox, aio], ids=["threaded", "aio"])
@pytest.mark.parametrize("name", BASES)
def test_the_bases_are_abstract_and_name_the_concrete_classes(front: Any, name: str) -> None:
    base = getattr(front, name)
    with pytest.raises(TypeError, match=f"{name} is abstract: use {BASES[name]}"):
        base("tcp://127.0.0.1:0")
    assert issubclass(base, ABC)
    concrete = [each for each in PROMISED if each.startswith(name)]
    assert all(issubclass(getattr(front, each), base) for each in concrete)


@pytest.mark.parametrize("front", [linkbox, aio], ids=["threaded", "aio"])
def test_public_classes_inherit_from_one_class_each(front: Any) -> None:
    for name in (*PROMISED, *BASES, "LinkView"):
        for each in inspect.getmro(getattr(front, name)):
            real = [base for base in each.__bases__ if base.__name__ not in ("ABC", "Generic", "object")]
            assert len(real) <= 1, each


@pytest.mark.parametrize("front", [linkbox, aio], ids=["threaded", "aio"])
def test_users_may_derive_and_parametrize(front: Any) -> None:
    class Mine(front.ServerP2P[int]):  # type: ignore[misc]
        def data_count(self) -> int:
            return 7

    mine = Mine("tcp://127.0.0.1:0", linkbox.Json)
    mine.extra = "an attribute of its own"
    assert mine.data_count() == 7
    assert isinstance(mine, front.Server)

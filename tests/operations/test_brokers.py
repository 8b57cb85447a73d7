"""Options of endpoints with a ``nats://`` address: what is taken, and what is refused at construction."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

import linkbox
from linkbox import Lines, Nats, aio

AT = "nats://127.0.0.1/x"
KINDS = ["ServerP2P", "ServerP2M", "ServerAR", "ClientP2P", "ClientP2M", "ClientAR"]


@pytest.mark.parametrize("front", [linkbox, aio])
@pytest.mark.parametrize("kind", KINDS)
def test_all_six_take_a_broker_and_show_no_secret(front: Any, kind: str) -> None:
    for endpoint in (
        getattr(front, kind)(AT, broker=Nats(user="joe", password="s3cret")),
        getattr(front, kind)("nats://joe:s3cret@127.0.0.1/x"),
    ):
        assert endpoint.address == "nats://127.0.0.1:4222/x"
        assert "s3cret" not in repr(endpoint)
        assert endpoint._operations.options.broker == Nats(user="joe", password="s3cret")
    assert getattr(front, kind)(AT)._operations.options.broker == Nats()
    assert getattr(front, kind)("tcp://127.0.0.1:1")._operations.options.broker is None
    assert getattr(front, kind)(AT, ssl=ssl.create_default_context()).address.startswith("nats+tls:")
    with pytest.raises(TypeError, match="takes a Nats, not str"):
        getattr(front, kind)(AT, broker="s3cret")
    with pytest.raises(ValueError, match="is for nats:// addresses"):
        getattr(front, kind)("tcp://127.0.0.1:1", broker=Nats())
    with pytest.raises(ValueError, match="a plain framing speaks to a socket"):
        getattr(front, kind)(AT, framing=Lines())


@pytest.mark.parametrize("kind", ["ServerP2M", "ClientP2M", "ServerAR", "ClientAR"])
def test_a_secret_needs_a_connection(kind: str) -> None:
    with pytest.raises(ValueError, match="the broker authenticates"):
        getattr(linkbox, kind)(AT, secret="s")


@pytest.mark.parametrize("kind", ["ServerP2M", "ServerAR"])
def test_accept_needs_a_connection(kind: str) -> None:
    with pytest.raises(ValueError, match="only P2P has them"):
        getattr(linkbox, kind)(AT, accept=bool)


def test_the_stream_keeps_what_the_mailbox_does_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="waits in the stream"):
        linkbox.ServerP2M(AT, overflow="drop_oldest")
    with pytest.raises(ValueError, match="the broker keeps"):
        linkbox.ServerP2M(AT, store=tmp_path / "x.db")
    linkbox.ClientP2M(AT, store=tmp_path / "x.db")


def test_p2p_has_them_all(tmp_path: Path) -> None:
    linkbox.ServerP2P(AT, secret="s", accept=bool, overflow="drop_oldest")
    linkbox.ServerP2P("nats://broker.example/x", store=tmp_path / "x.db")

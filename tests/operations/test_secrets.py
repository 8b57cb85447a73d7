"""What ``secret=`` may be; and that no secret is ever shown."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import linkbox
from linkbox import AuthenticationFailed, ClientP2P, Lines, ServerP2P, aio
from linkbox.operations.secrets import lookup_of


def test_all_that_it_may_be(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    for given, known in (
        (b"bytes", [b"bytes"]),
        ("tëxt", ["tëxt".encode()]),
        (file, [b"from a file"]),
        (["new", b"old", file], [b"new", b"old", b"from a file"]),
        (("a",), [b"a"]),
    ):
        lookup, identifies = lookup_of(given)
        assert (lookup("anybody"), identifies) == (known, False)
    lookup, identifies = lookup_of({"pump": "its own", "valve": ["two", "secrets"]}.get)
    assert identifies
    assert [lookup(name) for name in ("pump", "valve", "stranger")] == [
        [b"its own"],
        [b"two", b"secrets"],
        [],
    ]


@pytest.mark.parametrize("front", [linkbox, aio])
def test_what_would_let_everybody_in_is_refused(front: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"\n")
    for wrong, error in (
        ("", ValueError),
        (b"", ValueError),
        ([], ValueError),
        (["good", ""], ValueError),
        (empty, ValueError),
        (tmp_path / "missing", FileNotFoundError),
        (5, TypeError),
        ([None], TypeError),
    ):
        with pytest.raises(error):
            front.ServerP2P("tcp://127.0.0.1:0", secret=wrong)
        with pytest.raises(error):
            front.ClientP2P("tcp://127.0.0.1:1", secret=wrong)
    with pytest.raises(ValueError, match="Linked"):
        front.ServerP2P("tcp://127.0.0.1:0", framing=Lines(), secret="s")


def test_a_secret_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    secret = "hunter2 hunter2"
    with caplog.at_level(logging.DEBUG), ServerP2P("tcp://127.0.0.1:0", secret=secret) as server:
        client = ClientP2P(server.address, secret="other " + secret)
        with pytest.raises(AuthenticationFailed) as caught:
            client.start()
        shown = [repr(each) + str(vars(each)) for each in (server, client)]
        shown += [str(caught.value), repr(caught.value), caplog.text]
    assert "hunter2" not in " ".join(shown)


def test_an_error_shows_no_secret_either() -> None:
    with pytest.raises(ValueError, match="Unicode") as caught:
        ServerP2P("tcp://127.0.0.1:0", secret="hunter2\udcff")
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in repr(error)
        error = error.__context__


@pytest.mark.parametrize("unknown", [{}.__getitem__, lambda name: "", lambda name: 5])
def test_a_callable_that_fails_knows_nobody_and_harms_nobody(
    unknown: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Who connects chooses the name: were it to raise, a stranger could end other links with it."""

    def of(name: str) -> Any:
        return "its own" if name == "pump" else unknown(name)

    server = ServerP2P("tcp://127.0.0.1:0", secret=of)
    with server, ClientP2P(server.start().address, name="pump", secret="its own") as pump:
        with pytest.raises(AuthenticationFailed):
            ClientP2P(server.address, name="stranger", secret="its own").start()
        pump.send(b"still here")
        assert server.data_get(timeout=5) == b"still here"
        assert [each.name for each in server.peers()] == ["pump"]
    assert "'stranger'" in caplog.text
    assert "unexpected" not in caplog.text

"""What ``secret=`` may be; and that no secret is ever shown."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import linkbox
from linkbox import AuthenticationFailed, ClientP2P, Lines, ServerP2P, aio
from linkbox.front.secrets import lookup_of


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

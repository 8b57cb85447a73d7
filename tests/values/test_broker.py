"""`Nats`: what it takes, and that it shows no secret."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from linkbox import AddressError, Nats
from linkbox.broker import split_credentials


def test_nothing_is_needed() -> None:
    assert not Nats().has_credentials
    assert repr(Nats()) == "Nats()"


@pytest.mark.parametrize(
    "settings",
    [
        {"token": "s3cret"},
        {"user": "joe", "password": "s3cret"},
        {"nkey": "SUs3cret"},
        {"creds": "joe.creds"},
        {"creds": Path("joe.creds")},
    ],
)
def test_each_kind_of_credentials_is_shown_without_its_secret(settings: dict[str, Any]) -> None:
    found = Nats(**settings)
    assert found.has_credentials
    assert "s3cret" not in repr(found) + str(found)
    assert copy.copy(found) == pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"token": 5}, TypeError, "token"),
        ({"token": ""}, TypeError, "token"),
        ({"creds": 5}, TypeError, "creds"),
        ({"user": "joe"}, ValueError, "belong together"),
        ({"password": "s3cret"}, ValueError, "belong together"),
        ({"token": "s3cret", "creds": "x"}, ValueError, "one kind"),
        ({"replicas": 0}, ValueError, "replicas"),
        ({"replicas": 6}, ValueError, "replicas"),
        ({"replicas": True}, ValueError, "replicas"),
        ({"prefix": "a.*"}, ValueError, "prefix"),
        ({"prefix": "a..b"}, ValueError, "prefix"),
    ],
)
def test_wrong_settings_are_said_without_the_secret(
    settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        Nats(**settings)
    assert "s3cret" not in str(caught.value)


def test_credentials_move_from_the_url_to_the_settings() -> None:
    assert split_credentials("nats://h/x", None) == ("nats://h/x", None)
    assert split_credentials(("h", 1), None) == (("h", 1), None)
    assert split_credentials("nats://tok%2Fen@h/x", None) == ("nats://h/x", Nats(token="tok/en"))
    bare, found = split_credentials("nats+tls://joe:p%40w@h,g/x", Nats(replicas=3, prefix="mine"))
    assert (bare, found) == (
        "nats+tls://h,g/x",
        Nats(user="joe", password="p@w", replicas=3, prefix="mine"),
    )


@pytest.mark.parametrize("credentials", ["", ":s3cret", "joe:"])
def test_half_credentials_in_the_url_are_an_error(credentials: str) -> None:
    with pytest.raises(AddressError, match="user:password or a token") as caught:
        split_credentials(f"nats://{credentials}@h/x", None)
    assert "s3cret" not in str(caught.value)


def test_credentials_twice_are_an_error() -> None:
    with pytest.raises(AddressError, match="leave one out") as caught:
        split_credentials("nats://s3cret@h/x", Nats(token="s3cret"))
    assert "s3cret" not in str(caught.value)

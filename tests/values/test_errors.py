"""Every error survives pickling and copying, with its message and all its attributes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

import linkbox
from linkbox import errors
from linkbox.errors import LinkboxError

SAMPLES: dict[str, LinkboxError] = {
    "Refused": errors.Refused("rejected", "busy"),
    "AuthenticationFailed": errors.AuthenticationFailed("no such secret"),
    "SessionLost": errors.SessionLost("restarted", (b"one", b"two")),
    "Incomplete": errors.Incomplete("too few", 3),
    "AnswerError": errors.AnswerError("KeyError", "'x'"),
}
CLASSES = sorted(
    (cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, LinkboxError)),
    key=lambda cls: cls.__name__,
)


def pickled(error: LinkboxError) -> LinkboxError:
    found = pickle.loads(pickle.dumps(error))
    assert isinstance(found, LinkboxError)
    return found


WAYS: dict[str, Callable[[LinkboxError], LinkboxError]] = {
    "pickle": pickled,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle of a copy": lambda error: pickled(copy.copy(error)),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_survives(cls: type[LinkboxError], way: Callable[[LinkboxError], LinkboxError]) -> None:
    error = SAMPLES.get(cls.__name__) or cls("what happened")
    error.add_note("a note")
    other = way(error)
    assert type(other) is cls
    assert other is not error
    assert (str(other), repr(other), other.args) == (str(error), repr(error), error.args)
    assert vars(other) == vars(error)


def test_receipts_in_doubt_become_payloads() -> None:
    with linkbox.ServerP2P("tcp://127.0.0.1:0") as server, linkbox.ClientP2P(server.address) as client:
        receipt = client.send(b"perhaps")
        error = errors.SessionLost("restarted", (receipt,))
        assert error.in_doubt == (receipt,)
        for way in WAYS.values():
            other = way(error)
            assert isinstance(other, errors.SessionLost)
            assert other.in_doubt == (b"perhaps",)


class OfAUser(linkbox.AnswerError):
    """A subclass with a constructor of its own."""

    def __init__(self, code: int) -> None:
        super().__init__("OfAUser", f"code {code}")
        self.code = code


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_subclass_with_another_constructor_survives(way: Callable[[LinkboxError], LinkboxError]) -> None:
    other = way(OfAUser(7))
    assert isinstance(other, OfAUser)
    assert (other.code, other.type, str(other)) == (7, "OfAUser", "OfAUser: code 7")


def test_an_answer_error_shows_no_control_characters() -> None:
    error = linkbox.AnswerError("E", "first\nCRITICAL forged \x1b[31m" + "x" * 5000)
    assert str(error).isprintable()
    assert len(str(error)) < 1100
    assert error.text.startswith("first\nCRITICAL forged \x1b[31m")

"""Limits: on by default, each a number above zero."""

from __future__ import annotations

from typing import Any

import pytest

from linkbox.limits import Limits

NAMES = Limits.__struct_fields__
WHOLE = [name for name in NAMES if Limits.__annotations__[name] == "int"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [0, -1, True, False, None, "10", float("nan")])
def test_each_limit_is_a_number_above_zero(name: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}="):
        Limits(**{name: bad})


@pytest.mark.parametrize("name", WHOLE)
def test_counts_are_whole_numbers(name: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        Limits(**{name: 1.5})


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(WHOLE)))
def test_times_may_be_fractions(name: str) -> None:
    assert getattr(Limits(**{name: 0.25}), name) == 0.25


def test_they_are_frozen_and_named() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        Limits().message = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        Limits(5)  # type: ignore[call-arg]
    assert Limits(message=5) == Limits(message=5) != Limits()

"""Backoff: how long a client waits before it tries again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkbox.core.backoff import Backoff

MIDDLE = 0.5  # of what ``random`` may return: no jitter at all


@pytest.mark.parametrize(
    ("failures", "expected"), [(0, 0.0), (1, 0.05), (2, 0.1), (3, 0.2), (7, 3.2), (8, 5.0), (5000, 5.0)]
)
def test_delays_double_up_to_the_maximum(failures: int, expected: float) -> None:
    assert Backoff().delay(failures, lambda: MIDDLE) == pytest.approx(expected)


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 0.75), (0.5, 1.0), (1.0, 1.25)])
def test_jitter_spreads_around_the_delay(chance: float, expected: float) -> None:
    assert Backoff(initial=1.0, jitter=0.25).delay(1, lambda: chance) == pytest.approx(expected)


def test_gives_up_after_that_many_attempts() -> None:
    backoff = Backoff(attempts=2)
    assert [backoff.delay(failures, lambda: MIDDLE) for failures in range(4)] == [0.0, 0.05, None, None]


@pytest.mark.parametrize(
    "bad",
    [
        {"initial": 0.0},
        {"initial": -1.0},
        {"initial": 2.0, "maximum": 1.0},
        {"factor": 0.5},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"attempts": 0},
    ],
)
def test_what_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs"):
        Backoff(**bad)


@given(
    failures=st.integers(0, 10_000),
    chance=st.floats(0, 1),
    jitter=st.floats(0, 1),
    factor=st.floats(1, 1000),
)
def test_a_delay_is_never_negative_nor_beyond_the_jittered_maximum(
    failures: int, chance: float, jitter: float, factor: float
) -> None:
    delay = Backoff(jitter=jitter, factor=factor).delay(failures, lambda: chance)
    assert delay is not None
    assert 0 <= delay <= 5.0 * (1 + jitter) * 1.000001

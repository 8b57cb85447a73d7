"""The long campaigns, in short: `make soak` is the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from soak.kills import campaign
from soak.simulation import simulate_all


def test_simulations() -> None:
    tally = simulate_all(range(1_000_000, 1_000_150), steps=100)
    assert tally.runs == 150
    assert min(tally.deaths, tally.drops) > 100 and tally.messages > 5_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("proxy", [False, True], ids=["straight", "through cuts"])
def test_kills(proxy: bool, tmp_path: Path) -> None:
    outcome = campaign(tmp_path, 2_000, 8, seed=1, proxy=proxy)
    assert outcome.is_good, outcome
    assert outcome.messages >= 2_000 and min(outcome.pusher_kills, outcome.taker_kills) >= 8
    if proxy:
        assert outcome.connections > 2

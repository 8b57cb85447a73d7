"""Every scenario, for every pair of front ends, over TCP, unix sockets, TLS and memory; and on uvloop."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.device_scenarios import DEVICE_SCENARIOS
from tests.conformance.dialogue_scenarios import DIALOGUE_SCENARIOS
from tests.conformance.edge_scenarios import EDGE_SCENARIOS
from tests.conformance.fronts import World, address_for, play
from tests.conformance.place_scenarios import PLACE_SCENARIOS
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.serving_scenarios import SERVING_SCENARIOS
from tests.conformance.status_scenarios import STATUS_SCENARIOS
from tests.conformance.trap_scenarios import TRAP_SCENARIOS

by_name = pytest.mark.parametrize(
    "scenario",
    [
        *SCENARIOS,
        *DEVICE_SCENARIOS,
        *DIALOGUE_SCENARIOS,
        *SERVING_SCENARIOS,
        *PLACE_SCENARIOS,
        *TRAP_SCENARIOS,
        *STATUS_SCENARIOS,
        *EDGE_SCENARIOS,
    ],
    ids=lambda function: function.__name__,
)


@by_name
def test_scenario(scenario: Any, world: World) -> None:
    play(scenario, world)


@pytest.mark.again
@pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
@pytest.mark.parametrize("kind", ["tcp", "tls"])
@by_name
def test_scenario_on_uvloop(scenario: Any, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    import uvloop

    authority = request.getfixturevalue("tls_authority") if kind == "tls" else None
    world = World("aio", "aio", address_for(kind, tmp_path), authority)
    play(scenario, world, loop_factory=uvloop.new_event_loop)

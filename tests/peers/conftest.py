"""Real programs for each test; what a test starts is ended with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.faults.place import FRONTS, Place
from tests.peers.processes import Programs, programs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.platform != "linux":
        skip = pytest.mark.skip(reason="looks for listening ports in /proc")
        for item in items:
            if "tests/peers" in item.path.as_posix():
                item.add_marker(skip)


@pytest.fixture(name="run")
def run_programs() -> Iterator[Programs]:
    with programs() as started:
        yield started


@pytest.fixture(params=FRONTS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Makes endpoints of one front end, asyncio behind a blocking face."""
    with Place(request.param) as here:
        yield here

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.nats.servers import MISSING, NatsServer, binary

_names = itertools.count(1)


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[NatsServer]:
    """A broker for all tests that leave it running."""
    if binary() is None:
        pytest.skip(MISSING)
    with NatsServer() as server:
        yield server


@pytest.fixture
def url(shared_broker: NatsServer) -> str:
    """A name of its own for each test, at the shared broker."""
    return shared_broker.url(f"test-{next(_names)}")


@pytest.fixture
def broker() -> Iterator[NatsServer]:
    """A broker of its own, which the test may kill."""
    if binary() is None:
        pytest.skip(MISSING)
    with NatsServer() as server:
        yield server

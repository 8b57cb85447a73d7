from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linkbox.testing import MemoryNetwork
from tests.conformance.fronts import FRONTS, World, address_for


@pytest.fixture(params=FRONTS)
def server_front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=FRONTS)
def client_front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


QUICK = ("tcp-threaded-threaded", "tcp-aio-aio", "memory-threaded-aio", "memory-aio-threaded")
"""The combinations of `make test`: each front end on each side with each other, on sockets and without."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        found: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        if "scenario" in found and "world" in found:
            combination = f"{found['world']}-{found['server_front']}-{found['client_front']}"
            if combination not in QUICK:
                item.add_marker(pytest.mark.again)


@pytest.fixture(params=["tcp", "unix", "tls", "memory"])
def world(request: pytest.FixtureRequest, server_front: str, client_front: str) -> Iterator[World]:
    # Asked for only where it is needed: without cryptography the others still play.
    authority = request.getfixturevalue("tls_authority") if request.param == "tls" else None
    with tempfile.TemporaryDirectory(prefix="lb") as folder:  # a socket's path has to be short
        if request.param != "memory":
            yield World(server_front, client_front, address_for(request.param, Path(folder)), authority)
            return
        with MemoryNetwork() as network:
            yield World(server_front, client_front, "memory://server", network=network)


@pytest.fixture(scope="session")
def tls_authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.tls.certificates import Authority

    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def asyncio_has_nothing_to_say(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task or exception of ours is forgotten, no write goes nowhere: asyncio logs what it finds."""
    with caplog.at_level(logging.WARNING, "asyncio"):
        yield
    records = caplog.get_records("call") + caplog.get_records("teardown")
    assert [record.getMessage() for record in records if record.name == "asyncio"] == []

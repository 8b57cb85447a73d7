from __future__ import annotations

import pytest

from tests.conformance.conftest import asyncio_has_nothing_to_say
from tests.conformance.fronts import FRONTS, World
from tests.threaded.conftest import _nothing_left_behind, may_log_errors, pytest_runtest_makereport
from tests.tls.certificates import Authority

__all__ = [  # theirs hold here too
    "_nothing_left_behind",
    "asyncio_has_nothing_to_say",
    "may_log_errors",
    "pytest_runtest_makereport",
]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(params=[f"{server}-{client}" for server in FRONTS for client in FRONTS])
def world(request: pytest.FixtureRequest, authority: Authority) -> World:
    server, _, client = request.param.partition("-")
    return World(server, client, "tls://127.0.0.1:0", authority)


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, authority: Authority) -> World:
    """The same front end on both sides."""
    return World(request.param, request.param, "tls://127.0.0.1:0", authority)

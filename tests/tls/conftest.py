from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.conftest import asyncio_has_nothing_to_say as asyncio_has_nothing_to_say
from tests.conformance.fronts import FRONTS, World
from tests.threaded.conftest import _nothing_left_behind as _nothing_left_behind
from tests.threaded.conftest import may_log_errors as may_log_errors
from tests.threaded.conftest import pytest_runtest_makereport as pytest_runtest_makereport
from tests.tls.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(params=[f"{server}-{client}" for server in FRONTS for client in FRONTS])
def world(request: pytest.FixtureRequest, authority: Authority) -> Iterator[World]:
    server, _, client = request.param.partition("-")
    yield World(server, client, "tls://127.0.0.1:0", authority)


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, authority: Authority) -> World:
    """The same front end on both sides."""
    return World(request.param, request.param, "tls://127.0.0.1:0", authority)

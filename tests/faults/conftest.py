"""The oracle over every fault: what a test has used is given back, and nobody forgets an error.

The other half stands in `Place.serving`: a well-behaved client of the same server, that must not notice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from tests.faults.place import FRONTS, TRANSPORTS, Place
from tests.threaded.helpers import descriptors, wait_until

_FAILED = pytest.StashKey[bool]()
_OWN = "its other process makes endpoints of its own, without certificates"
_SHAKES = "a bare socket shakes hands before it knows that it is turned away"
NOT_OVER_TLS = {
    "test_a_peer_process_is_killed_at_each_byte": _OWN,
    "test_fork_after_start": _OWN,
    "test_the_interpreter_exits_without_stop": _OWN,
    "test_signals_in_a_blocking_call": _OWN,
    "test_ctrl_c_in_data_get": _OWN,
    "test_a_connection_flood": _SHAKES,
    "test_too_many_unwelcomed": _SHAKES,
    "test_too_many_unwelcomed_from_one_ip": _SHAKES,
    "test_too_many_connections": _SHAKES,
    "test_half_open_the_cable_is_pulled": "the certificate is for 127.0.0.1",
    "test_many_addresses_of_one_ipv6_network": "the certificate is for 127.0.0.1",
    "test_one_address_does_not_push_out_others": "the certificate is for 127.0.0.1",
    "test_sessions_of_one_address_do_not_push_out_others": "the certificate is for 127.0.0.1",
    "test_closing_with_unread_input": "TLS has no MSG_PEEK",
    "test_a_flood_of_bad_messages": "more fit into the kernel, and pytest keeps a line for each",
    "test_a_replayed_proof": "its MACs do not cover the certificate: see tests/core/test_secure.py",
}
"""Why these are for plain TCP alone."""


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def may_log_errors() -> None:
    """For faults that are the user's own: a callback or handler that raises is logged as an error."""


@pytest.fixture
def place(request: pytest.FixtureRequest, front: str, transport: str) -> Iterator[Place]:
    """Where the fault happens. Afterwards descriptors and threads are what they were."""
    name = request.node.originalname
    if transport == "tls" and name in NOT_OVER_TLS:
        pytest.skip(NOT_OVER_TLS[name])
    before, threads = descriptors(), set(threading.enumerate())
    keeper = _Keeper()
    loggers = [logging.getLogger(name) for name in ("linkbox", "asyncio")]
    for logger in loggers:
        logger.addHandler(keeper)
    try:
        with Place(front, TRANSPORTS[transport]) as place:
            yield place
    finally:
        for logger in loggers:
            logger.removeHandler(keeper)
    if request.node.stash.get(_FAILED, False):
        return  # One failure is enough.
    wait_until(lambda: set(threading.enumerate()) <= threads, "threads are left", 5)
    wait_until(lambda: len(descriptors()) <= len(before), f"left: {descriptors() - before}", 5)
    if "may_log_errors" not in request.fixturenames:
        assert not keeper.records, "\n".join(keeper.records)


class _Keeper(logging.Handler):
    """Remembers errors of linkbox, and everything that asyncio has to complain of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.name == "asyncio":
            self.records.append(logging.Formatter().format(record))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.failed:
        item.stash[_FAILED] = True
    return report

"""The oracle over every test here: threads, descriptors and the log are as they were."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from tests.threaded.helpers import descriptors, wait_until


@pytest.fixture
def may_log_errors() -> None:
    """For tests in which a callback or handler raises, which is logged as an error."""


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(logging.Formatter().format(record))


def _ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("linkbox")}


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no threads of ours, no descriptors, no errors in the log."""
    before, threads = descriptors(), _ours()
    keeper = _Keeper()
    logging.getLogger("linkbox").addHandler(keeper)
    yield
    logging.getLogger("linkbox").removeHandler(keeper)
    if request.node.stash.get(_FAILED, False):
        return  # One failure is enough.
    wait_until(lambda: _ours() <= threads, "threads are left", 5)
    wait_until(lambda: len(descriptors()) <= len(before), f"left: {descriptors() - before}", 5)
    if "may_log_errors" not in request.fixturenames:
        assert not keeper.records, "\n".join(keeper.records)


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.failed:
        item.stash[_FAILED] = True
    return report

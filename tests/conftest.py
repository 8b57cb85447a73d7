"""Settings for all tests."""

import os
import signal

import pytest
from hypothesis import settings

import linkbox

# A time limit for one example says nothing under coverage or on a shared machine.
# With CI set, hypothesis picks its own, deterministic profile.
if "CI" not in os.environ:
    settings.register_profile("linkbox", deadline=None)
    settings.load_profile("linkbox")

# What a shell starts in the background ignores SIGINT, and so do its children; tests interrupt theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is compiled has its constants built in, and its methods cannot be exchanged."""
    if linkbox.compiled:
        skip = pytest.mark.skip(reason="changes the code under test, and that is compiled")
        for item in items:
            if item.get_closest_marker("patches"):
                item.add_marker(skip)

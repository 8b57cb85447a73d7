"""Settings for all tests."""

import os

import pytest
from hypothesis import settings

import linkbox

# A time limit for one example says nothing under coverage or on a shared machine.
# With CI set, hypothesis picks its own, deterministic profile.
if "CI" not in os.environ:
    settings.register_profile("linkbox", deadline=None)
    settings.load_profile("linkbox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is compiled has its constants built in, and its methods cannot be exchanged."""
    if linkbox.compiled:
        skip = pytest.mark.skip(reason="changes the code under test, and that is compiled")
        for item in items:
            if item.get_closest_marker("patches"):
                item.add_marker(skip)

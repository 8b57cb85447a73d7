"""Settings for all tests."""

import os

from hypothesis import settings

# A time limit for one example says nothing under coverage or on a shared machine.
# With CI set, hypothesis picks its own, deterministic profile.
if "CI" not in os.environ:
    settings.register_profile("linkbox", deadline=None)
    settings.load_profile("linkbox")

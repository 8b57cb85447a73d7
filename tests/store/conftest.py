"""The oracle over every test here: threads and descriptors are as they were, and no error is in the log."""

from tests.threaded.conftest import (
    _nothing_left_behind,
    may_log_errors,
    pytest_runtest_makereport,
)

__all__ = ["_nothing_left_behind", "may_log_errors", "pytest_runtest_makereport"]

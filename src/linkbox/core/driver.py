"""The base class of the drivers, which call the core and do the I/O. Each front end has its own driver."""

from __future__ import annotations


class Driver:
    """Does the I/O of a started endpoint. Operations must call `settle` after each call into the core."""

    __slots__ = ()

    def settle(self) -> None:
        """Write, connect and wake waiters, as the last calls into the core require."""
        raise NotImplementedError

"""What calls the core, as operations see it: each front end has its own."""

from __future__ import annotations


class Driver:
    """Moves the bytes of one life of an endpoint. After each call into the core, `settle` must be called."""

    __slots__ = ()

    def settle(self) -> None:
        """Write, dial and wake as the last calls into the core require."""
        raise NotImplementedError

"""A network in memory for real endpoints, for tests that need no sockets and no real time."""

from __future__ import annotations

from types import TracebackType

from linkbox.networks.memory_hub import MemoryHub, networks
from linkbox.testing.clock import ManualClock


class MemoryNetwork:
    """Carries ``memory://name`` addresses, inside this process, while the ``with`` block runs.

    For all six endpoints, threaded and asyncio, in any mix. Connections behave as TCP's do: byte streams with
    bounded buffers, half-close, reset. ``capacity``: bytes on their way in one direction, at most. ``chunk``:
    bytes that arrive at a time, at most. ``clock``: with a `ManualClock`, time passes for the endpoints only
    when the test advances it. Stop the endpoints before the block ends.
    """

    def __init__(
        self, *, clock: ManualClock | None = None, capacity: int = 256 * 1024, chunk: int = 64 * 1024
    ) -> None:
        for name, value in (("capacity", capacity), ("chunk", chunk)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: a number of bytes from 1 is needed")
        self._clock = clock
        self._hub = MemoryHub(capacity, chunk, None if clock is None else clock.read)

    def __enter__(self) -> MemoryNetwork:
        networks.append(self._hub)
        if self._clock is not None:
            self._clock._hubs.append(self._hub)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        networks.remove(self._hub)
        if self._clock is not None:
            self._clock._hubs.remove(self._hub)
        self._hub.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._hub.count()

    def cut(self) -> int:
        """Reset every connection; returns how many there were. What was on its way is lost."""
        return self._hub.cut()

    def hold(self) -> None:
        """Let nothing arrive until `release`; connections stay open, as when a cable is pulled."""
        self._hub.hold(True)

    def release(self) -> None:
        """Let everything arrive again."""
        self._hub.hold(False)

    def refuse(self, refuses: bool = True) -> None:
        """Let every attempt to connect fail (``ConnectFailed``), or no more; open connections stay."""
        self._hub.is_refusing = refuses

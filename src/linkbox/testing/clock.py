"""A clock that stands still until a test advances it."""

from __future__ import annotations

from linkbox.networks.memory_hub import MemoryHub


class ManualClock:
    """A clock that stands still until it is advanced: ``MemoryNetwork(clock=ManualClock())``."""

    def __init__(self, now: float = 100.0) -> None:
        self.now: float = now
        """Seconds."""
        self._hubs: list[MemoryHub] = []
        """The networks that follow this clock."""

    def read(self) -> float:
        """What time it is."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let so much time pass, from one deadline of the endpoints to the next.

        At each step it waits until the endpoints have done what is due (not for your own callbacks and
        handlers). In a coroutine: ``await asyncio.to_thread(clock.advance, seconds)``.
        """
        until = self.now + seconds
        self._step(self.now)
        while (due := min((hub.next_deadline() for hub in self._hubs), default=until)) < until:
            self._step(max(self.now, due))
        self._step(until)

    def _step(self, now: float) -> None:
        self.now = now
        for hub in self._hubs:
            hub.clock_moved()
        for hub in self._hubs:
            hub.come_to_rest()

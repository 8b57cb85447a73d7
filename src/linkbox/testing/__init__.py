"""For your tests: a proxy that simulates a bad network, and a network in memory with a manual clock."""

from linkbox.testing.memory import ManualClock, MemoryLink, MemoryNetwork
from linkbox.testing.proxy import Faults, FaultyProxy

__all__ = ["Faults", "FaultyProxy", "ManualClock", "MemoryLink", "MemoryNetwork"]

"""For your tests: a proxy that misbehaves as networks do, and a network in memory with a clock of its own."""

from linkbox.testing._cores import ManualClock, MemoryLink
from linkbox.testing.proxy import Faults, FaultyProxy

__all__ = ["Faults", "FaultyProxy", "ManualClock", "MemoryLink", "MemoryNetwork"]

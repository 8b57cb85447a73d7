"""For your tests: a proxy that misbehaves as networks do, and a network in memory with a manual clock."""

from linkbox.testing.clock import ManualClock
from linkbox.testing.memory import MemoryNetwork
from linkbox.testing.proxy import Faults, FaultyProxy

__all__ = ["Faults", "FaultyProxy", "ManualClock", "MemoryNetwork"]

"""For your tests: a proxy that misbehaves as networks do, recordings to replay, and a network in memory."""

from linkbox.testing.clock import ManualClock
from linkbox.testing.memory import MemoryNetwork
from linkbox.testing.proxy import Faults, FaultyProxy
from linkbox.testing.recording import Recording

__all__ = ["Faults", "FaultyProxy", "ManualClock", "MemoryNetwork", "Recording"]

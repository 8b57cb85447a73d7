"""For your tests: a network that misbehaves, one in memory, recordings to replay, and a broker."""

from linkbox.testing.broker import FakeBroker
from linkbox.testing.clock import ManualClock
from linkbox.testing.memory import MemoryNetwork
from linkbox.testing.proxy import Faults, FaultyProxy
from linkbox.testing.recording import Recording

__all__ = ["FakeBroker", "Faults", "FaultyProxy", "ManualClock", "MemoryNetwork", "Recording"]

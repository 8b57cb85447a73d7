"""For your tests: a proxy that misbehaves on purpose, as networks do."""

from linkbox.testing.proxy import Faults, FaultyProxy

__all__ = ["Faults", "FaultyProxy"]

"""linkbox with its core and engine compiled, as `make native` leaves it."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

sys.path.insert(0, os.path.abspath(os.environ["LINKBOX_NATIVE"]))
ours: Any = importlib.import_module("benchmarks.peers.ours")
hub: Any = importlib.import_module("linkbox.core.hub")
if hub.__file__.endswith(".py"):
    raise RuntimeError(f"{hub.__file__} is not compiled")


def __getattr__(name: str) -> Any:
    return getattr(ours, name)

"""linkbox compiled, as `make native` leaves it."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

sys.path.insert(0, os.path.abspath(os.environ["LINKBOX_NATIVE"]))
ours: Any = importlib.import_module("benchmarks.peers.ours")
for name in ("linkbox.core.session", "linkbox.threaded.engine"):
    file = str(importlib.import_module(name).__file__)
    if file.endswith(".py"):
        raise RuntimeError(f"{file} is not compiled")


def __getattr__(name: str) -> Any:
    return getattr(ours, name)

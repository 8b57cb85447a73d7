"""linkbox.aio on uvloop, with its core compiled."""

from __future__ import annotations

import importlib
from typing import Any

import benchmarks.peers.ours_compiled  # noqa: F401  what is imported from now on is compiled

ours: Any = importlib.import_module("benchmarks.peers.ours_aio_uvloop")


def __getattr__(name: str) -> Any:
    return getattr(ours, name)

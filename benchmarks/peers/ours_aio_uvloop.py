"""linkbox.aio on uvloop."""

from __future__ import annotations

from typing import Any

import uvloop

from benchmarks.peers import ours_aio

ours_aio._run = uvloop.run


def __getattr__(name: str) -> Any:
    return getattr(ours_aio, name)

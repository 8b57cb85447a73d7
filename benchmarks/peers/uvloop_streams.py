"""The same streams on uvloop."""

from __future__ import annotations

from typing import Any

import uvloop

from benchmarks.peers import streams

streams._run = uvloop.run  # type: ignore[assignment]


def __getattr__(name: str) -> Any:
    return getattr(streams, name)

"""The public object of an endpoint, as its operations know it.

Threads, tasks and operations do not hold the public object. So the finalizer of a client runs when the
application does not refer to it any more, and stops it. `Owner.keep` holds the object in two cases: of a
started server, or a client with callbacks, which work without being referenced; and of a forgotten client
while it stops.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any


class Owner:
    """Refers to the public object, and holds it only if it must."""

    def __init__(self, endpoint: object) -> None:
        self.kind: str = type(endpoint).__name__
        self.refer: weakref.ref[object] = weakref.ref(endpoint)
        """Returns the public object, or None if there is none any more."""
        self._held: object = None

    def keep(self, endpoint: object) -> None:
        """Hold the public object. After the collector of cycles has cleared the reference it is a new one."""
        self._held = endpoint
        self.refer = weakref.ref(endpoint)

    def release(self) -> None:
        """Do not hold it any more."""
        self._held = None


def finalize(endpoint: object, life: Any) -> None:
    """The finalizer of an endpoint. ``life`` is its `Life`, None if its constructor has failed."""
    if life is not None and life.forgotten(endpoint):
        how = f"call stop(), or use {life.runtime.block}"
        text = f"{life} was not stopped and is no longer referenced: {how}"
        warnings.warn(text, ResourceWarning, stacklevel=3, source=endpoint)

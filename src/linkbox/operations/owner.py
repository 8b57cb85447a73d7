"""The public object of an endpoint, as its operations know it.

Threads, tasks and operations do not hold the public object. So its finalizer runs when the application does
not refer to it any more, and stops the endpoint. `Owner.keep` holds it in two cases: while the endpoint has
callbacks or a handler, which work without being referenced, and while a forgotten endpoint stops.
"""

from __future__ import annotations

import weakref


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

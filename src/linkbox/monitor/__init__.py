"""Shows what the endpoints of a running process do, from outside: ``linkbox top``.

- ``start()``, or the environment variable ``LINKBOX_MONITOR=1``: the process answers on a unix socket of its
  own, which only its user can open. It is off by default, and costs nothing then.
- ``processes()``: what all monitored processes of this user do. ``snapshot()``: what this one does.

Nothing can be changed through the socket.
"""

from __future__ import annotations

from linkbox.monitor.reader import Reader, Row, processes
from linkbox.monitor.server import snapshot, start, stop
from linkbox.snapshots import EndpointSnapshot, PeerSnapshot, ProcessSnapshot

__all__ = [
    "EndpointSnapshot",
    "PeerSnapshot",
    "ProcessSnapshot",
    "Reader",
    "Row",
    "processes",
    "snapshot",
    "start",
    "stop",
]

"""What an endpoint and a process look like from outside: plain values, which can be sent as JSON.

Metrics, `linkbox.monitor`, ``linkbox top`` and its page show these. Text from peers is escaped already.
"""

from __future__ import annotations

import msgspec

from linkbox.events import Percentiles


class PeerSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One connected peer of an endpoint. Counts are since its conversation began."""

    name: str
    address: str
    id: str
    identity: str | None
    connected_at: float
    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    unacknowledged: int
    waiting: int
    round_trip: float | None
    silence: float
    mailbox_share: float
    window_share: float
    waits_for: str


class EndpointSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. Counts are since its construction. Times are seconds, points in time since the epoch."""

    number: int
    """Identifies the endpoint in its process."""
    kind: str
    """The name of its class, such as ``"ServerP2P"``."""
    front: str
    """``"threaded"`` or ``"aio"``."""
    pattern: str
    side: str
    name: str
    address: str
    format: str
    framing: str
    secure: bool
    store: str
    """The path of its store, or empty."""
    state: str
    """An `EndpointState`, in lower case; ``"blocked"`` if the endpoint did not answer in time."""
    trouble: str = ""
    """What needs a person, as a text; empty if nothing does."""
    waits_for: str = ""
    """What keeps messages from moving, as a text; empty if nothing does."""
    last_error: str = ""
    last_error_at: float | None = None
    retry_at: float | None = None
    callback: str = ""
    """The callback that is running now, if any."""
    callback_seconds: float = 0.0
    busy_workers: int = 0
    """ServerAR: handlers that are running now."""
    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    mailbox_share: float = 0.0
    window_share: float = 0.0
    dropped: int = 0
    rejected: int = 0
    skipped: int = 0
    errors: int = 0
    callback_errors: int = 0
    events_dropped: int = 0
    errors_by_kind: dict[str, int] = {}
    connections: int = 0
    connections_total: int = 0
    refused: int = 0
    reconnects: int = 0
    attempts: int = 0
    round_trips: Percentiles | None = None
    answer_times: Percentiles | None = None
    answer_buckets: list[int] = []
    """Bucket n counts the answers that took less than 2**n microseconds, and are in no earlier bucket."""
    answer_total: float = 0.0
    """The sum of these times."""
    peers: list[PeerSnapshot] = []
    """The connected peers; the first ones, if there are very many."""


class ProcessSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One process and its started endpoints."""

    pid: int
    program: str
    version: str
    at: float
    """When the snapshot was made, in seconds since the epoch."""
    endpoints: list[EndpointSnapshot]
    error: str = ""
    """Why the process could not be asked; empty if it could."""

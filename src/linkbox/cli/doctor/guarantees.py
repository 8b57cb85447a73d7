"""Which guarantees apply to a name at a broker, and what cannot be seen from a client. See docs/nats.md."""

from __future__ import annotations

from typing import Final

MAJORITY: Final = 3
"""From that many replicas on, one node may fail."""

UNSYNCED: Final = (
    "sync_interval: only with `always` is a message on disk when it is acknowledged. The default writes "
    "every two minutes, and a power cut loses what came since: look into nats.conf"
)
_SAME: Final = {
    "p2p": (
        "order is kept, nothing comes twice",
        "RECEIVED: in the mailbox of the peer. Nothing is stored at the broker",
        "broker restarted: the conversation resumes. Server killed: SessionLost",
    ),
    "ar": (
        "no order among requests; a request is never sent twice",
        "server or broker lost: PeerLost within about 3 s. Nothing is stored at the broker",
    ),
}


def guarantees_of(pattern: str, replicas: int, is_memory: bool) -> tuple[str, ...]:
    """The guarantees for this pattern, one line each."""
    if pattern != "p2m":
        return _SAME.get(pattern, ())
    if is_memory:
        received = "RECEIVED: in the memory of the broker: lost when nats-server stops"
    elif replicas >= MAJORITY:
        received = "RECEIVED: on a majority of the nodes. A node lost: a few seconds without, then on"
    else:
        received = "RECEIVED: in the stream; nats-server killed: kept. A power cut: see sync_interval below"
    return (
        "order is kept with one server until a message comes again; none across servers",
        "what may come twice is marked redelivered; nothing acknowledged is lost when an end is killed",
        received,
    )


def unseen_of(pattern: str) -> tuple[str, ...]:
    """What a client cannot find out about the broker, one line each."""
    common = (
        "how many servers share the name: one of them has answered, or none",
        "what the permissions allow, beyond the steps above",
    )
    if pattern == "p2p":
        return ("whether the server wants a secret=, or has a free slot", *common)
    if pattern != "p2m":
        return common
    return (
        UNSYNCED,
        "max_file_store and the free space of the disk of nats-server",
        *common,
    )

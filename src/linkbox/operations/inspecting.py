"""What an endpoint is doing: its state, its statistics, and a snapshot of both for other processes."""

from __future__ import annotations

import time
from itertools import count, islice
from typing import Final

import msgspec

from linkbox.core.statistics import statistics
from linkbox.errors import EndOfData
from linkbox.events import EndpointState, Peer, PeerStatistics, Statistics
from linkbox.operations.endpoint import EndpointOperations
from linkbox.operations.lifecycle import Life
from linkbox.snapshots import EndpointSnapshot, PeerSnapshot
from linkbox.text import LONGEST_MESSAGE, printable, text_of

MOST_PEERS: Final = 1000
"""Peers in a snapshot."""
STUCK: Final = 3.0
"""Seconds after which a callback that is still running is a trouble."""
_numbers = count(1)


def state(operations: EndpointOperations) -> EndpointState:
    """What the endpoint is doing. Takes the lock."""
    with operations.runtime.locked():
        if operations.is_stopping:
            return EndpointState.STOPPING
        if operations.core is not None:
            return operations.core.status.state()
        return EndpointState.STOPPED if operations.was_stopped else EndpointState.NEW


def is_connected(operations: EndpointOperations) -> bool:
    """Is a peer connected? Takes the lock."""
    return bool(operations.peers())


def has_ended(operations: EndpointOperations) -> bool:
    """Can no further message arrive? Takes the lock."""
    with operations.runtime.locked():
        return operations.mailbox.end_reason is not None


def retry_at(operations: EndpointOperations) -> float | None:
    """When the next attempt to connect is made, in seconds since the epoch. Takes the lock."""
    with operations.runtime.locked():
        core, now = operations.core, operations.now()
        left = None if core is None else core.status.retry_in(now)
        return None if left is None else time.time() + left


def statistics_of(operations: EndpointOperations) -> Statistics:
    """A snapshot of all counters. Takes the lock."""
    with operations.runtime.locked():
        core = operations.core
        if core is None:
            return statistics([], operations.counters, operations.mailbox)
        return core.statistics(operations.now())


def snapshot(operations: Life, patience: float, most_peers: int = MOST_PEERS) -> EndpointSnapshot:
    """What the endpoint looks like from outside. From any thread, also for endpoints of an event loop.

    One that does not let itself be looked at within ``patience`` seconds is reported as blocked.
    """
    try:
        found = operations.runtime.inspect(
            lambda: _snapshot(operations, min(most_peers, MOST_PEERS)), patience
        )
    except Exception as error:  # the other endpoints must be shown nevertheless
        trouble = f"it cannot be inspected: {_shown(error)}"
    else:
        if isinstance(found, EndpointSnapshot):
            return found
        what = "event loop" if operations.runtime.is_aio else "lock"
        trouble = f"blocked: its {what} was not free for {patience:g} s"
    return msgspec.structs.replace(_outline(operations), state="blocked", trouble=trouble, waits_for=trouble)


def _outline(operations: Life) -> EndpointSnapshot:
    """What never changes, or may be read without the lock."""
    options = operations.options
    if not operations.number:
        operations.number = next(_numbers)
    return EndpointSnapshot(
        number=operations.number,
        kind=operations.owner.kind,
        front="aio" if operations.runtime.is_aio else "threaded",
        pattern=options.pattern.name,
        side=options.side,
        name=printable(options.name),
        address=printable(str(operations.address)),
        format=printable(options.format.name),
        framing=printable(options.framing.name),
        secure=options.is_secure,
        store=printable(str(options.store_path or "")),
        state="new",
    )


def _snapshot(operations: Life, most_peers: int) -> EndpointSnapshot:
    numbers, status = statistics_of(operations), state(operations)
    loop = operations.callback_loop
    callback, seconds = ("", 0.0) if loop is None else loop.running()
    waits_for = numbers.waits_for
    if seconds >= STUCK:
        waits_for = f"the callback {callback}, which has been running for {seconds:.1f} s"
    waits_for = operations.waits_for_workers() or waits_for
    histogram = operations.counters.answer_times
    peers = islice(numbers.peers.items(), most_peers)
    error = "" if numbers.last_error is None else _shown(numbers.last_error)
    return msgspec.structs.replace(
        _outline(operations),
        state=status.value,
        trouble=_trouble(operations, status, waits_for, error),
        waits_for=printable(waits_for, LONGEST_MESSAGE),
        last_error=error,
        last_error_at=numbers.last_error_at,
        retry_at=retry_at(operations),
        callback=callback,
        callback_seconds=seconds,
        busy_workers=len(operations.busy),
        answer_buckets=histogram.counts[:],
        answer_total=histogram.total,
        peers=[_peer(peer, of_peer) for peer, of_peer in peers],
        **{name: getattr(numbers, name) for name in _SAME},
    )


_SAME: Final = tuple(
    """messages_sent messages_received bytes_sent bytes_received waiting waiting_bytes mailbox_share
    window_share dropped rejected skipped errors callback_errors events_dropped errors_by_kind connections
    connections_total refused reconnects attempts round_trips answer_times""".split()
)
"""The fields that a snapshot takes from the statistics."""


def _trouble(operations: Life, status: EndpointState, waits_for: str, error: str) -> str:
    """What needs a person, or an empty text."""
    reason = operations.mailbox.end_reason
    if status is EndpointState.ENDED and reason is not None and not isinstance(reason, EndOfData):
        return f"ended: {_shown(reason)}"
    if status is EndpointState.CONNECTING and waits_for:
        waits_for = f"{waits_for}; {error}"
    return f"waits for {printable(waits_for, LONGEST_MESSAGE)}" if waits_for else ""


def _peer(peer: Peer, numbers: PeerStatistics) -> PeerSnapshot:
    return PeerSnapshot(
        name=printable(peer.name),
        address=printable(peer.address),
        id=peer.id,
        identity=None if peer.identity is None else printable(peer.identity),
        connected_at=peer.connected_at,
        messages_sent=numbers.messages_sent,
        messages_received=numbers.messages_received,
        bytes_sent=numbers.bytes_sent,
        bytes_received=numbers.bytes_received,
        unacknowledged=numbers.unacknowledged,
        waiting=numbers.waiting,
        round_trip=numbers.round_trip,
        silence=numbers.silence,
        mailbox_share=numbers.mailbox_share,
        window_share=numbers.window_share,
        waits_for=printable(numbers.waits_for, LONGEST_MESSAGE),
    )


def _shown(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {text_of(error)}", LONGEST_MESSAGE)

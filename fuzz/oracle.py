"""What must hold of a whole endpoint, whatever its peer says: the limits, and that nothing is left of it.

The bounds are computed here from `Limits` and the constants of the protocol, not asked of the code that keeps
them: a check which that code has lost is missed here. `tests/fuzz/test_bounds.py` takes each of them away.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter, deque
from collections.abc import Iterable
from itertools import chain
from typing import Any

from linkbox.core.arrival import AskState
from linkbox.core.asks_client import ClientAsks
from linkbox.core.asks_server import ServerAsks
from linkbox.core.channel import OutgoingMessage
from linkbox.core.endpoint_core import EndpointCore, ServerCore
from linkbox.core.incoming_asks import SessionAsks
from linkbox.core.link import Link, State
from linkbox.core.linked_link import LinkedLink
from linkbox.core.outgoing import Piece, Unit
from linkbox.core.places import PING_WAIT
from linkbox.core.plain_link import PlainLink
from linkbox.core.send_window import EARLY_BYTES, EARLY_UNITS
from linkbox.core.session import Session
from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Decoder, Pile
from linkbox.limits import Limits

FRAMING_SLACK = 8
REQUEST = 512
"""Bytes that are counted for a request, each of its messages and each response, besides the payload."""
MOMENT = 1e-6
"""Seconds, for what is lost in adding them up."""
CONFIRM = 60.0
"""Seconds that a session is kept which has ended: only the last confirmation may be missing."""
MOST_KEPT = 256 * 1024
"""Bytes that an endpoint may keep of what is over: tables that were large stay a little larger."""
LINES = 10
"""About connections that were not admitted, in a minute; and one that counts the others."""


def check(hub: EndpointCore, limits: Limits, now: float) -> None:
    """What is held for peers is within the limits, nobody waits for longer, and the marks are in order."""
    for link in hub.links.links:
        check_link(link, limits)
        check_times(link, limits, now)
    for session in hub.sessions.by_id.values():
        check_session(session, limits)
    check_tables(hub, limits, now)
    check_asks(hub, limits)


def check_tables(hub: EndpointCore, limits: Limits, now: float) -> None:
    """How many of each there are."""
    sessions = hub.sessions.by_id
    assert len(hub.links.links) <= limits.connections
    turns = [each.receiving for each in sessions.values() if not each.receiving.is_suspended]
    waiting = sum(each.waiting_bytes for each in turns)
    assert waiting <= hub.mailbox.nbytes <= most_waiting(hub, limits)
    if hub.journal is not None:
        assert hub.journal.spooled() <= limits.store_bytes
    if not isinstance(hub, ServerCore):
        return
    door = hub.admission
    assert len(sessions) <= door.places.max_peers
    gone = [each for each in sessions.values() if each.link is None]
    assert len(gone) <= limits.sessions or hub.has_store
    for each in gone:
        assert now <= each.timer.due_at <= now + patience(each, limits) + MOMENT
    assert len(door.pending) <= limits.unwelcomed
    assert all(each.state is State.HANDSHAKE or is_refused(each) for each in door.pending)
    from_one = Counter(each for each in door.pending.values() if each is not None)
    assert all(each <= limits.unwelcomed_per_ip for each in from_one.values())
    assert door.waiting.keys() <= door.pending.keys()
    assert all(now <= each.asked_at + PING_WAIT + MOMENT for each in door.waiting.values())
    assert len(door.pending_accepts) <= limits.unwelcomed


def patience(session: Session, limits: Limits) -> float:
    """Seconds that a session is kept for its peer to come back."""
    if session.record is not None:
        return limits.stored_session
    return min(CONFIRM, limits.session) if session.receiving.end_reason is not None else limits.session


def is_refused(link: Link) -> bool:
    """Is it closing because it was not admitted?"""
    return link.state is State.CLOSING and link.session is None


Full = dict[Session, int]
"""The sessions that are there while the mailbox is full, with the bytes that they may send."""


def check_full(hub: EndpointCore, limits: Limits, before: Full | None) -> Full | None:
    """As long as the mailbox is full nobody comes, and no peer whose messages wait may send more."""
    is_full = hub.mailbox.nbytes >= limits.mailbox_total and hub.mailbox.overflow == "block"
    if not is_full or hub.context.pattern.asks or hub.context.is_client or hub.context.is_plain:
        return None
    found = {each: each.receiving.granted_bytes for each in hub.sessions.by_id.values()}
    if before is not None:
        assert found.keys() <= before.keys(), "somebody is admitted while the mailbox is full"
        for session, granted in found.items():
            assert granted <= before[session] or not session.receiving.waiting
    return found


def most_waiting(hub: EndpointCore, limits: Limits) -> int:
    """Bytes in the mailbox: credit that was granted before it was full is kept."""
    window = max(limits.mailbox_bytes, EARLY_BYTES) + max(limits.message, frames.MAX_PIECE)
    return limits.mailbox_total + window * (len(hub.sessions.by_id) + len(hub.mailbox.sources))


def check_link(link: Link, limits: Limits) -> None:
    """What one connection holds."""
    if isinstance(link, PlainLink):
        assert link._decoder.pending <= limits.message + FRAMING_SLACK
        assert len(link._held) <= frames.MAX_EARLY
        return
    assert isinstance(link, LinkedLink)
    if link.reader is not None:
        assert link.reader._decoder.buffered <= frames.MAX_PIECE + 12
        assert len(link.reader._late) <= limits.control_frames
    if link.handshake is not None:
        assert len(link.handshake._preface) < 8
        check_early(link.handshake._decoder)
    # Each rejected unit costs a frame, and each unit costs credit.
    assert len(link._control) <= limits.control_frames + max(EARLY_UNITS, limits.mailbox_messages) + 2


def check_early(decoder: Decoder) -> None:
    """What is held of a peer that is not admitted: one frame, or what it has said behind its HELLO."""
    assert decoder.buffered <= (frames.MAX_EARLY if decoder._stopped else frames.MAX_SMALL) + 4


def check_times(link: Link, limits: Limits, now: float) -> None:
    """Nothing waits for a peer for longer than it may."""
    decoder: Any = None
    if link.state is State.HANDSHAKE:
        assert now < link.opened_at + limits.handshake
        decoder = link.handshake if isinstance(link, LinkedLink) else None
    elif link.state is State.CLOSING:
        assert now <= link._closing_at <= now + limits.close + MOMENT
    elif isinstance(link, LinkedLink):
        assert now < link.heard_at + limits.heartbeat + limits.peer_timeout + MOMENT
        decoder = link.reader and link.reader._decoder
    if decoder is not None and (decoder.buffered() if callable(decoder.buffered) else decoder.buffered):
        assert link._partial_at is not None and now < link._partial_at + limits.progress
    end = link.carrier
    if getattr(end, "unsent", None):
        assert link._stalled_at is not None and now < link._stalled_at + limits.stalled_write


def check_session(session: Session, limits: Limits) -> None:
    """What one conversation holds."""
    sending, receiving = session.sending, session.receiving
    assert sending.taken <= sending.acked <= sending.sent
    assert receiving.taken <= receiving.processed <= receiving.arrived
    window = max(limits.mailbox_bytes, EARLY_BYTES)
    requests = 2 * REQUEST * limits.asks if session.context.pattern.asks else 0
    one_message = frames.MAX_EARLY if session.is_plain else limits.message
    assert receiving.waiting_bytes <= window + one_message + requests
    # A plain link that is full is not read any more; what came in one read is there.
    one_read = frames.MAX_EARLY if session.is_plain else 1
    assert receiving.waiting <= max(EARLY_UNITS, limits.mailbox_messages) + one_read
    assert held(receiving.assembly) <= limits.message
    # Answers wait for a peer that does not take them; asks for more of them need credit.
    most = max(EARLY_UNITS, limits.mailbox_messages) + limits.asks if session.context.pattern.asks else 0
    assert sending.in_memory <= limits.window_messages + most
    # Requests that the application had when the window became full may still get their responses.
    kinds = [each.header.kind for each in unique(sending.queue, sending.unacked) if each.header is not None]
    assert kinds.count(frames.ANSWER) <= limits.window_messages + limits.asks
    # What the peer takes is not known before it is there: until then a message may be larger than ours.
    largest = max([limits.message, *(each.size() for each in unique(sending.queue, sending.unacked))])
    assert sending.held_bytes <= limits.window_bytes + largest * (1 + most)
    assert len(sending.dropped) <= 1000 and len(session.rejections.frames) <= 1000
    assert len(session.rejections.dropped) <= 1000


def unique(*queues: Iterable[Unit]) -> set[OutgoingMessage]:
    """The messages of which something waits, or is not acknowledged."""
    return {
        each.message if isinstance(each, Piece) else each
        for each in chain(*queues)
        if isinstance(each, (Piece, OutgoingMessage))
    }


def held(pile: Pile | None) -> int:
    """Bytes, about, that what waits for the rest takes in memory."""
    return 0 if pile is None else pile.size + 50 * (len(pile._pieces) - 1 - pile.size // 4096)


def gathered(ask: AskState) -> int:
    """The same of the message of a request or response that is arriving."""
    return 0 if ask.assembler is None else held(ask.assembler._parts)


def check_asks(hub: EndpointCore, limits: Limits) -> None:
    """Open asks belong to somebody, and are within bounds."""
    server, client = hub.sessions.server_asks, hub.sessions.client_asks
    if not (server._by_session or client._by_session or client._raw):
        check_no_asks(hub)
        return
    sessions = set(hub.sessions.by_id.values())
    assert {*server._by_session, *client._by_session, *client._raw} <= sessions
    open_asks = [ask for asks in server._by_session.values() for ask in asks.open.values()]
    assert server.open_count == len(open_asks)
    for session, asks in server._by_session.items():
        assert asks.session is session and len(asks.open) <= limits.asks
        check_requests(asks, limits)
        assert all(ask.session is session and ask.id == id for id, ask in asks.open.items())
    check_shares(server, limits)
    for ask in open_asks:
        kept = sum(len(each) + 100 for each in ask.messages if isinstance(each, bytes))
        assert kept + gathered(ask) <= limits.mailbox_total + limits.message + 200
    assert all(held(each._parts) <= limits.message for each in client._raw.values())
    check_waiting(client, limits)


def check_requests(asks: SessionAsks, limits: Limits) -> None:
    """What is counted of one client's requests is what is kept of them."""
    halves = {id: ask for id, ask in asks.open.items() if ask.held}
    assert asks.halves == halves and not any(ask.is_whole for ask in halves.values())
    unread = sum(len(each) + REQUEST for each in asks.unread)
    assert asks.held == unread + asks.raw.held + sum(ask.held for ask in halves.values())
    assert held(asks.raw._parts) <= limits.message
    session = asks.session
    # A plain connection is not read any more; what came in one read is there.
    one_read = frames.MAX_EARLY if session.is_plain else 0
    assert len(asks.unread) <= limits.asks + one_read
    assert sum(map(len, asks.unread)) <= limits.mailbox_bytes + one_read
    assert session.is_plain or not asks.raw.held
    assert session.receiving.is_suspended == (asks.is_full and not session.is_plain)


def check_shares(server: ServerAsks, limits: Limits) -> None:
    """What the requests of all clients have together, and that each has its part of it."""
    clients = list(server._by_session.values())
    memory = server.memory
    assert memory.gathered == sum(asks.held for asks in clients)
    assert memory.kept == sum(asks.kept for asks in clients)
    incomplete = {asks for asks in clients if asks.halves or asks.raw.held}
    assert incomplete <= set(memory._holders) <= {asks for asks in clients if asks.held}
    pieces = limits.message // frames.MAX_ASK_PIECE + 3
    most = max(limits.mailbox_total, 2 * (limits.message + pieces * REQUEST))
    one_read = max((frames.MAX_EARLY * (1 + REQUEST) for asks in clients if asks.session.is_plain), default=0)
    assert memory.gathered <= most + one_read * len(clients)


def check_waiting(asks: ClientAsks, limits: Limits) -> None:
    """What a client's requests hold, and their books by session."""
    waiting = {id: ask for of in asks._by_session.values() for id, ask in of.items()}
    assert waiting == asks.waiting
    assert all(gathered(ask) <= limits.message + 200 for ask in waiting.values())


# --- afterwards -------------------------------------------------------------------------------------


def check_no_asks(hub: EndpointCore) -> None:
    """No request of anybody is left."""
    server, client = hub.sessions.server_asks, hub.sessions.client_asks
    memory = server.memory
    assert not server.open_count and not server._by_session
    assert not memory.gathered and not memory.kept and not memory._holders
    assert not client.waiting and not client._by_session and not client._raw


def check_over(hub: EndpointCore) -> None:
    """After everybody has gone and enough time has passed: nothing is left of them."""
    assert not hub.links.links and not hub.sessions.by_id
    check_no_asks(hub)
    assert hub.mailbox.count == hub.mailbox.nbytes == 0 and not hub.mailbox.sources
    effects, paused = hub.effects, hub.context.paused_links
    assert paused is None or not paused.paused
    assert not effects.acks_due and not effects.to_write and not effects.to_read
    assert not effects.timers._heap, effects.timers._heap
    if isinstance(hub, ServerCore):
        door = hub.admission
        assert not door.pending and not door.waiting and not door.pending_accepts
        assert not door.pending_accepts_changed.waiters
    queues = (hub.changed, hub.mailbox.changed, hub.mailbox.end_changed, effects.events.changed)
    assert not any(each.waiters for each in queues)


def check_memory(hub: EndpointCore) -> None:
    """Nothing that leads from the endpoint to what is over; and little memory."""
    found, nbytes = reachable(hub)
    journal = hub.journal
    if journal is not None:
        # A client keeps what it has not delivered for its next life. A server does not; but its journal goes
        # on to count the session of a peer that has not come back for what it was to get.
        known = len(journal.spooling)
        found -= Counter(
            {"Record": known, "Session": known, "SentMessage": found["SentMessage"] if known else 0}
        )
    left = {name: count for name, count in found.items() if name in OF_PEERS}
    assert not left, f"still in memory: {left}"
    assert nbytes <= MOST_KEPT, f"{nbytes} bytes are kept of what is over"


OF_PEERS = frozenset(
    (
        *("Session", "LinkedLink", "PlainLink", "FrameReader", "ServerHandshake", "ClientHandshake"),
        *("IncomingAsk", "Ask", "PendingAccept", "PendingHandshake", "Arrival", "Record", "Batch"),
        *("SentMessage", "OutgoingMessage", "Assembly", "Entry", "PendingEvent"),
    )
)
"""What an endpoint has only as long as it has peers."""
SKIPPED, CONTAINER, OURS = range(3)
_CONTAINERS = frozenset((list, dict, tuple, set, frozenset, bytes, bytearray, deque, Counter))
_SAME_FOR_ALL = frozenset(("EventKind", "Limits", "Pattern", "State"))
_kinds: dict[type, int] = {}
"""What to do with objects of a class: found once, because classes are looked up for each input."""


def _kind(found: type) -> int:
    is_ours = found.__module__.startswith("linkbox.") or found.__name__ == "SentMessage"
    kind = CONTAINER if found in _CONTAINERS else OURS if is_ours else SKIPPED
    if found.__name__ in _SAME_FOR_ALL or issubclass(found, type):
        kind = SKIPPED
    _kinds[found] = kind
    return kind


def reachable(hub: EndpointCore) -> tuple[Counter[str], int]:
    """Our own objects that the endpoint leads to, by their class; and the bytes of what it leads to."""
    found: Counter[type] = Counter()
    nbytes, seen, layer = 0, {id(hub)}, [hub]
    referents, kinds, size = gc.get_referents, _kinds, sys.getsizeof
    while layer:
        following: list[Any] = []
        for each in referents(*layer):
            found_type = type(each)
            kind = kinds.get(found_type)
            if kind is None:
                kind = _kind(found_type)
            if kind and id(each) not in seen:
                seen.add(id(each))
                nbytes += size(each)
                if kind is OURS:
                    found[found_type] += 1
                following.append(each)
        layer = following
    return Counter({each.__name__: count for each, count in found.items()}), nbytes

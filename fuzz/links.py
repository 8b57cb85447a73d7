"""Whole endpoints, server and client, in the hands of a peer that says anything in any order.

What must hold: no error escapes, what is held stays within the limits, and when the peer has gone nothing is
left of it. Where no limit is near, it makes no difference how the bytes were cut. Somebody who behaves
is served meanwhile.
"""

from __future__ import annotations

from typing import Any

from fuzz.bench import LARGE, SMALL, Bench
from fuzz.scripts import LinkedPeer, Peer, PlainPeer
from fuzz.target import Choices, Run, Target
from linkbox.core.mailbox import OVERFLOW_POLICIES
from linkbox.core.patterns import AR, P2M, P2P
from linkbox.core.wire.framings import FixedSize, Framing, LengthPrefixed, Lines, Raw
from linkbox.events import EventKind
from tests.core.wire import NO_BACKOFF

PATTERNS = (P2P, P2M, AR)
PLAIN: tuple[Framing, ...] = (Lines(), LengthPrefixed(1), Raw(), FixedSize(7))
Outcome = tuple[Any, ...]


def make(flags: int, more: int, secret: bool, framing: Framing | None) -> Bench:
    """The endpoints; small limits, half the time."""
    pattern = PATTERNS[flags % 3]
    bench = Bench(
        pattern,
        SMALL if flags & 32 else LARGE,
        secret=secret,
        framing=framing,
        overflow="block" if more & 8 or pattern.asks else OVERFLOW_POLICIES[more % 4],
        is_bytes=bool(more & 16) and not pattern.asks,
        listening=not more & 32,
    )
    bench.decodes = more & 192 != 192
    return bench


def outcome(peer: Peer) -> Outcome:
    """What may not depend on how bytes were cut.

    What came right before a fault may be lost with the session: it was never acknowledged.
    """
    if peer.faults:  # how much this end has sent by then depends on when it heard what
        return () if "sent" in peer.faults[0] else (peer.faults[0],)
    bench, hub = peer.bench, peer.hub
    shown = [each if isinstance(each, bytes) else type(each).__name__ for each in peer.taken]
    if bench.pattern.asks:  # of an ask that fails by its first message, further ones may be looked at or not
        return (shown,)
    kinds = sorted(kind.name for kind in bench.kinds(hub) if kind is not EventKind.DELIVERED)
    return kinds, shown, hub.context.counters.rejected, hub.context.counters.refused


def play_server(data: bytes, seed: int, secret: bool, framing: Framing | None) -> Outcome:
    """A server, attacked; then its well-behaved client is served."""
    choices = Choices(data)
    flags = choices.byte()
    bench = make(flags, choices.byte(), secret, framing)
    kind = LinkedPeer if framing is None else PlainPeer
    peer = kind(bench, bench.server, choices, seed)
    if isinstance(peer, PlainPeer):
        peer.connect()
    elif flags & 64:
        peer.greet()
    else:
        link = bench.server.accept("tcp://probe", None, bench.now)
        assert link is not None
        peer.on_link(link)
    if flags & 128:
        peer.add(choices.rest())
    peer.play()
    peer.leave()
    found = outcome(peer)
    peer.taken.clear()
    peer.session = peer.probe = None
    if not bench.server.is_stopping:
        bench.advance(100)  # as long as the attacker's session is kept
        serve(bench)
    bench.server.shutdown(bench.now)
    bench.advance(100)
    bench.take(bench.server)
    bench.check_over()
    return found


def serve(bench: Bench) -> None:
    """Somebody who behaves."""
    client, pattern = bench.client, bench.pattern
    session = bench.connect()
    assert session.is_up
    if pattern.asks:
        bench.try_ask(session, 7)
        if isinstance(bench.framing, Raw):
            session.end()  # there, an ask is whole when its stream ends
        bench.run()
        [request] = bench.requests()
        request.answer(b"fine!!!")
        bench.run()
        assert bench.asked[-1].value == b"fine!!!"
    else:
        bench.try_send(client, session, 7)
        bench.run()
        assert bench.take(bench.server) == [b"m" * 7]
    client.shutdown(bench.now)
    bench.advance(1)


def play_client(data: bytes, seed: int, secret: bool, framing: Framing | None) -> Outcome:
    """A client, whose server attacks."""
    choices = Choices(data)
    flags = choices.byte()
    bench = make(flags, choices.byte(), secret, framing)
    client = bench.client
    client.dialing.reconnect = NO_BACKOFF if flags & 16 else None
    kind = LinkedPeer if framing is None else PlainPeer
    peer = kind(bench, client, choices, seed)
    bench.on_dial = peer.on_link
    session = client.conversation = client.begin(bench.now)
    if flags & 8:
        peer.session = session
        peer.application()  # before there is a connection
    bench.settle()
    if flags & 64 and isinstance(peer, LinkedPeer):
        peer.greet()
    if flags & 128:
        peer.add(choices.rest())
    peer.play()
    bench.on_dial, bench.is_reachable = None, False
    peer.leave()
    found = outcome(peer)
    client.shutdown(bench.now)
    bench.advance(1)
    client.abort()
    bench.advance(10)
    peer.take()
    bench.check_over()
    return found


def runner(play: Any, secret: bool = False, *framings: Framing) -> Run:
    """A target's function: the same script whole and cut."""

    def run(data: bytes) -> None:
        seed = data[0] if data else 0
        framing = framings[seed % len(framings)] if framings else None
        script = data[1:]
        found = play(script, seed, secret, framing)
        is_large = not (script[0] if script else 0) & 32
        if seed and is_large and not isinstance(framing, Raw):
            whole = play(script, 0, secret, framing)
            assert whole == found or not (whole and found), f"whole: {whole}, cut: {found}"

    return run


def _seeds() -> tuple[bytes, ...]:
    flags = ((64, 0), (65, 1), (66, 2), (96, 18), (97, 200), (98, 40))
    return tuple(bytes((5, *each, *range(step, 40 + step))) for each in flags for step in (0, 9))


TARGETS = [
    Target("server", runner(play_server), _seeds()),
    Target("server-secret", runner(play_server, True), _seeds()),
    Target("client", runner(play_client), _seeds()),
    Target("client-secret", runner(play_client, True), _seeds()),
    Target("plain-server", runner(play_server, False, *PLAIN), _seeds()),
    Target("plain-client", runner(play_client, False, *PLAIN), _seeds()),
]

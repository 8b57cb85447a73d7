"""Whole endpoints, server and client, in the hands of a peer that says anything in any order.

What must hold: no error escapes, what is held stays within the limits, nobody waits for longer than they
allow, and when the peer has gone nothing is left of it (see oracle.py). Where no limit is near, it makes no
difference how the bytes were cut. Somebody who behaves is served meanwhile, and afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from fuzz import stories
from fuzz.bench import GONE, LARGE, SECRET, SMALL, Bench, Honest, StoredBench, kinds
from fuzz.linked import LinkedPeer
from fuzz.scripts import Peer, PlainPeer
from fuzz.stories import Story
from fuzz.target import Choices, Run, Target
from linkbox.core.endpoint_core import EndpointCore
from linkbox.core.mailbox import OVERFLOW_POLICIES
from linkbox.core.patterns import AR, P2M, P2P, Pattern
from linkbox.core.wire.framings import Delimited, FixedSize, Framing, LengthPrefixed, Lines, Linked, Raw
from tests.core.wire import NO_BACKOFF

PLAIN: tuple[Framing, ...] = (
    *(Lines(), LengthPrefixed(1), Raw(), FixedSize(7), Delimited(b"--"), LengthPrefixed(2, "little")),
    *(Lines(b"\r\n"), LengthPrefixed(), LengthPrefixed(8)),
)
LONGEST = 320
"""Bytes of an input: about as many steps as a script has."""
ASKS = 1
"""In the second byte: with ``accept=``."""
TWICE = 4
"""Of so many inputs one is played twice, whole and cut."""
TURNS = 216
"""Where there are several attackers: from this byte on, a step is the turn of another one."""
Outcome = tuple[Any, ...]


def known(name: str) -> list[bytes]:
    """One secret for all."""
    return [SECRET]


@dataclass(frozen=True)
class Scene:
    """What is attacked, and what is common to all inputs of a target."""

    framings: tuple[Framing, ...] = (Linked(),)
    patterns: tuple[Pattern, ...] = (P2P, P2M, AR)
    options: dict[str, Any] = field(default_factory=dict)
    """More of them for the endpoints."""
    stores: frozenset[str] = frozenset()
    """The sides that have one."""
    may_ask: bool = False
    """Has the server ``accept=``, if the script says so?"""
    kind: Callable[..., Bench] = Bench

    def make(self, flags: int, more: int, framing: Framing, has_company: bool) -> Bench:
        """The endpoints; small limits, half the time. ``has_company``: one slot is not enough."""
        pattern = self.patterns[flags % len(self.patterns)]
        overflow = "block" if more & 8 or pattern.asks or self.stores else OVERFLOW_POLICIES[more % 4]
        options: dict[str, Any] = {"overflow": overflow, **self.options}
        if has_company and pattern is P2P:
            options.setdefault("max_peers", 4)
        if self.stores:
            options["stores"] = set(self.stores)
        if self.may_ask:
            options["asks_first"] = bool(more & ASKS)
        bench = self.kind(
            pattern,
            SMALL if flags & 32 else LARGE,
            framing=framing,
            is_bytes=bool(more & 16) and not pattern.asks,
            is_listening=not more & 32,
            **options,
        )
        bench.decodes = more & 192 != 192
        return bench


def outcome(peer: Peer) -> Outcome:
    """What may not depend on how bytes were cut.

    What came right before a fault may be lost with the session: it was never acknowledged.
    """
    if peer.is_random:
        return ()
    if peer.faults:  # how much this end has sent by then depends on when it heard what
        return () if "sent" in peer.faults[0] else (peer.faults[0],)
    bench, hub = peer.bench, peer.hub
    if hub.context.counters.events_dropped:  # of many events that come in one go only the first are kept
        return ()
    shown = [each if isinstance(each, bytes) else type(each).__name__ for each in peer.taken]
    if bench.pattern.asks:  # of an ask that fails by its first message, further ones may be looked at or not
        return (shown,)
    return kinds(bench, hub), shown, hub.context.counters.rejected, hub.context.counters.refused


def attacker(bench: Bench, hub: EndpointCore, choices: Choices, seed: int) -> Peer:
    """One for this endpoint."""
    peer = (LinkedPeer if bench.framing.linked else PlainPeer)(bench, hub, choices, seed)
    bench.equip(peer)
    return peer


def play_server(data: bytes, seed: int, scene: Scene, framing: Framing) -> Outcome:
    """A server, attacked; a well-behaved client is served meanwhile, half the time, and afterwards."""
    choices = Choices(data)
    flags, more = choices.byte(), choices.byte()
    has_company = bool(flags & 8) and not scene.stores and framing.name != "raw"
    bench = scene.make(flags, more, framing, has_company)
    peer = attacker(bench, bench.server, choices, seed)
    if has_company:
        welcome_honest(peer)
    bench.arrange(choices)
    begin(peer, flags)
    peer.play()
    if peer.honest is not None and peer.honest.is_there:
        peer.taken += peer.honest.exchange()
    peer.leave()
    found = outcome(peer)
    leave_nothing(peer)
    return found


def welcome_honest(peer: Peer) -> None:
    """Somebody who behaves is there first."""
    bench = peer.bench
    peer.honest, bench.on_accept = Honest(bench), lambda: True
    peer.honest.connect()
    bench.on_accept = None


def begin(peer: Peer, flags: int) -> None:
    """The attacker connects."""
    if isinstance(peer, PlainPeer):
        peer.connect()
    elif isinstance(peer, LinkedPeer) and flags & 64:
        peer.greet()
    else:
        link = peer.bench.server.accept("tcp://probe", None, peer.bench.now)
        if link is not None:
            peer.on_link(link)
    if flags & 128:
        peer.add(peer.choices.rest())


def leave_nothing(peer: Peer) -> None:
    """The attacker has gone: all others are served, and in the end the server has forgotten it."""
    bench = peer.bench
    peer.taken.clear()
    peer.session = peer.probe = None
    if isinstance(bench, StoredBench) and bench.server.is_stopping:
        bench.crash("server")  # what its store has for the peer that has gone is kept by the next one, too
    if not bench.server.is_stopping:
        bench.advance(GONE)
        bench.take(bench.server)
        assert len(bench.server.sessions.by_id) == (peer.honest is not None), "a session is kept for ever"
        serve(bench, peer.honest)
    bench.server.shutdown(bench.now)
    bench.advance(GONE)
    bench.client.abort()
    bench.client.conversation = None
    bench.take(bench.server)
    bench.settle()
    bench.check_over(bench.server)


def serve(bench: Bench, honest: Honest | None) -> None:
    """Somebody who behaves: there already, or just coming."""
    bench.on_accept = (lambda: True) if bench.asks_first else None
    if honest is None:
        honest = Honest(bench)
        honest.connect()
    assert honest.exchange() == []
    honest.leave()


def play_client(data: bytes, seed: int, scene: Scene, framing: Framing) -> Outcome:
    """A client, whose server attacks."""
    choices = Choices(data)
    flags = choices.byte()
    bench = scene.make(flags, choices.byte(), framing, False)
    bench.arrange(choices)
    bench.client.dialing.reconnect = NO_BACKOFF if flags & 16 else None
    peer = attacker(bench, bench.client, choices, seed)
    bench.on_dial = peer.on_link
    session = bench.client.conversation = bench.client.begin(bench.now)
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
    client = bench.client
    client.shutdown(bench.now)
    bench.advance(1)
    client.abort()
    client.conversation = peer.session = peer.probe = None
    bench.advance(GONE)
    peer.take()
    bench.check_over(client)
    return found


def runner(play: Callable[[bytes, int, Scene, Framing], Outcome], scene: Scene) -> Run:
    """A target's function: the same script whole and cut."""

    def run(data: bytes) -> None:
        seed = data[0] if data else 0
        framing = scene.framings[seed % len(scene.framings)]
        script = data[1:]
        found = play(script, seed, scene, framing)
        is_large = not (script[0] if script else 0) & 32
        if seed and is_large and framing.name != "raw" and not len(data) % TWICE:
            whole = play(script, 0, scene, framing)
            assert whole == found or not (whole and found), difference(whole, found)

    return run


def difference(whole: Outcome, cut: Outcome) -> str:
    """Where two outcomes begin to differ: they may be long."""
    for part, (one, other) in enumerate(zip_longest(whole, cut)):
        if one == other:
            continue
        if isinstance(one, list) and isinstance(other, list):
            at = next(at for at, (a, b) in enumerate(zip_longest(one, other)) if a != b)
            one, other = (f"{len(each)} items, at {at} {each[at : at + 3]!r:.200}" for each in (one, other))
        return f"part {part} of the outcome: whole {one!s:.300}; cut {other!s:.300}"
    return "no difference"


def target(
    share: float,
    name: str,
    play: Callable[[bytes, int, Scene, Framing], Outcome],
    scene: Scene,
    *stories: dict[str, Story],
) -> Target:
    """A target for whole endpoints, with these stories among its seeds; ``share``: see `Target.share`."""
    told = {title: spell(story, play, scene) for each in stories for title, story in each.items()}
    seeds = (*told.values(), *generic())
    run = runner(play, scene)
    return Target(name, run, seeds, is_endpoint=True, share=share, longest=LONGEST, stories=told)


def spell(story: Story, play: Callable[..., Outcome], scene: Scene) -> bytes:
    """The bytes of a story in this scene."""
    framing = scene.framings[story.seed % len(scene.framings)]
    bench = scene.make(0, 8, framing, False)
    hub = bench.client if play is play_client else bench.server
    return attacker(bench, hub, Choices(b""), 0).spell(story, len(scene.patterns), TURNS)


def generic() -> tuple[bytes, ...]:
    """Scripts with each of the steps."""
    flags = ((64, 0), (65, 1), (66, 2), (96, 18), (97, 200), (98, 40), (104, 8), (74, 8))
    return tuple(bytes((5, *each, *range(step, 40 + step))) for each in flags for step in (0, 9))


SECRETS: dict[str, Any] = {"server_secrets": known, "client_secrets": known, "identifies": True}
STORED_SERVER = Scene(patterns=(P2P, P2M), stores=frozenset(("server",)), kind=StoredBench)
STORED_CLIENT = Scene(patterns=(P2P, P2M), stores=frozenset(("client",)), kind=StoredBench)
MEETS: dict[str, Any] = {"asks_first": True}
TARGETS = [
    target(1.15, "server", play_server, Scene(), stories.LINKED),
    target(1.2, "server-secret", play_server, Scene(options=SECRETS), stories.LINKED),
    target(0.5, "client", play_client, Scene(), stories.CLIENT),
    target(0.8, "client-secret", play_client, Scene(options=SECRETS), stories.CLIENT),
    target(0.8, "plain-server", play_server, Scene(PLAIN, (P2P, P2M)), stories.PLAIN),
    target(0.8, "plain-client", play_client, Scene(PLAIN, (P2P, P2M))),
    target(0.95, "plain-ar-server", play_server, Scene(PLAIN, (AR,)), stories.PLAIN_ASKS),
    target(0.4, "plain-ar-client", play_client, Scene(PLAIN, (AR,))),
    target(2.3, "stored-server", play_server, STORED_SERVER, stories.STORED),
    target(1.5, "stored-client", play_client, STORED_CLIENT),
    target(
        1.0, "accept", play_server, Scene((Linked(), *PLAIN[:3], Linked()), options=MEETS), stories.ACCEPTED
    ),
]

"""Several attackers at the door of one server: who comes in, in whose place, and as whom.

Targets: a full house, where applicants wait for a slot while silent peers are pinged; and secrets of each
client's own, of which the attackers know one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fuzz import stories
from fuzz.bench import GONE, SECRET, Bench
from fuzz.linked import LinkedPeer
from fuzz.links import (
    SECRETS,
    TURNS,
    Outcome,
    Scene,
    attacker,
    leave_nothing,
    outcome,
    target,
    welcome_honest,
)
from fuzz.scripts import STEPS, Peer
from fuzz.target import Choices
from linkbox.core.wire.framings import FixedSize, Framing, LengthPrefixed, Lines, Linked

CROWD = 4
STRANGER = "10.0.0.7"
"""Where attackers come from; or from this machine, where they count as nobody in particular."""


class Crowd:
    """Attackers that act in turn, as the script says."""

    def __init__(self, bench: Bench, choices: Choices, seed: int) -> None:
        self.choices = choices
        self.peers = [attacker(bench, bench.server, choices, seed) for _ in range(CROWD)]
        for index, each in enumerate(self.peers):
            each.taken = self.peers[0].taken
            if isinstance(each, LinkedPeer):
                each.session_id = f"{index + 10:x}" * 32  # not what the honest one has by chance

    def play(self) -> None:
        peer = self.peers[0]
        for _ in range(STEPS):
            if not self.choices:
                break
            byte = self.choices.byte()
            if byte >= TURNS:
                peer.flush()
                peer = self.peers[byte % len(self.peers)]
            else:
                peer.steps[byte % len(peer.steps)]()
            self.check()
        for each in self.peers:
            each.flush()
        self.check()

    def check(self) -> None:
        """What must hold of all of them."""

    def leave(self) -> Outcome:
        """All go. Returns what may not depend on how bytes were cut."""
        for each in self.peers:
            each.leave()
        self.check()
        faults = [each.faults for each in self.peers]
        found: Outcome = () if any(faults) else outcome(self.peers[0])
        for each in self.peers:
            each.session = each.probe = None
        return found


def play_house(data: bytes, seed: int, scene: Scene, framing: Framing) -> Outcome:
    """A server with few slots. Whoever behaves keeps its own, whoever is dead loses it to an applicant."""
    choices = Choices(data)
    flags, more = choices.byte(), choices.byte()
    slots = 1 + (more >> 1) % 3
    bench = replace(scene, options={**scene.options, "max_peers": slots}).make(flags, more, framing, True)
    crowd = Crowd(bench, choices, seed)
    if flags & 8:
        welcome_honest(crowd.peers[0])
    if flags & 16 and framing.linked:
        occupy(bench)
    for each in crowd.peers:
        each.honest, each.ip = crowd.peers[0].honest, STRANGER if flags & 64 else None
    bench.arrange(choices)
    crowd.play()
    meet(crowd.peers[0])
    found = crowd.leave()
    bench.advance(GONE)  # as long as it takes to find that somebody is dead
    leave_nothing(crowd.peers[0])
    return found


def occupy(bench: Bench) -> None:
    """Somebody takes a slot, and its machine loses power."""
    dead = bench.make_client()
    bench.on_accept = lambda: True
    bench.connect(dead)
    bench.on_accept = None
    bench.forget(dead)


def meet(peer: Peer) -> None:
    """Whoever behaves has still its place."""
    if peer.honest is not None and peer.honest.is_there:
        peer.taken += peer.honest.exchange()


class Impostors(Crowd):
    """Attackers that know one secret, and so may be one client; another is there already."""

    def __init__(self, bench: Bench, choices: Choices, seed: int) -> None:
        super().__init__(bench, choices, seed)
        honest = bench.client.conversation
        assert honest is not None
        self.honest_id = honest.peer.id
        for index, each in enumerate(self.peers):
            assert isinstance(each, LinkedPeer)
            each.secret = OWN
            each.name = (ITSELF, VICTIM, ITSELF, ITSELF)[index]
            each.session_id = self.honest_id if index in (1, 2) else each.session_id

    def check(self) -> None:
        for each in self.peers:
            link = None if each.probe is None else each.probe.link
            if link is not None and link.session is not None:
                assert link.session.peer.identity == ITSELF, "admitted without a proof"
                assert link.session.peer.id != self.honest_id, "the session of somebody else"


ITSELF, VICTIM = "probe", "client 1"
OWN = b"the attacker's own"
_SECRETS = {ITSELF: [OWN], VICTIM: [b"an old one", SECRET]}


def of_each(name: str) -> list[bytes]:
    """The secrets of one client."""
    return _SECRETS.get(name, [])


def play_impostors(data: bytes, seed: int, scene: Scene, framing: Framing) -> Outcome:
    """A server whose clients have secrets of their own: nobody becomes another."""
    choices = Choices(data)
    bench = scene.make(choices.byte(), choices.byte(), framing, True)
    waiting = Peer(bench, bench.server, choices, seed)
    welcome_honest(waiting)
    crowd = Impostors(bench, choices, seed)
    for each in crowd.peers:
        each.honest = waiting.honest
    crowd.play()
    meet(crowd.peers[0])
    found = crowd.leave()
    leave_nothing(crowd.peers[0])
    return found


OF_EACH: dict[str, Any] = {**SECRETS, "server_secrets": of_each, "max_peers": 9}
MOST: tuple[Framing, ...] = (*(Linked(),) * 5, Lines(), LengthPrefixed(2), FixedSize(7))
TARGETS = [
    target(1.05, "full-house", play_house, Scene(MOST, may_ask=True), stories.CROWD),
    target(1.3, "secrets", play_impostors, Scene(options=OF_EACH), stories.IMPOSTORS),
]

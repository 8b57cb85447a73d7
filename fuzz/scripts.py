"""A peer that follows a script: what it says, and what happens to the endpoint meanwhile.

The input is read as a list of steps (see `Choices`): frames with numbers close to the right ones, frames with
any bytes, a cut, an EOF, what the application does, time that passes. What is said is gathered until
something else happens, so that it arrives whole, or cut by chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from time import process_time
from typing import Any

from fuzz.bench import Bench, Honest, StoredBench
from fuzz.figures import figures
from fuzz.stories import TURN, Story
from fuzz.target import Choices, cuts
from linkbox.core.endpoint_core import EndpointCore
from linkbox.core.link import Link, State
from linkbox.core.send_window import EARLY_BYTES
from linkbox.core.session import Session
from linkbox.core.wire import frames
from tests.core.wire import Probe

STEPS = 100
MOST_SAID = frames.MAX_EARLY - 10_000
"""Bytes of one read. Behind a HELLO no more may come in one go anyway."""
FLOODS = 12
"""Of 256 repetitions, so many may be floods: they take long, and reach little that is new."""
TOO_LONG = 1.0
"""Seconds of the processor for what was said in one go: so long all others would wait."""
LOOKS = 8
"""After each of so many pieces of what is said the oracle looks; then after every so many."""


def reads(data: bytes, seed: int) -> Iterator[bytes]:
    """What an endpoint reads at a time: see `cuts`; but no more than `MOST_SAID`."""
    for start in range(0, len(data), MOST_SAID):
        yield from cuts(data[start : start + MOST_SAID], seed)


class Peer:
    """The attacker at one end of a link, and the application at the other."""

    def __init__(self, bench: Bench, hub: EndpointCore, choices: Choices, seed: int) -> None:
        self.bench = bench
        self.hub = hub
        self.choices = choices
        self.seed = seed
        self.honest: Honest | None = None
        """Somebody who behaves, meanwhile."""
        self.probe: Probe | None = None
        self.drained = 0
        """Bytes said after a refusal."""
        self.ip: str | None = None
        """Where it comes from; None: from this machine."""
        self.session: Session | None = None
        self.gathered = bytearray()
        self.last = b""
        self.units = 0
        """How many have been said on this session."""
        self.epoch = 0
        self.taken: list[Any] = []
        self.faults: list[str] = []
        """Why links were given up."""
        self.steps: list[Callable[[], None]] = []
        self.is_random = False
        """Has it changed bytes that are different each time, as those of a handshake of TLS are?"""

    def on_link(self, link: Link) -> None:
        """A new connection."""
        self.probe = self.bench.probe(self.hub, link)
        self.drained = 0

    def connect(self) -> None:
        """A new connection; the old one is gone."""
        self.cut()
        link = self.bench.server.accept("tcp://probe", self.ip, self.bench.now)
        if link is not None:
            self.on_link(link)

    # -- playing -------------------------------------------------------------------------------------

    def play(self) -> None:
        """All steps of the script."""
        for _ in range(STEPS):
            if not self.choices:
                break
            step = self.steps[self.choices.byte() % len(self.steps)]
            step()
        self.flush()

    def add(self, said: bytes) -> None:
        """To be said."""
        self.last = said
        self.gathered += said

    def flush(self) -> None:
        """Say what was gathered; what the endpoint does not read any more is lost."""
        probe = self.probe
        if probe is not None and probe.link.paused and not probe.is_closed and not probe.link.closed:
            del self.gathered[MOST_SAID:]
            return  # it waits in the kernel
        data, self.gathered = bytes(self.gathered), bytearray()
        took = 0.0
        for index, chunk in enumerate(reads(data, self.seed)):
            if probe is None or probe is not self.probe or not self.is_heard():
                break  # a client that has called again hears nothing of this
            took += self.say(probe, chunk)
            if index < LOOKS or not index % LOOKS:
                self.bench.check(self.hub)
        if not data or probe is None:
            return
        self.bench.check(self.hub)
        figures.note("turn", took)
        assert took < TOO_LONG or not figures.is_campaign, f"{took:.1f} s for {len(data)} bytes"
        if probe.link.state in (State.CLOSING, State.CLOSED):
            # A stranger is described by as much as there is of it; counts depend on what was said meanwhile.
            text = re.split("does not speak|(?<=this server uses TLS)", str(probe.link.error))[0]
            self.faults.append(re.sub(r"\d+", "#", text))

    def say(self, probe: Probe, chunk: bytes) -> float:
        """Some bytes. Returns the seconds of the processor that they have cost."""
        is_refused = probe.link.state is State.CLOSING and probe.link.session is None
        began = process_time()
        probe.say(chunk)
        took = process_time() - began
        if is_refused and not getattr(probe, "deaf", False):  # else TLS at this end sends nothing any more
            self.drained += len(chunk)
            assert probe.link.closed or self.drained <= EARLY_BYTES, "it is refused, and read for ever"
        return took

    def is_heard(self) -> bool:
        """Does the endpoint read what this side says?"""
        probe = self.probe
        return probe is not None and not (
            probe.is_closed or probe.link.closed or probe.link.paused or probe.end.fin
        )

    def do(self, action: Callable[[], None]) -> Callable[[], None]:
        """A step that is not said: what was gathered arrives before it."""

        def step() -> None:
            self.flush()
            action()
            self.bench.settle()
            self.bench.check(self.hub)

        step.__name__ = action.__name__
        return step

    def spell(self, story: Story, patterns: int, turns: int = 0) -> bytes:
        """The bytes of a story; ``turns``: the byte for the turn of the first one."""
        names = [each.__name__ for each in self.steps]
        script = bytearray((story.seed, story.flags(patterns), *story.more))
        for name, *more in story.words:
            script.append(turns + int(more.pop()) if name == TURN else names.index(str(name)))
            script += bytes(map(int, more))
        return bytes(script)

    def size(self) -> int:
        byte = self.choices.byte()
        return byte if byte < 200 else (byte - 199) * 50

    # -- what may happen to both kinds of wire ----------------------------------------------------------

    def common(self) -> list[Callable[[], None]]:
        """Steps that need no protocol."""
        happens = [self.eof, self.cut, self.take, self.application, self.clock, self.stall, self.finish]
        if not self.hub.context.is_client:
            happens.append(self.others)
        if self.bench.asks_first:
            happens.append(self.decide)
        if isinstance(self.bench, StoredBench):
            happens += [self.disk, self.disk, self.crash]
        return [self.anything, self.repeat, self.flush, *map(self.do, happens)]

    def anything(self) -> None:
        self.add(self.choices.bytes(self.choices.byte()))

    def repeat(self) -> None:
        choice = self.choices.byte()
        times = 1 << choice % (12 if choice < FLOODS else 6)
        times = min(times, MOST_SAID // (len(self.last) or 1))
        self.gathered += self.last * times
        if len(self.gathered) > MOST_SAID:
            self.flush()

    def eof(self) -> None:
        if self.is_heard():
            assert self.probe is not None
            self.probe.end.fin = True
            self.probe.eof()

    def cut(self) -> None:
        probe = self.probe
        if probe is not None and not probe.link.closed:
            self.hub.lost(probe.link, ConnectionResetError("cut"), self.bench.now)
            probe.end.close()

    def take(self) -> None:
        if self.choices.byte() & 1:
            self.bench.decode_all()
        self.taken += self.bench.take(self.hub)

    def application(self) -> None:
        """It sends, asks, or answers."""
        choice, size = self.choices.byte(), self.size()
        pattern = self.hub.context.pattern
        if pattern.asks and not self.hub.context.is_client:
            self.take()
            for index, request in enumerate(self.taken[-5:]):
                self.bench.answer(request, choice + index)
            del self.taken[-5:]
        elif self.session is not None:
            if pattern.asks:
                self.bench.try_ask(self.session, size)
            elif pattern.client_sends if self.hub.context.is_client else pattern.server_sends:
                self.bench.try_send(self.hub, self.session, size)

    def clock(self) -> None:
        self.bench.advance(0.001 * 3 ** (self.choices.byte() % 10))

    def stall(self) -> None:
        """The kernel takes nothing; or takes it again."""
        if self.probe is not None and not self.probe.is_closed:
            end = self.probe.end
            if end.is_full:
                end.unblock(self.bench.now)
            else:
                end.is_full = True

    def finish(self) -> None:
        """The application ends the conversation, waits for receipts, or stops."""
        choice = self.choices.byte() % 8
        session = self.session
        if choice == 7:
            self.hub.shutdown(self.bench.now)
        elif session is not None and session.error is None and choice == 6:
            session.end()
        elif session is not None:
            session.request_ack()

    def others(self) -> None:
        """Somebody who behaves speaks."""
        if self.honest is not None and self.honest.is_there:
            self.taken += self.honest.exchange()

    def decide(self) -> None:
        """``accept=`` returns, at last."""
        self.bench.decide_next(bool(self.choices.byte() & 3))

    def disk(self) -> None:
        """The disk of this end is slow, or is not any more, or is full for once."""
        bench, choice = self.bench, self.choices.byte() % 4
        assert isinstance(bench, StoredBench)
        bench.writes = choice == 0
        if choice == 1:
            bench.write(self.side, is_full=True)
        elif choice > 1:
            bench.write(self.side)

    def crash(self) -> None:
        """The process of this end is killed, and another one started with the same store."""
        bench = self.bench
        assert isinstance(bench, StoredBench)
        self.cut()
        self.taken.clear()
        bench.crash(self.side, bool(self.choices.byte() & 1))
        self.hub, self.probe, self.session = bench.hub(self.side), None, None
        self.begin_again()

    @property
    def side(self) -> str:
        return "client" if self.hub.context.is_client else "server"

    def begin_again(self) -> None:
        """After a crash."""

    def leave(self) -> None:
        """The attacker goes away for good."""
        self.flush()
        if isinstance(self.bench, StoredBench):
            self.bench.writes = True
        self.bench.decodes = True
        self.bench.decode_all()
        probe = self.probe
        if probe is not None and not probe.is_closed:
            if probe.end.is_full:
                probe.end.unblock(self.bench.now)
            self.eof()
            self.cut()
        while self.bench.server.pending_accepts:
            self.decide()
        self.bench.settle()
        self.taken += self.bench.take(self.hub)


class PlainPeer(Peer):
    """One that speaks no protocol: bytes, and what they happen to mean."""

    def __init__(self, bench: Bench, hub: EndpointCore, choices: Choices, seed: int) -> None:
        super().__init__(bench, hub, choices, seed)
        self.steps = [*self.common(), self.message]
        if not hub.context.is_client:
            self.steps.append(self.do(self.connect))

    def on_link(self, link: Link) -> None:
        super().on_link(link)
        self.session = link.session

    def message(self) -> None:
        """Something the framing can carry, mostly."""
        framing: Any = self.bench.framing
        body = self.choices.bytes(1) * (self.size() % 256)
        try:
            self.add(framing.encode(body))
        except ValueError:
            self.add(body)

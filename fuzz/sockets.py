"""Running servers of both front ends, attacked over real sockets; others are served meanwhile.

After a handshake that is done right come frames of `fuzz.grammar`. While the attacker is still there, a
well-behaved client of the same server must get its answer, on the connection that it has had from the
beginning. When the attacker has gone, the tables of the server are what they were before; now and then
memory, descriptors, threads and tasks are counted as well.

**Waiting.** How long an answer takes depends on the machine. A wait of more than a second is a finding only
if this process itself was at work for a second of that time, or if an idle server in the same process, asked
right then, answers ten times as quickly; and if the same happens again with the same input, and once more.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from time import process_time
from typing import Any

from fuzz import oracle
from fuzz.attack import PATIENCE, SECRETS, Attack
from fuzz.figures import figures
from fuzz.grammar import WRONG
from fuzz.target import Choices, Target
from linkbox import Backoff, EventKind, Limits, Lines, LinkboxError, Stage
from linkbox.core.endpoint_core import EndpointCore, ServerCore
from linkbox.core.timers import NEVER
from tests.faults.place import TRANSPORTS, Place

SLOW = 1.0
"""Seconds that an honest client may wait."""
QUICKER = 10
"""So many times as quickly an idle server answers, if the other one is to blame."""
CONTROLS = 5
WORKERS = 8
TIMES = 3
"""Of an input after which somebody waited."""
STALE = 80
"""Sessions that are over and stand in the heap of timers still."""
OFTEN, RARELY = 64, 512
"""After so many inputs: descriptors and threads; memory."""
MORE_BLOCKS = 20_000
"""Blocks of memory that may be added. From one input to another their number changes by about 2,000."""
LIMITS = Limits(
    message=100_000,
    mailbox_bytes=200_000,
    mailbox_messages=2_000,
    mailbox_total=800_000,
    window_bytes=200_000,
    window_messages=2_000,
    asks=16,
    session=0.004,
    control_frames=100,
)


class Quiet(logging.Handler):
    """Keeps what is logged as an error: nothing that a peer does is one, but what user code raises."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "accept=" not in text:
            self.lines.append(logging.Formatter().format(record))


class Host:
    """One server, and its well-behaved client."""

    def __init__(self, place: Place, pattern: str, is_plain: bool = False, **options: Any) -> None:
        self.place = place
        self.pattern = pattern
        self.is_plain = is_plain
        self.is_small = "max_peers" in options
        """Is there a full house soon? Then applicants wait until silent peers have answered a ping."""
        framing = {"framing": Lines()} if is_plain else {}
        more = {**framing, **options, "limits": LIMITS}
        if pattern == "AR":
            more |= {"handler": echo, "workers": WORKERS}
        self.server = place.server(pattern, **more)
        if pattern != "AR":
            self.server.add_callback(self.taking(), EventKind.DATA)
        self.server.start()
        settings: dict[str, Any] = {"AR": {"keep_alive": True}, "P2M": {"linger": 3600}}.get(pattern, {})
        if "secret" in options:
            settings["secret"] = SECRETS["honest"]
        again = Backoff(initial=0.01, maximum=0.05)
        self.client = place.client(
            pattern, self.server.address, name="honest", reconnect=again, **framing, **settings
        )
        self.lost: list[Any] = []
        self.client.add_callback(self.lost.append, EventKind.DISCONNECTED, EventKind.ERROR)
        self.client.start()
        self.exchange()
        self.before = self.tables()
        idle = 2 * WORKERS if pattern == "AR" else 0  # each waits for a request, and for the end
        while (now := self.tables_later()) != self.before or now["waiters"] < idle:
            self.before = now

    def taking(self) -> Callable[[Any], Any]:
        """The callback of the server: P2P echoes, P2M forgets."""
        server, is_threaded = self.real, self.place.front == "threaded"

        def forget(event: Any) -> None:
            server.data_get_all()

        def take(event: Any) -> None:
            try:
                view = server.link(event.peer)
                view.send(view.data_get(0), timeout=0)
            except LinkboxError:
                pass  # it has gone, or does not read

        async def take_later(event: Any) -> None:
            try:
                view = server.link(event.peer)
                await view.send(await view.data_get(0), timeout=0)
            except LinkboxError:
                pass

        return forget if self.pattern == "P2M" else take if is_threaded else take_later

    @property
    def real(self) -> Any:
        return getattr(self.server, "real", self.server)

    def exchange(self) -> float:
        """The well-behaved client is answered. Returns after how many seconds."""
        began = time.monotonic()
        if self.pattern == "AR":
            assert self.client.ask(b"honest", PATIENCE) == b"honest"
        elif self.pattern == "P2P":
            self.client.send(b"honest", timeout=PATIENCE)
            assert self.client.data_get(PATIENCE) == b"honest"
        else:
            receipt = self.client.send(b"honest", timeout=PATIENCE)
            assert receipt.wait(Stage.RECEIVED, timeout=PATIENCE) >= Stage.RECEIVED
        return time.monotonic() - began

    def tables(self) -> dict[str, int]:
        """How much of each there is."""
        return self.look(tables)

    def tables_later(self) -> dict[str, int]:
        """The same when some time has passed."""
        time.sleep(0.02)
        return self.tables()

    def look(self, function: Callable[[EndpointCore], Any]) -> Any:
        """What a function finds in the core of the server."""
        operations = self.real._operations
        if self.place.front == "threaded":
            with operations.runtime.lock:
                return function(operations.core)
        found: list[Any] = []
        done = threading.Event()

        def call() -> None:
            try:
                found.append(function(operations.core))
            except BaseException as error:
                found.append(error)
            done.set()

        self.place.loop.call_soon_threadsafe(call)
        assert done.wait(PATIENCE), "the event loop is blocked"
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    def settle(self) -> None:
        """Wait until nothing is left of the attacker."""
        deadline = time.monotonic() + PATIENCE
        pause = 0.00005
        while left := {name: count for name, count in self.tables().items() if count > self.before[name]}:
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(pause)
            pause = min(2 * pause, 0.005)

    def close(self) -> None:
        self.client.stop()
        self.server.stop()


def tables(core: EndpointCore) -> dict[str, int]:
    """How much of each table is in use."""
    assert isinstance(core, ServerCore)
    door, asks, effects = core.admission, core.asks, core.effects
    queues = (core.changed, core.mailbox.changed, core.mailbox.end_changed)
    return {
        "sessions": len(core.sessions.by_id),
        "links": len(core.links.links),
        "pending": len(door.pending) + len(door.waiting) + len(door.pending_accepts),
        "asks": asks.open_count + len(asks._by_session) - bool(asks._by_session),
        "gathered": asks.memory.gathered,
        "mailbox": core.mailbox.nbytes + core.mailbox.count,
        "events": effects.events.pending,
        "waiters": sum(len(each.waiters) for each in queues),
        "timers": max(0, sum(each[2].next_timer() != NEVER for each in effects.timers._heap) - 4),
    }


def echo(request: Any) -> Any:
    """The handler of AR servers."""
    return request.data


def accept(peer: Any) -> bool:
    """As the name says."""
    if peer.name == "raise":
        raise RuntimeError("as it was told")
    return bool(peer.name != "no")


def accept_later(place: Place) -> Callable[[Any], Any]:
    """The same; some have to wait for the answer."""

    async def later(peer: Any) -> bool:
        await asyncio.sleep(0.002 if peer.name == "later" else 0)
        return accept(peer)

    def soon(peer: Any) -> bool:
        time.sleep(0.002 if peer.name == "later" else 0)
        return accept(peer)

    return soon if place.front == "threaded" else later


class Arena:
    """All servers of one front end; they run from the first input to the last."""

    def __init__(self, front: str) -> None:
        self.front = front
        self.places: list[Place] = []
        self.count = 0
        self.quiet = Quiet()
        self.hosts: list[Host] = []
        self.files = self.threads = self.tasks = self.blocks = 0
        self.is_sound = True
        """Has the last input left nothing behind? If not, the end is not looked at."""

    def open(self) -> None:
        logger = logging.getLogger("linkbox")
        logger.propagate = False
        logger.addHandler(self.quiet)
        logging.getLogger("asyncio").addHandler(self.quiet)
        transports = [TRANSPORTS["tcp"], TRANSPORTS.get("tls", TRANSPORTS["tcp"])]
        self.places = [Place(self.front, each).__enter__() for each in transports]
        place, secure = self.places
        secret = {"secret": SECRETS.get, "accept": accept_later(place)}
        self.idle = Host(place, "AR")
        self.hosts += [
            Host(place, "AR"),
            Host(place, "P2P", max_peers=3),
            Host(place, "P2M", **secret),
            Host(place, "AR", is_plain=True),
            Host(place, "P2P", max_peers=3, **secret),
            Host(secure, "AR", max_peers=3),
            Host(secure, "P2M"),
        ]

    def close(self) -> None:
        """Stop everything, after a last look."""
        try:
            if self.hosts and self.is_sound:
                self.inspect()
                self.inspect_memory()
        finally:
            for host in (*self.hosts, self.idle) if self.hosts else ():
                host.close()
            for place in self.places:
                place.__exit__()
            self.hosts.clear()
            self.places.clear()
            logging.getLogger("linkbox").propagate = True
            for name in ("linkbox", "asyncio"):
                logging.getLogger(name).removeHandler(self.quiet)

    def run(self, data: bytes) -> None:
        """One input; if somebody had to wait for long, once more."""
        if not self.places:
            self.open()
        self.is_sound = False
        if all(self.is_slow(data) for _ in range(TIMES)):
            raise AssertionError(f"an honest client waits for more than {SLOW} s; an idle server answers")
        assert not self.quiet.lines, "\n".join(self.quiet.lines)
        self.count += 1
        if not self.count % OFTEN:
            self.inspect()
        if not self.count % RARELY:
            self.inspect_memory()
        self.is_sound = True

    def is_slow(self, data: bytes) -> bool:
        choices = Choices(data)
        host = self.hosts[choices.byte() % len(self.hosts)]
        attack = Attack(host, choices)
        attack.play()
        busy = process_time()
        try:
            answered_in = host.exchange()
        except LinkboxError as error:
            attack.leave(0)
            raise AssertionError(f"an honest client was disturbed: {error!r}") from error
        waited = max(answered_in, 0.0 if host.is_small else attack.waited)
        busy = process_time() - busy
        attack.leave(choices.byte())
        host.settle()
        assert not host.lost, f"an honest client was disturbed: {host.lost}"
        figures.note("wait", waited)
        if waited <= SLOW:
            return False
        control = max(self.idle.exchange() for _ in range(CONTROLS))
        figures.note("control", control)
        return busy > SLOW or control * QUICKER < waited

    def inspect(self) -> None:
        """What is not in the tables of the servers: it becomes no more than it was at the first look."""
        if not self.files:
            self.files, self.threads, self.tasks = self.in_use()
        deadline = time.monotonic() + PATIENCE
        before = (self.files, self.threads, self.tasks)
        while any(now > then for now, then in zip(self.in_use(), before, strict=True)):
            what = "descriptors, threads and tasks"
            assert time.monotonic() < deadline, f"{what} are {self.in_use()}, were {before}"
            time.sleep(0.01)

    def in_use(self) -> tuple[int, int, int]:
        """Descriptors, threads and tasks of this process."""
        tasks = sum(len(asyncio.all_tasks(each.loop)) for each in self.places)
        return len(os.listdir("/dev/fd")), threading.active_count(), tasks

    def inspect_memory(self) -> None:
        """What the servers lead to, and what all of this process has."""
        for each in self.hosts:
            found, _ = each.look(oracle.reachable)
            assert found["Session"] <= STALE and found["Arrival"] <= 2, found
        gc.collect()
        blocks = sys.getallocatedblocks()
        self.blocks = self.blocks or blocks
        assert blocks <= self.blocks + MORE_BLOCKS, f"{blocks} blocks of memory, before {self.blocks}"


MEETINGS = ((0, 0), (1, 0), (1, 96), (2, 0), (2, 3), (2, 5), (2, 6), (2, 7), (3, 0), (4, 1), (5, 0), (6, 0))
"""A server, and how the attacker introduces itself there."""
SAY, LISTEN, AGAIN, RESUME = 0, 12, 16, 20
"""Bytes that stand for these steps: see `Attack.play`."""


def seeds() -> tuple[bytes, ...]:
    """Each server, each kind of introduction, each step; and what comes back."""
    found: list[bytes] = []
    for meeting in MEETINGS:
        for first in (1, 13, 25, WRONG):
            steps = (byte for byte in range(first, min(first + 12, 256)) if byte % 4 or byte >= WRONG)
            words = b"".join(bytes((step, step % 12, 30, 1, LISTEN)) for step in steps)
            found.append(bytes(meeting) + words + bytes((RESUME, first, 0)) + words[:20])
    return tuple(found)


def target(front: str) -> Target:
    """A target whose servers are started with its first input."""
    arena = Arena(front)
    return Target(
        f"sockets-{front}",
        arena.run,
        seeds(),
        is_endpoint=True,
        share=5.0,
        is_guided=False,
        longest=256,
        close=arena.close,
    )


TARGETS = [target("threaded"), target("aio")]

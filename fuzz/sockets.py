"""Running servers of both front ends, attacked over real sockets; others are served meanwhile.

After a handshake that is done right come frames of `fuzz.grammar`. While the attacker is still there, a
well-behaved client of the same server must get its answer. When the attacker has gone, the tables of the
server are what they were before; now and then memory, descriptors and threads are counted as well.

**Waiting.** How long an answer takes depends on the machine. A wait of more than a second is a finding only
if an ask of an idle server in the same process, made right then, is answered ten times as quickly, or if this
process itself was busy for half of that time; and if the same happens again with the same input.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from fuzz import oracle
from fuzz.figures import figures
from fuzz.grammar import Grammar, PlainGrammar
from fuzz.target import Choices, Target
from linkbox import Backoff, EventKind, Limits, Lines, LinkboxError, Stage
from linkbox.core.endpoint_core import EndpointCore, ServerCore
from linkbox.core.timers import NEVER
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.core.wire.decoder import Decoder
from tests.core.wire import encode_message
from tests.faults.place import Place
from tests.threaded.helpers import dial

PATIENCE = 30.0
"""Seconds to wait for what takes milliseconds."""
SLOW = 1.0
"""Seconds that an honest client may wait."""
QUICKER = 10
"""So many times as quickly an idle server answers, if the other one is to blame."""
CONTROLS = 5
STEPS = 60
STALE = 80
"""Sessions that are over and stand in the heap of timers still."""
OFTEN, RARELY = 64, 512
"""After so many inputs: descriptors and threads; memory."""
MORE_BLOCKS = 60_000
"""Blocks of memory that may be added: caches, and what the interpreter keeps for later."""
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
SECRETS = {"honest": b"the honest one's", "yes": b"the attacker's", "no": b"no", "raise": b"r", "later": b"l"}
NAMES = ("yes", "yes", "later", "no", "raise", "nobody")
RESET = struct.pack("ii", 1, 0)


class Quiet(logging.Handler):
    """Keeps what is logged as an error: nothing that a peer does is one, but what user code raises."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "accept= of" not in text:
            self.lines.append(logging.Formatter().format(record))


class Host:
    """One server, and its well-behaved client."""

    def __init__(self, place: Place, pattern: str, is_plain: bool = False, **options: Any) -> None:
        self.place = place
        self.pattern = pattern
        self.is_plain = is_plain
        framing = {"framing": Lines()} if is_plain else {}
        more = {**framing, **options, "limits": LIMITS}
        if pattern == "AR":
            more["handler"] = echo
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
        self.client.start()
        self.exchange()
        self.before = self.tables()
        while (now := self.tables_later()) != self.before:  # some workers are not idle again yet
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
        import asyncio

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
        self.place: Place | None = None
        self.count = 0
        self.quiet = Quiet()

    def open(self) -> None:
        logger = logging.getLogger("linkbox")
        logger.propagate = False
        logger.addHandler(self.quiet)
        logging.getLogger("asyncio").addHandler(self.quiet)
        place = self.place = Place(self.front)
        place.__enter__()
        secret = {"secret": SECRETS.get, "accept": accept_later(place)}
        self.hosts = [
            Host(place, "AR"),
            Host(place, "P2P", max_peers=3),
            Host(place, "P2M", **secret),
            Host(place, "AR", is_plain=True),
            Host(place, "P2P", max_peers=3, **secret),
        ]
        self.idle = Host(place, "AR")
        self.threads = self.files = self.blocks = 0

    def close(self) -> None:
        """Stop everything."""
        if self.place is None:
            return
        for each in (*self.hosts, self.idle):
            each.close()
        self.place.__exit__()
        self.place = None
        logging.getLogger("linkbox").propagate = True
        for name in ("linkbox", "asyncio"):
            logging.getLogger(name).removeHandler(self.quiet)

    def run(self, data: bytes) -> None:
        """One input; if somebody had to wait for long, once more."""
        if self.place is None:
            self.open()
        if self.is_slow(data) and self.is_slow(data):
            raise AssertionError(f"an honest client waits for more than {SLOW} s; an idle server answers")
        assert not self.quiet.lines, "\n".join(self.quiet.lines)
        self.count += 1
        if not self.count % OFTEN:
            self.inspect()

    def is_slow(self, data: bytes) -> bool:
        choices = Choices(data)
        host = self.hosts[choices.byte() % len(self.hosts)]
        attack = Attack(host, choices)
        attack.play()
        busy = time.process_time()
        waited = max(host.exchange(), attack.waited)
        busy = time.process_time() - busy
        attack.leave(choices.byte())
        host.settle()
        figures.note("wait", waited)
        if waited <= SLOW:
            return False
        control = max(self.idle.exchange() for _ in range(CONTROLS))
        figures.note("control", control)
        return control * QUICKER < waited or busy > waited / 2

    def inspect(self) -> None:
        """What is not in the tables of the servers."""
        if not self.files:
            self.files, self.threads = descriptors(), threading.active_count()
        deadline = time.monotonic() + PATIENCE
        while descriptors() > self.files or threading.active_count() > self.threads:
            now = f"{descriptors()} descriptors, {threading.active_count()} threads"
            assert time.monotonic() < deadline, f"{now}; before {self.files} and {self.threads}"
            time.sleep(0.01)
        if not self.count % RARELY:
            for each in self.hosts:
                found, _ = each.look(oracle.reachable)
                assert found["Session"] <= STALE and found["Arrival"] <= 2, found
            gc.collect()
            blocks = sys.getallocatedblocks()
            self.blocks = self.blocks or blocks
            assert blocks <= self.blocks + MORE_BLOCKS, f"{blocks} blocks of memory, before {self.blocks}"


def descriptors() -> int:
    """How many are open."""
    return len(os.listdir("/proc/self/fd"))


class Attack:
    """One attacker: a connection, or one after the other."""

    def __init__(self, host: Host, choices: Choices) -> None:
        self.host = host
        self.choices = choices
        self.grammar = (PlainGrammar if host.is_plain else Grammar)(choices)
        self.waited = 0.0
        self.epoch = 0
        self.is_stuck = False
        self.socks: list[socket.socket] = []
        self.decoder = Decoder()
        self.connect()

    # -- connections -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """A connection, and the handshake as it should be."""
        self.sock = dial(self.host.server.address, PATIENCE)
        self.socks.append(self.sock)
        self.is_stuck, self.decoder = False, Decoder()
        choice = self.choices.byte()
        if not self.host.is_plain:
            self.meet(choice)
        self.sock.setblocking(False)

    def meet(self, choice: int) -> None:
        """Introduce this side, and wait for the decision."""
        self.epoch += 1
        hello = handshake.Hello(
            pattern=self.host.pattern.lower(),
            format="bytes",
            name=NAMES[choice % len(NAMES)],
            session=("ab" if choice & 64 else f"{len(self.socks):02x}") * 16,
            epoch=self.epoch,
            credit=(0, 0) if choice & 16 else (1 << 40, 1 << 40),
            message=1 << 30,
            resumes=choice & 224 == 224,
        )
        said = encode_message(hello)
        began = time.monotonic()
        self.sock.sendall(frames.preface() + said)
        try:
            self.answer(hello.name, said[4:])
        except (OSError, EOFError):
            self.is_stuck = True
        self.waited = max(self.waited, time.monotonic() - began)

    def answer(self, name: str, hello: bytes) -> None:
        """WELCOME, or REFUSE; with a secret, the proof before it."""
        proves = auth.ClientSide(lambda _: [SECRETS.get(name, b"?")], hello)
        preface = b""
        while True:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            if len(preface) < 8:
                at = 8 - len(preface)
                preface, data = preface + data[:at], data[at:]
            for kind, payload in self.decoder.receive(data):
                if kind == frames.CHALLENGE:
                    self.sock.sendall(proves.prove(payload, bytes(auth.NONCE)) or b"")
                elif kind == frames.REFUSE:
                    raise EOFError
                elif kind == frames.WELCOME:
                    return

    # -- playing ---------------------------------------------------------------------------------------

    def play(self) -> None:
        steps = [*self.grammar.steps, self.say, self.say, self.pieces, self.read, self.again]
        for _ in range(STEPS):
            if not self.choices:
                break
            steps[self.choices.byte() % len(steps)]()
        self.say()

    def say(self) -> None:
        """All that is prepared, as far as the server takes it."""
        self.send(self.grammar.take())

    def pieces(self) -> None:
        """The same in pieces, the first ones as small as they can be."""
        data, size = self.grammar.take(), 1 + self.choices.byte() % 16
        start = 0
        while start < len(data) and not self.is_stuck:
            self.send(data[start : start + size])
            start += size
            size *= 2

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self.is_stuck:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                self.read()
                self.is_stuck = True  # it is slowed down: enough for this time
            except OSError:
                self.is_stuck = True

    def read(self) -> None:
        """What the server has said."""
        try:
            data = self.sock.recv(1 << 20)
        except OSError:
            return
        if not self.host.is_plain:
            heard = self.decoder.receive(data)
            assert self.decoder.error is None, self.decoder.error
            self.grammar.heard_units += sum(kind in UNITS for kind, _ in heard)

    def again(self) -> None:
        """Another connection; of the same session, if the script says so."""
        if len(self.socks) < 4:
            self.say()
            if self.choices.byte() & 1:
                self.end(self.choices.byte())
            self.connect()

    # -- leaving ---------------------------------------------------------------------------------------

    def end(self, how: int) -> None:
        """This connection: FIN, RST, or simply close."""
        try:
            if how % 3 == 0:
                self.sock.shutdown(socket.SHUT_WR)
            elif how % 3 == 1:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except OSError:
            pass
        self.sock.close()

    def leave(self, how: int) -> None:
        """All of them."""
        self.end(how)
        for each in self.socks:
            each.close()


UNITS = frozenset((frames.DATA, frames.PART, frames.ANSWER, frames.FAIL))


def seeds() -> tuple[bytes, ...]:
    """Each server, each kind of hello, each step."""
    meetings = ((0, 0), (1, 0), (1, 225), (2, 0), (2, 2), (2, 3), (2, 4), (3, 0), (4, 1), (0, 16))
    return tuple(bytes((*each, *range(step, step + 40))) for each in meetings for step in (0, 12))


def target(front: str) -> Target:
    """A target whose servers are started with its first input."""
    arena = Arena(front)
    return Target(
        f"sockets-{front}",
        arena.run,
        seeds(),
        is_endpoint=True,
        share=2.0,
        is_guided=False,
        longest=256,
        close=arena.close,
    )


TARGETS = [target("threaded"), target("aio")]

"""Scenes and ways of the races, for the threaded endpoints."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from linkbox import (
    ClientAR,
    ClientP2M,
    ClientP2P,
    EventKind,
    LinkboxError,
    ServerAR,
    ServerP2M,
    ServerP2P,
    StateError,
)
from linkbox.testing import FaultyProxy
from soak.races_peer import ANY, Round

SCENES = ("start", "connect", "send", "push", "ask", "resume", "serve")
WAYS = ("thread", "eight", "signal", "late signal", "callback", "finalizer", "atexit", "del", "exit")
TIMEOUT = 20.0
"""Of stop(): more than any needs while the peer stays."""
LENIENT = ("late signal", "finalizer")
"""Where stop() may have interrupted the endpoint at work: it returns False, and another thread stops."""
OPTIONS: dict[str, Any] = {"connect_timeout": 5.0}


class Scene:
    """A victim, and what the main thread does with it until it is stopped."""

    def __init__(self, round_: Round) -> None:
        self.round = round_
        self.number = 0
        self.proxy: FaultyProxy | None = None
        self.clients: list[Any] = []
        self.users: list[threading.Thread] = []
        self.step: Callable[[], None]
        self.victim: Any = getattr(self, f"_{round_.scene}")()

    def _start(self) -> Any:
        round_, peer = self.round, self.round.peer
        make: Callable[[], Any] = round_.dice.choice((
            lambda: ServerP2P(ANY), lambda: ServerP2M(ANY), lambda: ServerAR(ANY, handler=lambda _: b""),
            lambda: ClientP2P(peer.p2p, **OPTIONS), lambda: ClientP2M(peer.p2m, **OPTIONS),
            lambda: ClientP2M(peer.p2m, blocking=False, **OPTIONS), lambda: ClientAR(peer.ar, **OPTIONS),
        ))  # fmt: skip
        victim = make()
        self.step = victim.start
        return victim

    def _connect(self) -> Any:
        peer = self.round.peer
        victim = ClientP2P(self.round.dice.choice((peer.p2p, peer.silent)), **OPTIONS)
        self.step = victim.start
        return victim

    def _send(self) -> Any:
        self.round.is_ordered = self.round.must_arrive = True
        victim = ClientP2P(self.round.peer.p2p, **OPTIONS).start()
        self.step = self._send_next
        return victim

    def _resume(self) -> Any:
        self.round.is_ordered = True
        self.proxy = FaultyProxy(self.round.peer.p2p).start()
        victim = ClientP2P(self.proxy.address, **OPTIONS).start()
        threading.Thread(target=self._cut, name="cutter", daemon=True).start()
        self.step = self._send_next
        return victim

    def _cut(self) -> None:
        assert self.proxy is not None
        try:
            while True:
                time.sleep(self.round.moment())
                self.proxy.cut()
        except StateError:
            pass  # the round is over

    def _push(self) -> Any:
        blocking, linger = self.round.dice.choice(((True, 0.0), (True, 5.0), (False, 0.0)))
        self.round.must_arrive = not blocking
        victim = ClientP2M(self.round.peer.p2m, blocking=blocking, linger=linger, **OPTIONS).start()
        self.step = self._send_next
        return victim

    def _send_next(self) -> None:
        number, self.number = self.number, self.number + 1
        self.round.in_doubt.append(number)
        try:
            self.victim.send(b"%d" % number)
        except LinkboxError:
            if self.round.is_ordered:  # of P2P, a call that raises has sent nothing
                self.round.in_doubt.clear()
            raise
        self.round.accepted.append(number)
        self.round.in_doubt.remove(number)
        if number % 50 == 49:
            time.sleep(0.0005)  # so that there are waits, too

    def _ask(self) -> Any:
        victim = ClientAR(self.round.peer.ar, keep_alive=self.round.dice.random() < 0.5, **OPTIONS).start()
        self.step = self._ask_next
        return victim

    def _ask_next(self) -> None:
        number, self.number = self.number, self.number + 1
        self.round.in_doubt.append(number)
        answer = self.victim.ask(b"%d" % number)
        self.round.check(answer == b"%d" % number, f"the response to {number} is {answer!r}")
        self.round.accepted.append(number)

    def _serve(self) -> Any:
        """The victim is a server, with clients of its own that send, ask, and come again."""
        if self.round.dice.random() < 0.5:
            victim: Any = ServerP2P(ANY, max_peers=20).start()
            client: Any = ClientP2P
        else:
            victim = ServerAR(ANY, handler=lambda request: request.data).start()
            client = ClientAR
        for _ in range(3):
            self.clients.append(client(victim.address, **OPTIONS))
            self.users.append(threading.Thread(target=_use, args=(self.clients[-1], self.round), daemon=True))
            self.users[-1].start()
        self.step = (lambda: victim.broadcast(b"x")) if client is ClientP2P else victim.peers
        return victim

    def run(self) -> None:
        """Until an error says that it is stopped."""
        is_once = self.round.scene in ("start", "connect")
        try:
            while True:
                self.step()
                if is_once or (self.round.scene == "serve" and self.victim._operations.core is None):
                    return
        except LinkboxError:
            pass

    def finish(self) -> None:
        """Stop what is not the victim."""
        while any(user.is_alive() for user in self.users):  # one may be about to call start()
            for client in self.clients:
                client.stop(TIMEOUT)
            time.sleep(0.001)
        for client in self.clients:
            client.stop(TIMEOUT)
        if self.proxy is not None:
            self.proxy.stop()


def _use(client: Any, round_: Round) -> None:
    """A client of a victim: whatever it meets is a `LinkboxError`."""
    try:
        if isinstance(client, ClientP2P):
            client.start()
            while True:
                client.send(b"x")
                client.data_get(0.01 * round_.dice.random())
        client.start()
        while True:
            client.ask(b"x")
    except LinkboxError:
        pass


class Stops:
    """Calls stop(), and keeps what it returns."""

    victim: Any

    def __init__(self, round_: Round) -> None:
        self.round = round_
        self.results: list[bool] = []
        self.begun = threading.Event()
        self.done = threading.Event()

    def __call__(self, *_: object) -> None:
        self.begun.set()
        try:
            self.results.append(self.victim.stop(TIMEOUT))
        except BaseException as error:
            self.round.report(fault=f"stop() has raised {error!r}")
        self.done.set()

    def later(self, seconds: float) -> threading.Thread:
        """From another thread."""
        thread = threading.Thread(target=lambda: (time.sleep(seconds), self()), name="stopper", daemon=True)
        thread.start()
        return thread


class Forgotten:
    """An object of the application whose finalizer stops an endpoint, in a cycle: the collector finds it."""

    def __init__(self, stops: Callable[[], None]) -> None:
        self.stops = stops
        self.me = self

    def __del__(self) -> None:
        if threading.current_thread().name in ("faulty proxy", "cutter"):
            Forgotten(self.stops)  # Another thread: while it stops the victim, the proxy would stand still.
        else:
            self.stops()


HELD: list[Any] = []
"""Until the interpreter ends."""


def play(round_: Round) -> None:
    """One round, in this process."""
    warnings.simplefilter("error")
    if round_.way in ("atexit", "del", "exit"):  # an endpoint that is open at the exit is named, rightly
        warnings.simplefilter("ignore", ResourceWarning)
    before = _descriptors()
    stops = Stops(round_)
    if round_.way == "signal":
        signal.signal(signal.SIGALRM, stops)
    scene = Scene(round_)
    stops.victim = scene.victim
    if round_.way in ("atexit", "del", "exit"):
        _exit(round_, scene, stops)
        return
    threads = _arm(round_, scene, stops)
    scene.run()
    round_.check(stops.begun.wait(TIMEOUT), "the calls have ended before stop()")
    round_.check(stops.done.wait(TIMEOUT + 10), "stop() has not returned")
    for thread in threads:
        thread.join()
    signal.setitimer(signal.ITIMER_REAL, 0)
    stopped = scene.victim.stop(TIMEOUT)
    if round_.scene not in ("start", "connect", "resume", "serve") and round_.way not in LENIENT:
        round_.check(all(stops.results), f"stop() said {stops.results}")
    round_.claim(stopped)
    _again(round_, scene)
    scene.finish()
    round_.check(not (left := _threads()), f"threads are left: {left}")
    gc.collect()
    left_open = _descriptors() - before
    round_.check(left_open <= 0, f"{left_open} descriptors are left")


def _arm(round_: Round, scene: Scene, stops: Stops) -> list[threading.Thread]:
    """Let stop() be called at a random moment; returns the threads that will."""
    moment = round_.moment()
    if round_.way == "eight":
        return [stops.later(moment + round_.moment(0.001)) for _ in range(8)]
    if round_.way in ("signal", "late signal"):
        if round_.way == "late signal":  # not wrapped: see threaded/interrupts.py
            signal.signal(signal.SIGALRM, stops)
        signal.setitimer(signal.ITIMER_REAL, moment + 1e-6)
        return []
    if round_.way == "callback":
        _stop_in_callback(round_, scene, stops)
        return [stops.later(0.5 + moment)]  # nothing might happen
    if round_.way == "finalizer":
        gc.set_threshold(round_.dice.randrange(20, 200))
        collector = threading.Thread(target=_make_garbage, args=(round_.moment(), stops), daemon=True)
        collector.start()
        return [collector]
    return [stops.later(moment)]


def _stop_in_callback(round_: Round, scene: Scene, stops: Stops) -> None:
    left = round_.dice.randrange(1, 6)

    def callback(event: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            stops()

    kinds = [kind for kind in EventKind if kind is not EventKind.OVERFLOW]
    scene.victim.add_callback(callback, *kinds)


def _make_garbage(moment: float, stops: Stops) -> None:
    """So that the collector runs also where nothing else makes objects: last in this thread."""
    Forgotten(stops)
    stops.begun.wait(moment)
    gc.collect()


def _exit(round_: Round, scene: Scene, stops: Stops) -> None:
    """Come to the end of the program, while a thread still uses the victim."""
    threading.Thread(target=scene.run, name="user", daemon=True).start()

    def stop_and_claim() -> None:
        stops()
        scene.round.claim(all(stops.results))

    if round_.way == "atexit":
        round_.must_arrive = round_.scene in ("send", "push") and round_.must_arrive
        atexit.register(stop_and_claim)
    else:
        round_.must_arrive = False
    if round_.way == "del":
        holder = Forgotten(stops)
        holder.me = None
        sys.modules["__main__"].__dict__["holder"] = holder
    time.sleep(round_.moment())


def _again(round_: Round, scene: Scene) -> None:
    """start() may follow."""
    victim = scene.victim
    if round_.dice.random() < 0.5 or round_.scene == "connect":
        return
    try:
        victim.start()
        if round_.scene in ("send", "push"):
            victim.send(b"again")
        round_.check(
            victim.stop(TIMEOUT) or round_.scene in ("resume", "serve"), "the next life did not stop well"
        )
    except LinkboxError as error:
        round_.check(round_.scene == "resume", f"the next life: {error!r}")


def _threads() -> list[str]:
    """Those of endpoints. An interrupted stop() does not wait for them."""
    deadline = time.monotonic() + TIMEOUT
    while left := [each.name for each in threading.enumerate() if each.name.startswith("linkbox")]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.002)  # nothing reports the end of somebody else's thread
    return []


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

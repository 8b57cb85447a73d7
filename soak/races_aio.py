"""Scenes and ways of the races, for the asyncio endpoints."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from linkbox import EventKind, LinkboxError
from linkbox.aio import ClientAR, ClientP2M, ClientP2P, ServerAR, ServerP2M, ServerP2P
from linkbox.testing import FaultyProxy
from soak.races_peer import ANY, Round

SCENES = ("start", "connect", "send", "push", "ask", "resume", "serve")
WAYS = ("task", "eight", "signal", "callback", "cancel", "closed loop", "exit")
TIMEOUT = 20.0
"""Of stop(): more than any needs while the peer stays."""
OPTIONS: dict[str, Any] = {"connect_timeout": 5.0}


class Scene:
    """A victim, and what a task does with it until it is stopped."""

    def __init__(self, round_: Round) -> None:
        self.round = round_
        self.number = 0
        self.proxy: FaultyProxy | None = None
        self.clients: list[Any] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.step: Callable[[], Awaitable[Any]]
        self.victim: Any = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of the scene."""
        self.tasks.append(asyncio.get_running_loop().create_task(work))
        return self.tasks[-1]

    async def set_up(self) -> None:
        """Make the victim, and start it if the scene does not."""
        self.victim = getattr(self, f"_{self.round.scene}")()
        self.step = self.victim.start if self.round.scene in ("start", "connect") else self._send_next
        if self.round.scene == "ask":
            self.step = self._ask_next
        if self.round.scene not in ("start", "connect"):
            await self.victim.start()
        if self.round.scene == "resume":
            self.spawn(self._cut())
        if self.round.scene == "serve":
            is_p2p = isinstance(self.victim, ServerP2P)
            self.clients = [
                (ClientP2P if is_p2p else ClientAR)(self.victim.address, **OPTIONS) for _ in "xyz"
            ]
            for client in self.clients:
                self.spawn(_use(client))
            self.step = self._broadcast

    def _start(self) -> Any:
        peer = self.round.peer
        make: Callable[[], Any] = self.round.dice.choice((
            lambda: ServerP2P(ANY), lambda: ServerP2M(ANY), lambda: ServerAR(ANY, handler=lambda _: b""),
            lambda: ClientP2P(peer.p2p, **OPTIONS), lambda: ClientP2M(peer.p2m, **OPTIONS),
            lambda: ClientP2M(peer.p2m, blocking=False, **OPTIONS), lambda: ClientAR(peer.ar, **OPTIONS),
        ))  # fmt: skip
        return make()

    def _connect(self) -> Any:
        peer = self.round.peer
        return ClientP2P(self.round.dice.choice((peer.p2p, peer.silent)), **OPTIONS)

    def _send(self) -> Any:
        self.round.is_ordered = self.round.must_arrive = True
        return ClientP2P(self.round.peer.p2p, **OPTIONS)

    def _resume(self) -> Any:
        self.round.is_ordered = True
        self.proxy = FaultyProxy(self.round.peer.p2p).start()
        return ClientP2P(self.proxy.address, **OPTIONS)

    async def _cut(self) -> None:
        assert self.proxy is not None
        while True:
            await asyncio.sleep(self.round.moment())
            self.proxy.cut()

    def _push(self) -> Any:
        blocking, linger = self.round.dice.choice(((True, 0.0), (True, 5.0), (False, 0.0)))
        self.round.must_arrive = not blocking
        return ClientP2M(self.round.peer.p2m, blocking=blocking, linger=linger, **OPTIONS)

    async def _send_next(self) -> None:
        number, self.number = self.number, self.number + 1
        self.round.in_doubt.append(number)
        try:
            await self.victim.send(b"%d" % number)
        except LinkboxError:
            if self.round.is_ordered:  # of P2P, a call that raises has sent nothing
                self.round.in_doubt.clear()
            raise
        self.round.accepted.append(number)
        self.round.in_doubt.remove(number)
        await asyncio.sleep(0.0005 if number % 50 == 49 else 0)  # so that there are waits, too

    def _ask(self) -> Any:
        return ClientAR(self.round.peer.ar, keep_alive=self.round.dice.random() < 0.5, **OPTIONS)

    async def _ask_next(self) -> None:
        number, self.number = self.number, self.number + 1
        self.round.in_doubt.append(number)
        answer = await self.victim.ask(b"%d" % number)
        self.round.check(answer == b"%d" % number, f"the response to {number} is {answer!r}")
        self.round.accepted.append(number)

    def _serve(self) -> Any:
        if self.round.dice.random() < 0.5:
            return ServerP2P(ANY, max_peers=20)
        return ServerAR(ANY, handler=lambda request: request.data)

    async def _broadcast(self) -> None:
        if isinstance(self.victim, ServerP2P):
            await self.victim.broadcast(b"x")
        await asyncio.sleep(0)
        if self.victim._operations.core is None:
            raise LinkboxError("it is stopped")

    async def run(self) -> None:
        """Until an error says that it is stopped."""
        try:
            while True:
                await self.step()
                if self.round.scene in ("start", "connect"):
                    return
        except LinkboxError:
            pass

    async def finish(self) -> None:
        """Stop what is not the victim."""
        for client in self.clients:
            await client.stop(TIMEOUT)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def _use(client: Any) -> None:
    """A client of a victim: whatever it meets is a `LinkboxError`."""
    try:
        await client.start()
        while True:
            await (client.send(b"x") if isinstance(client, ClientP2P) else client.ask(b"x"))
            await asyncio.sleep(0)
    except LinkboxError:
        pass


class Stops:
    """Calls stop(), and keeps what it returns."""

    def __init__(self, round_: Round, victim: Any) -> None:
        self.round = round_
        self.victim = victim
        self.results: list[bool] = []
        self.done = asyncio.Event()

    async def __call__(self, seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)
        try:
            self.results.append(await self.victim.stop(TIMEOUT))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.round.report(fault=f"stop() has raised {error!r}")
        self.done.set()


def play(round_: Round) -> None:
    """One round, in this process."""
    warnings.simplefilter("error")
    if round_.way in ("closed loop", "exit"):  # asyncio complains about what was open in it, rightly
        warnings.simplefilter("ignore", ResourceWarning)
    before = _descriptors()
    scene = Scene(round_)
    asyncio.run(_play(round_, scene))
    if round_.way == "closed loop":
        asyncio.run(_after_the_loop(round_, scene))
    if scene.proxy is not None:
        scene.proxy.stop()
    if round_.way != "exit" and not (round_.way == "closed loop" and scene.clients):  # nobody stops those
        gc.collect()
        left = _descriptors() - before
        round_.check(left <= 0, f"{left} descriptors are left")


async def _play(round_: Round, scene: Scene) -> None:
    await scene.set_up()
    user = scene.spawn(scene.run())
    stops = Stops(round_, scene.victim)
    moment = round_.moment()
    if round_.way in ("exit", "closed loop"):
        await asyncio.sleep(moment)
        return
    stoppers = _arm(round_, scene, stops, moment)
    await asyncio.wait_for(stops.done.wait(), TIMEOUT + 10)
    await asyncio.gather(*stoppers)  # none is left that would stop the next life
    await asyncio.wait_for(user, TIMEOUT)
    stopped = await scene.victim.stop(TIMEOUT)
    if round_.scene not in ("start", "connect", "resume", "serve") and round_.way != "cancel":
        round_.check(all(stops.results), f"stop() said {stops.results}")
    if round_.way == "cancel":
        round_.must_arrive = False  # a cancelled stop() closes at once
    round_.claim(stopped)
    await _again(round_, scene)
    await scene.finish()
    round_.check(not (left := await _tasks()), f"tasks are left: {left}")


def _arm(round_: Round, scene: Scene, stops: Stops, moment: float) -> list[asyncio.Task[None]]:
    """Let stop() be called at a random moment; returns the tasks that will."""
    if round_.way == "eight":
        return [scene.spawn(stops(moment + round_.moment(0.001))) for _ in range(8)]
    if round_.way == "signal":
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGALRM, lambda: scene.spawn(stops()))
        signal.setitimer(signal.ITIMER_REAL, moment + 1e-6)
        return []
    if round_.way == "callback":
        _stop_in_callback(round_, scene, stops)
        return [scene.spawn(stops(0.5 + moment))]  # nothing might happen
    if round_.way == "cancel":
        return [scene.spawn(_stop_and_cancel(scene, stops, moment, round_.moment(0.003)))]
    return [scene.spawn(stops(moment))]


async def _stop_and_cancel(scene: Scene, stops: Stops, moment: float, after: float) -> None:
    first = scene.spawn(stops(moment))
    await asyncio.sleep(moment + after)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await stops()


def _stop_in_callback(round_: Round, scene: Scene, stops: Stops) -> None:
    left = round_.dice.randrange(1, 6)

    async def callback(event: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            await stops()

    kinds = [kind for kind in EventKind if kind is not EventKind.OVERFLOW]
    scene.victim.add_callback(callback, *kinds)


async def _again(round_: Round, scene: Scene) -> None:
    """start() may follow."""
    victim = scene.victim
    if round_.dice.random() < 0.5 or round_.scene == "connect":
        return
    try:
        await victim.start()
        if round_.scene in ("send", "push"):
            await victim.send(b"again")
        stopped = await victim.stop(TIMEOUT)
        round_.check(stopped or round_.scene in ("resume", "serve"), "the next life did not stop well")
    except LinkboxError as error:
        round_.check(round_.scene == "resume", f"the next life: {error!r}")


async def _after_the_loop(round_: Round, scene: Scene) -> None:
    """The loop was closed under the endpoint: in another one it can be stopped, and started again."""
    victim = scene.victim
    try:
        if round_.dice.random() < 0.5:
            await victim.stop(TIMEOUT)
        elif round_.scene == "ask":
            await victim.ask(b"1000000")
        elif round_.scene in ("send", "push"):
            await victim.send(b"1000000")
    except LinkboxError:
        pass
    except BaseException as error:
        round_.report(fault=f"after the loop was closed: {error!r}")
    if scene.proxy is not None or round_.scene in ("serve", "connect"):
        await victim.stop(TIMEOUT)
        return
    try:
        await victim.start()
        if round_.scene in ("send", "push"):
            await victim.send(b"again")
        round_.check(await victim.stop(TIMEOUT), "the next life did not stop well")
    except BaseException as error:
        round_.report(fault=f"the next life: {error!r}")


async def _tasks() -> list[str]:
    """Those of endpoints. A callback that has called stop() still has to return."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT
    while left := [str(task) for task in asyncio.all_tasks() if task.get_name().startswith("linkbox")]:
        if loop.time() > deadline:
            return left
        await asyncio.sleep(0)
    return []


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

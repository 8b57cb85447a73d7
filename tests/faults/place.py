"""Where a fault happens: one front end, one transport, and a well-behaved client that must not notice.

Tests are plain functions that block, for bare sockets, processes and signals do. So it is aio that gets a
blocking face here (`OnLoop`): its endpoints live in an event loop on a thread of its own, and a test that
waits never keeps that loop from its work.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import linkbox
from linkbox import Backoff, Bytes, EventKind, SessionLost, aio
from tests.threaded.helpers import Ear, Process, dial, wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 15.0
"""Seconds a test waits for what takes milliseconds when all is well."""
PAUSE = 1.0
"""Seconds that the well-behaved client may have to wait for anything, whatever happens to others."""
IDLE = 5.0
"""The same if this process hardly ran meanwhile: then it may have waited for its turn on a busy machine."""
BUSY = 3.0
"""The same where a flood shares this process, and the machine's processors, with it."""
FRONTS = ("threaded", "aio")
AT_ONCE = Backoff(initial=0.01, maximum=0.05)


@dataclass(frozen=True)
class Transport:
    """What is below the protocol. TLS is a second one of these: other options, and a `dial` that wraps."""

    name: str
    listen: str = "tcp://127.0.0.1:0"
    server: dict[str, Any] = field(default_factory=dict)
    """More options for servers, and for clients."""
    client: dict[str, Any] = field(default_factory=dict)
    dial: Callable[[str], socket.socket] = dial
    """A bare socket to a server, ready to speak our protocol."""


TRANSPORTS = {"tcp": Transport("tcp")}
if importlib.util.find_spec("cryptography"):
    from tests.faults.secure import client, dial_tls, server

    TRANSPORTS["tls"] = Transport("tls", "tls://127.0.0.1:0", {"ssl": server()}, {"ssl": client()}, dial_tls)


class OnLoop:
    """An aio endpoint, view or receipt behind a blocking face, as its threaded sister has."""

    def __init__(self, real: Any, place: Place) -> None:
        self.real = real
        self._place = place

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.later(name, *args, **kwargs).result(60)

        return call

    def later(self, name: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin a call; what is returned may be cancelled, and so cancels the task."""

        async def run() -> Any:
            result = getattr(self.real, name)(*args, **kwargs)
            if asyncio.iscoroutine(result):
                result = await result
            is_ours = isinstance(result, (aio.Server, aio.Client, aio.Receipt)) or hasattr(result, "data_get")
            return OnLoop(result, self._place) if is_ours else result

        return asyncio.run_coroutine_threadsafe(run(), self._place.loop)

    def __enter__(self) -> OnLoop:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class Place:
    """Makes endpoints of one front end, and serves with the standing oracle."""

    def __init__(self, front: str, transport: Transport = TRANSPORTS["tcp"]) -> None:
        self.front = front
        self.transport = transport
        self.loop: asyncio.AbstractEventLoop
        """From ``__enter__`` on: a loop that nobody runs is closed by nobody."""
        self._thread = threading.Thread(target=self._run, name="event loop", daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        finally:
            self.loop.close()

    def __enter__(self) -> Place:
        self.loop = asyncio.new_event_loop()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the event loop does not end"

    # -- making ------------------------------------------------------------------------------------

    def _make(self, kind: str, *args: Any, **options: Any) -> Any:
        if self.front == "aio":
            return OnLoop(getattr(aio, kind)(*args, **options), self)
        return getattr(linkbox, kind)(*args, **options)

    def server(self, pattern: str, *args: Any, address: Any = None, **options: Any) -> Any:
        """A server, not started."""
        options = {**self.transport.server, **options}
        address = self._at(address) if address else self.transport.listen
        return self._make(f"Server{pattern}", address, *args, **options)

    def _at(self, address: Any) -> Any:
        """A proxy, say, does not know what it carries."""
        is_url = isinstance(address, str)
        return address.replace("tcp://", f"{self.transport.name}://") if is_url else address

    def client(self, pattern: str, address: str, *args: Any, **options: Any) -> Any:
        """A client, not started."""
        options = {**self.transport.client, **options}
        return self._make(f"Client{pattern}", self._at(address), *args, **options)

    def waiting_for(
        self, released: threading.Event | threading.Semaphore, value: Any = None
    ) -> Callable[[Any], Any]:
        """A callback, or handler, that blocks until released, as users of that front end do.

        With a semaphore, each call of it waits for its own release.
        """

        def wait(_: Any) -> Any:
            if isinstance(released, threading.Event):
                released.wait(30)
            else:
                released.acquire(timeout=30)
            return value

        return wait if self.front == "threaded" else lambda _: asyncio.to_thread(wait, _)

    def child(self, script: str, *args: str) -> Process:
        """Another process that runs a script; ``place`` there is of the same front end."""
        begin = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from tests.faults.place import Place, TRANSPORTS\n"
            "place = Place(sys.argv[2], TRANSPORTS[sys.argv[3]]).__enter__()\n"
        )
        return Process(begin + script, str(ROOT), self.front, self.transport.name, *args)

    # -- the standing oracle -------------------------------------------------------------------------

    @contextmanager
    def serving(
        self,
        pattern: str = "P2P",
        format: Any = Bytes,
        *,
        pause: float = PAUSE,
        within: Callable[[Callable[[], Any]], Any] = lambda call: call(),
        **options: Any,
    ) -> Iterator[Any]:
        """A started server, with a well-behaved client that keeps talking to it all the while.

        ``within`` calls what is to happen in another network namespace.
        """
        if pattern == "AR":
            options.setdefault("handler", lambda request: request.data)
        options.setdefault("max_peers", 10_000)
        server = self.server(pattern, format, **options)
        more = {name: options[name] for name in ("secret", "framing") if name in options}
        with server, self.regular(server.address, pattern, format, server, pause, within, **more):
            yield server

    def regular(self, address: str, *args: Any, **options: Any) -> Regular:
        """A well-behaved client; see there. For servers that do not run in this process."""
        return Regular(self._at(address), *args, **self.transport.client, **options)

    def view(self, server: Any, name: str = "bare") -> Any:
        """The part of a server's mailbox that belongs to the peer of that name, once it is there."""
        return server.link(self.peer(server, name))

    def peer(self, server: Any, name: str = "bare") -> Any:
        """The peer of that name, once it is there."""
        return wait_until(
            lambda: next((each for each in server.peers() if each.name == name), None), f"{name} is there"
        )

    def ear(self, server: Any, *kinds: EventKind, name: str = "bare") -> Ear:
        """An ear for what happens to the peers of that name."""
        ear = Ear()
        server.add_callback(
            lambda event: ear(event) if event.peer is not None and event.peer.name == name else None, *kinds
        )
        return ear


class Regular:
    """The well-behaved client: exchanges message after message, and measures its worst pause.

    It has a thread, a threaded client and (P2P) somebody at the server who echoes. Leaving the block fails
    if anything went wrong, or if one exchange took longer than it may.
    """

    def __init__(
        self,
        address: str,
        pattern: str = "P2P",
        format: Any = Bytes,
        server: Any = None,
        pause: float = PAUSE,
        within: Callable[[Callable[[], Any]], Any] = lambda call: call(),
        **options: Any,
    ) -> None:
        self._within = within
        self._pattern = pattern
        self._server = server if pattern == "P2P" else None
        self._pause = pause
        self._as_value: Any = str.encode if format is Bytes else str
        if pattern == "AR":
            options["keep_alive"] = True
        elif pattern == "P2M":
            options["linger"] = 60
        make: Any = getattr(linkbox, f"Client{pattern}")
        self._client = make(address, format, name="regular", reconnect=AT_ONCE, **options)
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()
        self._error: BaseException | None = None
        self.exchanges = 0
        self.worst = 0.0

    def __enter__(self) -> Regular:
        self._within(self._client.start)  # its threads are where this one is
        self._within(self._exchange)
        if self._server is not None:
            peer = wait_until(
                lambda: next((each for each in self._server.peers() if each.name == "regular"), None)
            )
            self._start(self._echo, self._server.link(peer))
        self._start(self._talk)
        return self

    def _start(self, target: Callable[..., Any], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="the regular", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _talk(self) -> None:
        try:
            while not self._over.is_set() or self.exchanges < 3:
                began, used = time.monotonic(), time.process_time()
                self._exchange(self._server is not None)
                waited, used = time.monotonic() - began, time.process_time() - used
                # What this process has worked meanwhile it let it wait; the rest was the machine, or it hung.
                self.worst = max(self.worst, waited if waited > IDLE else min(waited, used))
                self.exchanges += 1
                self._over.wait(0.005)  # It talks; it does not hammer.
        except BaseException as error:
            self._error = error

    def _exchange(self, is_echoed: bool = False) -> None:
        value = self._as_value(f"regular {self.exchanges}")
        if self._pattern == "AR":
            assert self._client.ask(value, timeout=PATIENCE) == value
        elif self._pattern == "P2M":
            self._client.send(value, timeout=PATIENCE)
        else:
            self._client.send(value).wait(timeout=PATIENCE)
            if is_echoed:
                assert self._client.data_get(PATIENCE) == value

    def _echo(self, view: Any) -> None:
        try:
            view.data_get(PATIENCE)  # what was said before there was an echo
            while True:
                view.send(view.data_get())
        except (linkbox.EndOfData, linkbox.StateError, linkbox.PeerLost, SessionLost):
            pass  # the conversation is over

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._over.set()
        self._threads[-1].join(30)
        self._client.stop()
        for thread in self._threads:
            thread.join(30)
        if kind is not None:
            return  # One failure is enough.
        assert not any(thread.is_alive() for thread in self._threads), "the well-behaved client hangs"
        if self._error is not None:
            raise AssertionError("the well-behaved client was disturbed") from self._error
        assert self.worst < self._pause, f"the well-behaved client had to wait {self.worst:.2f} s"


def memory_peak() -> int:
    """Most bytes of memory that this process has had since `forget_memory_peak`."""
    return _memory("VmHWM")


def memory_now() -> int:
    """Bytes of memory that this process has."""
    return _memory("VmRSS")


def _memory(which: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


def forget_memory_peak() -> None:
    """From now on only what comes counts for `memory_peak`."""
    Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def growing_less_than(mebibytes: float) -> Iterator[None]:
    """What happens in the block costs less memory than that, at any moment of it."""
    forget_memory_peak()
    before = memory_now()
    yield
    grown = (memory_peak() - before) / (1 << 20)
    assert grown < mebibytes, f"{grown:.1f} MiB more memory at the worst moment"

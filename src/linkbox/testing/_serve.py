"""A recording replayed as the server: it listens, and responds as recorded."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, sleep
from types import TracebackType

from linkbox.address import Address
from linkbox.testing._steps import Book, Conversation, Exchange, Options, Script, Step, shown
from linkbox.testing._streams import CHUNK, Background, close, reset, serve, without_tls

MOST_UNKNOWN = 100
"""Requests that were not recorded and are remembered, at most."""
PAUSE = 0.005
"""Seconds between two looks of `Replay.check`."""


@dataclass(slots=True)
class _Part:
    """Steps to send, and when the request for them arrived."""

    steps: Sequence[Step]
    recorded: float
    request: bytes = b""
    arrived: float = field(default_factory=monotonic)


class Replay:
    """A server made of a recording, in the background. Made by `Recording.serve`; use it in a ``with`` block.

    For tests with threads, asyncio or other processes: it runs in a thread of its own.
    """

    def __init__(
        self, conversations: Sequence[Conversation], listen: object, options: Options, loop: bool
    ) -> None:
        self._listen = without_tls(listen, "a replay", server=True)
        self._options = options
        self._is_loop = loop
        self._conversations = conversations
        self._book = Book(conversations, options)
        self._background = Background("replay")
        self._lock = threading.Lock()
        self._unknown: list[bytes] = []
        self._count_unknown = 0
        self._live = 0
        self.connections: int = 0
        """Number of connections since the start."""
        self.on_unknown: Callable[[bytes], None] = lambda request: None
        """Called for each request that was not recorded, in the thread of the server."""
        self.finished: threading.Event = threading.Event()
        """Set when as many connections as recorded have been served and are closed."""

    @property
    def address(self) -> str:
        """Where it listens, with the actual port once it is started."""
        return str(self._listen)

    def start(self) -> Replay:
        """Listen, and respond in the background. Returns self. ListenFailed if that is not possible."""
        self._background.start(self._main)
        return self

    def stop(self) -> None:
        """Close all connections, and stop listening."""
        self._background.stop()

    def __enter__(self) -> Replay:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- what differed --------------------------------------------------------------------------------------

    @property
    def unknown(self) -> tuple[bytes, ...]:
        """Requests that were not recorded, and therefore got no response; the first hundred."""
        with self._lock:
            return tuple(self._unknown)

    def differences(self) -> list[str]:
        """What was not as recorded so far, a sentence each: requests that were not recorded, and `unused`."""
        with self._lock:
            found = [f"request {shown(each)} was not recorded" for each in self._unknown]
            more = self._count_unknown - len(found)
        if more:
            found.append(f"{more} more requests were not recorded")
        return found + self.unused()

    def unused(self) -> list[str]:
        """What of the recording was not used so far, a sentence each."""
        found = []
        for exchanges in self._book.all:
            number = exchanges[0].connection
            if not any(each.used for each in exchanges):
                found.append(f"connection {number} of the recording was not used")
            elif not self._options.by_time:
                found += _unused(number, exchanges)
        return found

    def check(self, timeout: float = 2.0) -> None:
        """Raise AssertionError unless all of the recording was used, and nothing else was requested.

        It waits up to ``timeout`` seconds for requests that are still on their way.
        """
        deadline = monotonic() + timeout
        while found := self.differences():
            if self.unknown or monotonic() >= deadline:
                raise AssertionError("the conversation was not as recorded: " + "; ".join(found))
            sleep(PAUSE)  # A request without a response is seen only by the thread of the server.

    # -- in the event loop ----------------------------------------------------------------------------------

    async def _main(self, started: Callable[[], None]) -> None:
        def listening(address: Address) -> None:
            self._listen = address
            started()

        await serve(self._listen, self._serve, listening)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = self.connections % len(self._conversations)
        self.connections += 1
        self._live += 1
        live = _Live(self._book, place, writer, self._is_loop)
        sending = asyncio.create_task(live.send_all())
        try:
            await self._receive(reader, live)
            live.end()
            await sending
        except OSError:
            pass  # The client has closed the connection, as it may.
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self._live -= 1
        await close(writer)
        if not self._live and self.connections >= len(self._conversations):
            self.finished.set()

    async def _receive(self, reader: asyncio.StreamReader, live: _Live) -> None:
        """Take requests until the client ends."""
        while data := await reader.read(CHUNK):
            if not self._options.by_time:
                live.add(live.script.feed(data))
                self._note(live.script)
            if live.script.error is not None:
                self._note_one(data)
                return
        if not self._options.by_time:
            live.add(live.script.eof())
            self._note(live.script)

    def _note(self, script: Script) -> None:
        for request in script.unknown:
            self._note_one(request)
        script.unknown.clear()

    def _note_one(self, request: bytes) -> None:
        with self._lock:
            self._count_unknown += 1
            if len(self._unknown) < MOST_UNKNOWN:
                self._unknown.append(request)
        self.on_unknown(request)


def _unused(number: int, exchanges: list[Exchange]) -> list[str]:
    """The requests of a connection that were not sent, equal ones together."""
    all_of_them = Counter(each.request for each in exchanges if each.request)
    missing = Counter(each.request for each in exchanges if each.request and not each.used)
    return [
        f"request {shown(request)} of connection {number} was not sent"
        + (f", {count} of {all_of_them[request]} times" if all_of_them[request] > 1 else "")
        for request, count in missing.items()
    ]


class _Live:
    """One live connection: the parts that it sends, in order."""

    def __init__(self, book: Book, place: int, writer: asyncio.StreamWriter, loop: bool) -> None:
        self.script = Script(book, place)
        self._book = book
        self._writer = writer
        self._parts: asyncio.Queue[_Part | None] = asyncio.Queue()
        self._more = asyncio.Event()
        """Is something waiting behind the part that is being sent?"""
        greeting = self.script.greeting
        greeting.used += 1
        self._is_stream = book.options.by_time or not book.places
        """Is everything sent at its time, whatever the client does?"""
        self._repeats = loop and self._is_stream
        steps = greeting.answer
        if self._is_stream:
            steps = [step for each in book.all[place] for step in each.answer]
        self._first = _Part(steps, greeting.at)

    def add(self, found: list[tuple[Exchange, bytes]]) -> None:
        """Send the answers to these requests, after what is being sent."""
        if not self._is_stream:
            for exchange, request in found:
                self._parts.put_nowait(_Part(exchange.answer, exchange.at, request))
                self._more.set()

    def end(self) -> None:
        """The client has ended: send the rest, then return."""
        self._parts.put_nowait(None)
        self._more.set()

    async def send_all(self) -> None:
        """Send every part, in order, each step at its time."""
        part: _Part | None = self._first
        while part is not None:
            await self._send(part)
            while self._repeats:
                part.arrived = monotonic()
                await self._send(part)
                await asyncio.sleep(0)  # for other tasks, where nothing has to wait
            part = await self._parts.get()

    async def _send(self, part: _Part) -> None:
        """Send the steps of a part at their times.

        When the next request arrives earlier than recorded, the rest is sent at once: nothing is lost, and
        the order is kept. A stream goes on until the client has gone.
        """
        is_first = True
        for step in part.steps:
            delay = (step.at - part.recorded) / self._book.options.speed
            await self._wait(part.arrived + delay - monotonic())
            if step.event == "reset":
                reset(self._writer)
            elif step.event == "end":
                if not self._repeats:
                    self._writer.write_eof()
            else:
                data = self._book.copied(step.data, part.request) if is_first else step.data
                self._writer.write(data)
                await self._writer.drain()
                is_first = False

    async def _wait(self, seconds: float) -> None:
        if seconds > 0 and self._is_stream:
            await asyncio.sleep(seconds)
        elif seconds > 0 and self._parts.empty():
            self._more.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), seconds)

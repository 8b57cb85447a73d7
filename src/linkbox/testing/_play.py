"""A recording replayed as the client: it connects, sends what was sent, and compares the responses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import takewhile

from linkbox.testing._steps import LARGEST, Conversation, Exchange, Options, exchanges_of, shown
from linkbox.testing._streams import CHUNK, Background, close, connect_to, reset, without_tls

BEFORE = 10
"""Bytes that are shown before the first one that differs."""


class Player:
    """Replays all conversations of a recording, as the client."""

    def __init__(
        self, conversations: Sequence[Conversation], address: object, options: Options, timeout: float
    ) -> None:
        self._conversations = conversations
        self._address = without_tls(address, "a replay")
        self._options = options
        self._timeout = timeout
        self._exchanges = [exchanges_of(each, None) for each in conversations]
        self._found: list[tuple[int, str]] = []

    def run(self) -> list[str]:
        """Send everything; returns what differs, sorted by connection."""
        background = Background("replay")
        background.start(self._main)
        try:
            background.ended.wait()
        finally:
            background.stop()
        return [text for _, text in sorted(self._found, key=lambda each: each[0])]

    async def _main(self, started: Callable[[], None]) -> None:
        started()
        loop = asyncio.get_running_loop()
        began, first = loop.time(), self._conversations[0].opened
        tasks: list[asyncio.Task[None]] = []
        try:
            for number, conversation in enumerate(self._conversations):
                # What had ended before this connection was opened must have ended now, too.
                before = [
                    task
                    for task, each in zip(tasks, self._conversations, strict=False)
                    if each.last_line < conversation.first_line
                ]
                if before:
                    await asyncio.gather(*before)
                due = began + (conversation.opened - first) / self._options.speed
                await asyncio.sleep(max(0.0, due - loop.time()))
                play = _Playing(conversation, self._exchanges[number], self._options, self._timeout)
                tasks.append(asyncio.create_task(self._play(play)))
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _play(self, play: _Playing) -> None:
        reader, writer = await connect_to(self._address)
        receiving = asyncio.create_task(play.receive(reader))
        try:
            await play.run(writer)
        except ConnectionError as error:
            play.note(f"the connection broke: {error.strerror or error}")
        except BaseException:
            writer.transport.abort()
            raise
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])
            self._found += [(play.number, text) for text in play.found]
        await close(writer)


class _Playing:
    """One connection: what was received on it, and how that differs."""

    def __init__(
        self, conversation: Conversation, exchanges: list[Exchange], options: Options, timeout: float
    ) -> None:
        self.number = conversation.number
        self.found: list[str] = []
        self._conversation = conversation
        self._exchanges = exchanges
        self._options = options
        self._timeout = timeout
        self._got = b""
        self._messages = 0
        """How many messages of the framing have been received since the last response."""
        self._decoder = None if options.framing is None else options.framing.decoder(LARGEST)
        self._end: str | None = None
        self._news = asyncio.Event()

    def note(self, text: str) -> None:
        """Something differs."""
        self.found.append(f"connection {self.number}: {text}")

    async def receive(self, reader: asyncio.StreamReader) -> None:
        """Collect what the server sends."""
        try:
            while data := await reader.read(CHUNK):
                self._got += data
                if self._decoder is not None:
                    self._messages += len(self._decoder.feed(data))
                self._news.set()
            self._end = "end"
        except OSError:
            self._end = "reset"
        self._news.set()

    async def run(self, writer: asyncio.StreamWriter) -> None:
        """Send each request when it is due, and compare the responses."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for exchange in self._exchanges:
            due = began + (exchange.at - self._conversation.opened) / self._options.speed
            await asyncio.sleep(max(0.0, due - loop.time()))
            if exchange.is_end:
                writer.write_eof()
            elif exchange.request:
                writer.write(exchange.request)
                await writer.drain()
            if not self._options.by_time:
                await self._compare(exchange)
        if self._options.by_time:
            everything = Exchange(self.number, b"", 0.0)
            everything.answer = [step for each in self._exchanges for step in each.answer]
            await self._compare(everything)
        if any(step.sender == "client" and step.event == "reset" for step in self._conversation.steps[-1:]):
            reset(writer)

    async def _compare(self, exchange: Exchange) -> None:
        """Wait for the response, and note how it differs from the recorded one."""
        wanted = b"".join(step.data for step in exchange.answer)
        end = next((step.event for step in exchange.answer if step.event), None)
        framing = self._options.framing
        count = 0 if framing is None else len(framing.decoder(LARGEST).feed(wanted))
        while not self._is_complete(wanted, count, end) and self._end is None:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), self._timeout)
            except TimeoutError:
                break
        got, self._got, self._messages = self._got, b"", 0
        what = f"the response to {shown(exchange.request)}" if exchange.request else "what the server sends"
        if got != wanted:
            self.note(f"{what} {_difference(got, wanted)}")
        if self._end != end and (end or not got.startswith(wanted)):
            happened = {"end": "closed", "reset": "reset", None: "did not close"}[self._end]
            self.note(f"the server {happened} the connection, after {what}")

    def _is_complete(self, wanted: bytes, count: int, end: str | None) -> bool:
        if end is not None:
            return False  # until the server closes, or nothing arrives
        if self._decoder is None:
            return len(self._got) >= len(wanted)
        return self._messages >= count and (count > 0 or len(self._got) >= len(wanted))


def _difference(got: bytes, wanted: bytes) -> str:
    if not got:
        return f"is missing: {shown(wanted)}"
    if not wanted:
        return f"was not recorded: {shown(got)}"
    at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(got, wanted, strict=False)))
    start = max(0, at - BEFORE)
    if not start:
        return f"is {shown(got)} instead of {shown(wanted)}"
    return f"is {shown(got, start)} instead of {shown(wanted, start)}, from byte {at}"

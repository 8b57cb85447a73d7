"""Recordings: what passed between clients and a server, with times. Made by ``linkbox record``.

The file has one JSON object a line (docs/record.md). It is only appended to, a line at a time, so a crash
costs at most the last line; a reader leaves that one out.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from linkbox.core.wire.framings import Framing, PlainFraming, as_framing
from linkbox.errors import DecodeError, StoreError
from linkbox.testing._play import Player
from linkbox.testing._serve import Replay
from linkbox.testing._steps import Conversation, Options, Sender, Step, StepEvent

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VERSION = 1


class Header(msgspec.Struct, omit_defaults=True):
    """The first line of a recording, and of each part that was appended."""

    linkbox: Literal["recording"]
    version: int
    started: str = ""
    listen: str = ""
    target: str = ""


class Line(msgspec.Struct, rename={"sender": "from"}):
    """Every other line."""

    at: float = 0.0
    """Seconds since the header."""
    connection: int = 1
    sender: Sender | UnsetType = UNSET
    event: StepEvent | Literal["open", "unreachable"] | UnsetType = UNSET
    text: str | UnsetType = UNSET
    hex: str | UnsetType = UNSET
    peer: str | UnsetType = UNSET
    error: str | UnsetType = UNSET

    def data(self) -> bytes:
        """The bytes of the line. ValueError if it has none, or they are not written correctly."""
        if isinstance(self.text, str) and self.hex is UNSET:
            return self.text.encode()
        if isinstance(self.hex, str) and self.text is UNSET:
            return bytes.fromhex(self.hex)
        raise ValueError("a line needs either text, hex or an event")


def data_line(at: float, connection: int, sender: Sender, data: bytes) -> Line:
    """A line with bytes: as text where most of it can be read, otherwise in hexadecimal digits."""
    line = Line(round(at, 6), connection, sender)
    text = _readable(data)
    if text is None:
        line.hex = data.hex()
    else:
        line.text = text
    return line


def _readable(data: bytes) -> str | None:
    """The bytes as text, if three quarters of it can be read and the rest is escaped in JSON."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    hidden = [char for char in text if not char.isprintable() and char not in "\r\n\t"]
    is_safe = all(char < " " for char in hidden)  # JSON escapes these only
    return text if is_safe and len(hidden) * 4 <= len(text) else None


class RecordingWriter:
    """Appends to a recording, a line at a time. ``None`` is stdout. For one thread."""

    def __init__(self, path: Path | None, listen: str, target: str) -> None:
        self.path = path
        self.connections: int = 0
        """Number of connections in the file so far."""
        self._fd = 1
        begin = b""
        if path is not None:
            # What passes may contain passwords: the file is private.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._fd = os.open(path, flags, 0o600)
            try:
                self._lock()
                begin = self._continued(path)
            except BaseException:
                os.close(self._fd)
                raise
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        header = Header("recording", VERSION, started, listen, target)
        self._append(begin + msgspec.json.encode(header) + b"\n")

    def _lock(self) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreError(f"{self.path} is being written by another program") from None

    def _continued(self, path: Path) -> bytes:
        """What ends a line that a crash has cut. DecodeError if the file is no recording."""
        size = os.fstat(self._fd).st_size
        if not size:
            return b""
        before = Recording(path)
        self.connections = max((each.number for each in before.connections), default=0)
        os.lseek(self._fd, size - 1, os.SEEK_SET)
        return b"" if os.read(self._fd, 1) == b"\n" else b"\n"

    def write(self, line: Line) -> None:
        """Append a line. StoreError if that fails."""
        self._append(msgspec.json.encode(line) + b"\n")

    def _append(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StoreError(
                f"the recording {self.path or 'on stdout'} cannot be written: {error.strerror}"
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self.path is not None:
            os.close(self._fd)


class Recording:
    """A file made by ``linkbox record``, to be replayed: as the server (`serve`) or as the client (`play`).

    `DecodeError` if the file is no recording, with the number of the line.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._left_out: list[int] = []
        self._conversations: dict[int, Conversation] = {}
        self._load()

    @property
    def connections(self) -> tuple[Conversation, ...]:
        """The recorded connections, in the order in which they were opened."""
        return tuple(self._conversations.values())

    @property
    def left_out(self) -> tuple[int, ...]:
        """Numbers of the lines that a crash has cut, and that are left out."""
        return tuple(self._left_out)

    def serve(
        self,
        listen: str | tuple[str, int] = "tcp://127.0.0.1:0",
        *,
        framing: Framing | type[Framing] | None = None,
        transaction: tuple[int, int] | None = None,
        speed: float = float("inf"),
        by_time: bool = False,
        loop: bool = False,
    ) -> Replay:
        """Act as the server: listen, and send what the server sent. Use it in a ``with`` block.

        A request that was recorded gets its response, in whatever order and on whatever connection it
        arrives; the same request again gets the next response that was recorded for it.

        ``framing``: how requests are separated. Without it, a request is what was received at a time.
        ``transaction``: bytes from - up to of a request, which may differ and are copied into its response;
        ``(0, 2)`` for Modbus TCP. ``speed``: 1 waits as long as recorded before each response, 10 a tenth of
        it, infinity not at all. ``by_time=True`` sends everything at its time, whatever the client sends.
        ``loop=True`` sends a stream that needs no requests again and again.
        """
        return Replay(self.connections, listen, self._options(framing, transaction, speed, by_time), loop)

    def play(
        self,
        address: str | tuple[str, int],
        *,
        framing: Framing | type[Framing] | None = None,
        speed: float = float("inf"),
        by_time: bool = False,
        timeout: float = 5.0,
    ) -> list[str]:
        """Act as the client: send what the client sent; returns how the responses differ from the recorded.

        The next request is sent when the response to the last one is complete: when it has as many messages
        of this ``framing`` as recorded, or as many bytes, or when nothing has arrived for ``timeout``
        seconds. ``speed=1`` also waits for the time at which it was recorded. ``by_time=True`` waits for
        that time only. ConnectFailed if nobody listens. It blocks: in a coroutine, use
        ``await asyncio.to_thread(recording.play, address)``.
        """
        if not timeout > 0:
            raise ValueError(f"timeout={timeout!r}: a number of seconds above 0 is needed")
        options = self._options(framing, None, speed, by_time)
        return Player(self.connections, address, options, timeout).run()

    def _options(
        self,
        framing: Framing | type[Framing] | None,
        transaction: tuple[int, int] | None,
        speed: float,
        by_time: bool,
    ) -> Options:
        plain = None if framing is None else as_framing(framing)
        if plain is not None and not isinstance(plain, PlainFraming):
            raise ValueError("framing= takes a plain framing: conversations of Linked() cannot be replayed")
        if not speed > 0:
            raise ValueError(f"speed={speed!r}: a number above 0 is needed")
        start, end = transaction or (0, 0)
        if transaction is not None and not 0 <= start < end:
            raise ValueError(f"transaction={transaction!r}: two positions are needed, such as (0, 2)")
        if not self._conversations:
            raise ValueError(f"{self._path} has no connections: there is nothing to replay")
        for conversation in self.connections:
            conversation.check(self._path)
        return Options(plain, (start, end), speed, by_time)

    # -- reading --------------------------------------------------------------------------------------------

    def _load(self) -> None:
        lines = self._path.read_bytes().split(b"\n")
        shift = latest = 0.0  # the times of a part that was appended begin with 0 again
        for number, header, line in self._parsed(lines):
            if header is not None:
                self._check(number, header)
                shift = latest
            elif line is not None:
                latest = max(latest, shift + line.at)
                try:
                    self._add(number, dataclasses.replace(_step(line), at=shift + line.at), line)
                except ValueError as error:
                    raise self._bad(number, str(error)) from error

    def _parsed(self, lines: list[bytes]) -> Iterator[tuple[int, Header | None, Line | None]]:
        """Every line with its number; those that a crash has cut are left out."""
        is_cut = 0
        last = max((number for number, text in enumerate(lines, 1) if text.strip()), default=0)
        if not last:
            raise DecodeError(f"{self._path} is empty, and no recording")
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                found: Any = msgspec.json.decode(text)
                is_header = isinstance(found, dict) and "linkbox" in found
                header = msgspec.convert(found, Header) if is_header else None
                line = None if is_header else msgspec.convert(found, Line)
            except ValueError as error:
                if number == 1 or is_cut or (number == last and len(lines) > last):
                    raise self._bad(is_cut or number, str(error)) from error
                is_cut = number
                continue
            if number == 1 and not is_header:
                raise self._bad(number, 'the first line must be {"linkbox":"recording","version":1}')
            if is_cut and not is_header:
                raise self._bad(is_cut, "it is not complete, and is not the last one")
            if is_cut:
                self._left_out.append(is_cut)
                is_cut = 0
            yield number, header, line
        if is_cut:
            self._left_out.append(is_cut)

    def _check(self, number: int, header: Header) -> None:
        if header.version > VERSION:
            raise self._bad(
                number, f"version {header.version} is newer than this linkbox, which reads {VERSION}"
            )

    def _bad(self, number: int, why: str) -> DecodeError:
        return DecodeError(f"{self._path}, line {number}: this is no line of a recording: {why}")

    def _add(self, number: int, step: Step, line: Line) -> None:
        known = self._conversations.get(line.connection)
        if known is None or line.event == "open":
            if known is not None:
                raise ValueError(f"connection {line.connection} is opened twice")
            known = Conversation(line.connection, step.at, line.peer or "", number)
            self._conversations[line.connection] = known
        known.last_line = number
        if line.event == "unreachable":
            step = Step(step.at, "server", event="reset")
        if line.event != "open":
            known.steps.append(step)


def _step(line: Line) -> Step:
    event = line.event or None
    if event == "open" or event == "unreachable":  # noqa: PLR1714  (mypy narrows only this)
        return Step(line.at, "client")
    if not line.sender:
        raise ValueError("from is missing: client or server")
    return Step(line.at, line.sender, b"" if event else line.data(), event)

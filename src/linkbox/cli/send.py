"""``linkbox send``: send the lines of a file or of stdin to a p2m server."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from linkbox import ClientP2M, FixedSize, Framing, Limits, Raw, Receipt, Stage, TooLarge
from linkbox.cli.broker import broker_of
from linkbox.cli.hints import for_shell
from linkbox.cli.keeping import Commits, Delivery, check_store, end_with, plural
from linkbox.cli.options import (
    AddressArgument,
    ConnectTimeoutOption,
    FormatName,
    FormatOption,
    FramingOption,
    QuietOption,
    SecretOption,
    SpoolOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    WaitOption,
    check_fits,
    connecting,
    context_of,
    format_of,
    framing_of,
    reporting_wait,
    secret_of,
)
from linkbox.cli.status import WrongUse, exit_status, say
from linkbox.cli.text import PIECE, Readable, lines_of, name_of, open_input, parse, pieces_of
from linkbox.operations.storing import BULK_BYTES

if TYPE_CHECKING:
    from pathlib import Path

FOR_EVER = 1e9
"""Seconds: a stream keeps its connection, however long the next line takes."""
ENDLESS = 1 << 62
"""Bytes: only the disk limits the store of a command."""


FileArgument = Annotated[str, typer.Argument(metavar="FILE|-", help="The file to send; - is stdin.")]
ChunksOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Send messages of N bytes, not lines.")
]
WholeOption = Annotated[bool, typer.Option("--whole", help="Send the file as one message.")]


def send(
    address: AddressArgument,
    file: FileArgument = "-",
    format: FormatOption = FormatName.bytes,
    framing: FramingOption = "linked",
    chunks: ChunksOption = None,
    whole: WholeOption = False,
    timeout: ConnectTimeoutOption = 10.0,
    wait: WaitOption = 0.0,
    store: SpoolOption = None,
    secret_file: SecretOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    quiet: QuietOption = False,
) -> None:
    """Send each line as a message to a p2m server, and wait until the server has received all.

    With --framing raw, the file is sent unchanged; with fixed-size:N, in pieces of N bytes.

    With --store, all messages are written to disk first. What the server has not received within --timeout
    stays there: `linkbox spool flush PATH` sends it, or the next `send` with the same --store.
    """
    with exit_status(quiet):
        wire = framing_of(framing)
        began = monotonic()
        secret, ssl = secret_of(secret_file, wire), context_of(address, tls_ca, tls_cert, tls_key)
        _check_options(wire, format, store)
        with open_input(file) as source:
            if file == "-" and source.isatty():
                say("each line is sent as a message; end with Ctrl-D", quiet)
            sender = Sender(source, name_of(file), format, wire, _cut(format, wire, chunks, whole))
            client = ClientP2M[Any](
                address,
                format_of(format),
                framing=wire,
                ssl=ssl,
                secret=secret,
                store=store,
                limits=None if store is None else Limits(store_bytes=ENDLESS),
                **_pace(sender.is_file),
                **connecting(wire, wait, timeout) | {"broker": broker_of(address)},
            )
            delivery = None if store is None else Delivery(client, store, wait or timeout)
            with _too_long(format), reporting_wait(client, address, wait, quiet):
                count, is_well = sender.run(client, delivery, quiet)
        if is_well:
            say(f"{plural(count)} {_done(wire)} in {monotonic() - began:.2f} s", quiet)
        sender.raise_error()
        end_with(is_well)


def _pace(is_file: bool) -> dict[str, Any]:
    """A file is sent over one connection; a stream keeps it until the next line."""
    return {"blocking": is_file, "linger": 0.0 if is_file else FOR_EVER}


@contextmanager
def _too_long(format: FormatName) -> Iterator[None]:
    """Name the option for messages that are too large."""
    try:
        yield
    except TooLarge as error:
        hint = "; use --chunks N to send it in pieces" if format is FormatName.bytes else ""
        raise WrongUse(f"{for_shell(str(error))}{hint}") from error


def _check_options(wire: Framing, format: FormatName, store: Path | None) -> None:
    """Raise what is wrong with options that exclude each other."""
    check_fits(wire, format)
    check_store(store, wire)


def _done(wire: Framing) -> str:
    """What is known of messages that were sent."""
    return "acknowledged" if wire.linked else "handed to the network"


def _cut(format: FormatName, framing: Framing, chunks: int | None, whole: bool) -> int:
    """How to split the input: bytes per message, 0 for lines, -1 for one message."""
    if whole and chunks is not None:
        raise WrongUse("--chunks and --whole cannot be combined")
    if chunks is not None and format is not FormatName.bytes:
        raise WrongUse(f"--chunks splits bytes: --format {format.value} needs lines, or --whole")
    if whole:
        return -1
    if chunks is not None:
        return chunks
    if isinstance(framing, Raw):
        return PIECE
    return framing.size if isinstance(framing, FixedSize) and format is FormatName.bytes else 0


class Sender:
    """Sends the messages in a file."""

    def __init__(self, source: BinaryIO, name: str, format: FormatName, framing: Framing, cut: int) -> None:
        self._file = source
        self._source: Readable = source
        self._name = name
        self._format = format
        self._framing = framing
        self._cut = cut
        info = os.fstat(source.fileno())
        self.is_file: bool = stat.S_ISREG(info.st_mode)
        """A file is complete; a pipe or a terminal delivers lines over time."""
        self._size = info.st_size
        self.error: WrongUse | None = None
        """The first error in the input. Everything before it was sent."""

    def raise_error(self) -> None:
        """Raise the first error in the input, if there was one."""
        if self.error is not None:
            raise self.error

    def run(self, client: ClientP2M[Any], delivery: Delivery | None, quiet: bool) -> tuple[int, bool]:
        """Send everything. Returns the number of messages, and whether the server has all."""
        if delivery is not None:
            return self._run_stored(client, delivery)
        with client:
            return self._send(client, quiet), True

    def _send(self, client: ClientP2M[Any], quiet: bool) -> int:
        if not self.is_file:
            return self._send_stream(client)
        console = Console(stderr=True)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        ) as progress:
            task = progress.add_task(self._name, total=self._size)
            return client.send_many(self._watched(progress, task))

    def _run_stored(self, client: ClientP2M[Any], delivery: Delivery) -> tuple[int, bool]:
        """Store everything, then wait for delivery. Returns their number, and whether all arrived."""
        client.start()
        self._source = commits = Commits(client, self._file, BULK_BYTES if self.is_file else 0)
        try:
            with client:
                for message in self._messages():
                    commits.add(message)
                commits.commit()
                delivery.wait()
        finally:
            is_well = delivery.report()
        return commits.count, is_well

    def _watched(self, progress: Progress, task: Any) -> Iterator[Any]:
        for number, message in enumerate(self._messages()):
            yield message
            if not number % 256:
                progress.update(task, completed=self._file.tell())

    def _messages(self) -> Iterator[Any]:
        try:
            if self._cut < 0:
                yield parse(self._source.read(), self._format, self._name)
            elif self._cut:
                yield from pieces_of(self._source, self._cut)
            else:
                yield from lines_of(self._source, self._format, self._framing, self._name)
        except WrongUse as error:
            self.error = error

    def _send_stream(self, client: ClientP2M[Any]) -> int:
        """Send each line as soon as it is read. Check the receipts for failures, oldest first."""
        last = Stage.RECEIVED if self._framing.linked else Stage.SENT
        under_way: deque[Receipt] = deque()
        count = 0
        for message in self._messages():
            under_way.append(client.send(message))
            count += 1
            while under_way and (under_way[0].stage >= last or under_way[0].failed):
                _check(under_way.popleft())
        client.flush()
        for receipt in under_way:
            _check(receipt)
        return count


def _check(receipt: Receipt) -> None:
    if receipt.error is not None:
        raise receipt.error

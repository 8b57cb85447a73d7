"""``linkbox listen``: run a server and write received messages to stdout."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from linkbox import (
    Address,
    EndOfData,
    Event,
    EventKind,
    Framing,
    MailboxEmpty,
    Message,
    PeerLost,
    ServerAR,
    ServerP2M,
    ServerP2P,
)
from linkbox.cli.answering import Answering, answering_with
from linkbox.cli.broker import broker_of
from linkbox.cli.keeping import count_in, plural
from linkbox.cli.options import (
    AddressArgument,
    FormatName,
    FormatOption,
    FramingOption,
    InboxOption,
    InsecureOption,
    NoNewlineOption,
    QuietOption,
    SecretOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    check_fits,
    context_of,
    format_of,
    framing_of,
    secret_of,
)
from linkbox.cli.status import FINE, LINK_FAILED, WrongUse, exit_status, say
from linkbox.cli.text import Output
from linkbox.operations.addresses import demands_certificates


class PatternName(enum.StrEnum):
    """The three patterns."""

    p2p = "p2p"
    p2m = "p2m"
    ar = "ar"


_SERVERS: dict[PatternName, Any] = {
    PatternName.p2p: ServerP2P,
    PatternName.p2m: ServerP2M,
    PatternName.ar: ServerAR,
}


PatternArgument = Annotated[
    PatternName,
    typer.Argument(help="p2p: one peer; p2m: any number of peers; ar: requests and responses."),
]
CountOption = Annotated[int | None, typer.Option(min=1, help="Exit after that many messages.")]
OnceOption = Annotated[bool, typer.Option("--once", help="p2p, p2m: exit when the first peer ends.")]
MaxPeersOption = Annotated[int | None, typer.Option(min=1, help="Admit at most that many peers at a time.")]
IdleTimeoutOption = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Exit with status 1 if no message arrives within SECONDS."),
]
EchoOption = Annotated[bool, typer.Option("--echo", help="ar: respond with the request itself.")]
ExecOption = Annotated[
    str | None,
    typer.Option(
        "--exec",
        metavar="COMMAND",
        help="ar: run COMMAND (without a shell) with the request on stdin; respond with its stdout.",
    ),
]


def listen(
    pattern: PatternArgument,
    address: AddressArgument,
    format: FormatOption = FormatName.bytes,
    framing: FramingOption = "linked",
    count: CountOption = None,
    once: OnceOption = False,
    max_peers: MaxPeersOption = None,
    timeout: IdleTimeoutOption = None,
    echo: EchoOption = False,
    command: ExecOption = None,
    no_newline: NoNewlineOption = False,
    insecure: InsecureOption = False,
    store: InboxOption = None,
    secret_file: SecretOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run a server and write received messages to stdout. Ctrl-C shuts it down gracefully.

    An ar server responds to each request with a line of stdin, unless --echo or --exec is given.

    With --store, received messages are on disk until they are written to stdout. The next listen with the
    same --store continues, and writes messages again that may or may not have been written when the last
    one was killed.
    """
    with exit_status(quiet, interrupted=FINE):
        wire = framing_of(framing)
        secret = secret_of(secret_file, wire)
        ssl = context_of(address, tls_ca, tls_cert, tls_key, is_server=True)
        is_ar = pattern is PatternName.ar
        _check_use(is_ar, wire, format, once, store)
        answers = answering_with(is_ar, echo, command, format, wire)
        options: dict[str, object] = {"max_peers": max_peers, "store": store}
        if pattern is PatternName.p2p and not wire.linked:
            options["half_close"] = 0  # It never sends, and `nc -N` waits for the end.
        server = _SERVERS[pattern](
            check_address(address, insecure, ssl, secret),
            format_of(format),
            framing=wire,
            ssl=ssl,
            secret=secret,
            insecure=insecure,
            broker=broker_of(address),
            **{name: value for name, value in options.items() if value is not None},
        )
        listener = Listener(server, Output(format, wire, no_newline), answers, timeout, quiet)
        (listener if store is None else StoredListener(listener, store)).run(count, once)


def _check_use(is_ar: bool, framing: Framing, format: FormatName, once: bool, store: Path | None) -> None:
    """Raise `WrongUse` for options that cannot be combined."""
    if not is_ar:
        check_fits(framing, format)
    if store is not None and is_ar:
        raise WrongUse(
            "--store is for p2p and p2m: a client that asks waits for the response, and can ask again"
        )
    if once and is_ar:
        raise WrongUse("--once is for p2p and p2m: use --count 1 to exit after one request")


def check_address(text: str, insecure: bool, ssl: Any, secret: Any) -> str:
    """Raise `WrongUse` for an unprotected address that other machines can reach, unless ``insecure``."""
    if Address.parse(text, server=True).is_broker:
        return text  # The broker decides who may use the name.
    is_protected = ssl is not None and (secret is not None or demands_certificates(ssl))
    if not insecure and not is_protected and not Address.parse(text, server=True).is_local:
        raise WrongUse(
            f"{text} can be reached from other machines and is not protected: use tls:// with --tls-cert, "
            "--tls-key and --secret-file (or --tls-ca, for clients with certificates), listen at 127.0.0.1, "
            "or use --insecure if every machine that can reach it may use it"
        )
    return text


PATIENCE = 2.0
"""Seconds that a peer gets to close its connection when the listener stops."""
PAUSE = 0.2
"""Seconds between two checks whether the peer has ended, with a store."""
UNACKED = 256
"""Messages that are written before stdout is flushed, at most, with a store."""


class Listener:
    """Writes the messages of a server to stdout."""

    def __init__(
        self, server: Any, output: Output, answers: Answering | None, timeout: float | None, quiet: bool
    ) -> None:
        self._server = server
        self._output = output
        self._answers = answers
        self._timeout = timeout
        self._quiet = quiet
        self._lost: Exception | None = None
        self._written = 0

    def run(self, count: int | None, once: bool) -> None:
        """Run until ``count`` messages have arrived, the first peer has ended (``once``), or Ctrl-C."""
        server = self._server
        if self._answers is None:
            server.add_callback(self._report, EventKind.CONNECTED, EventKind.DISCONNECTED)
        if once:
            server.add_callback(self._end, EventKind.END, EventKind.DISCONNECTED)
        server.start()
        say(f"listening at {server.address}", self._quiet)
        try:
            for item in self._items(count):
                self._take(item)
        finally:
            self._finish(count)
        if self._lost is not None:
            raise PeerLost(f"the connection was lost before the peer ended: {self._lost}")

    def _items(self, count: int | None) -> Iterator[Any]:
        while count is None or self._written < count:
            try:
                yield self._get()
            except EndOfData:
                return
            except MailboxEmpty:
                say(f"no message arrived within {self._timeout:g} s")
                raise typer.Exit(LINK_FAILED) from None

    def _get(self) -> Any:
        return self._server.data_get(timeout=self._timeout)

    def _take(self, item: Any) -> None:
        if self._answers is None:
            self._output.write(item)
        else:
            for message in item.messages:
                self._output.write(message)
        self._written += 1
        if self._answers is not None:
            self._output.flush()
            if not self._answers.answer(item):
                self._stop()
        elif self._server.data_empty():
            self._output.flush()

    def _finish(self, count: int | None) -> None:
        """Stop, and write everything that was acknowledged, also after an error."""
        if self._answers is not None:
            self._answers.finish()
        self._stop()
        if self._answers is None and count is None:
            for item in self._server.data_get_all():
                self._output.write(item)
                self._written += 1
        self._output.flush()
        what = "message" if self._answers is None else "request"
        say(plural(self._written, what), self._quiet)

    def _report(self, event: Event) -> None:
        error = f": {event.error}" if event.error is not None else ""
        say(f"{event.peer} {event.kind.value}{error}", self._quiet)

    def _end(self, event: Event) -> None:
        """Stop after the first peer. Its messages stay readable after stop()."""
        if event.kind is EventKind.DISCONNECTED:
            self._lost = event.error
        self._stop()

    def _stop(self) -> None:
        if self._answers is None:
            self._server.stop(PATIENCE)
        else:
            self._server.stop()


class StoredListener(Listener):
    """As `Listener`, with a store: a message counts as taken once it is written and flushed."""

    def __init__(self, plain: Listener, path: Path) -> None:
        super().__init__(plain._server, plain._output, None, plain._timeout, plain._quiet)
        self._path = path
        self._unacked: list[Message[Any]] = []
        self._waits_for_end = False
        self._has_ended = False

    def run(self, count: int | None, once: bool) -> None:
        self._waits_for_end = once
        super().run(count, once)

    def _get(self) -> Any:
        if not self._waits_for_end:
            return self._server.message_get(self._timeout, ack=False)
        deadline = math.inf if self._timeout is None else monotonic() + self._timeout
        while True:
            has_ended = self._has_ended  # read before the mailbox is found empty
            try:
                return self._server.message_get(min(PAUSE, max(0.0, deadline - monotonic())), ack=False)
            except MailboxEmpty:
                if has_ended:
                    raise EndOfData("the peer has ended, and all its messages are taken") from None
                if monotonic() >= deadline:
                    raise

    def _take(self, item: Any) -> None:
        self._output.write(item.data)
        self._written += 1
        self._unacked.append(item)
        if self._server.data_empty() or len(self._unacked) >= UNACKED:
            self._flush()

    def _flush(self) -> None:
        self._output.flush()
        unacked, self._unacked = self._unacked, []
        for message in unacked:
            message.ack()

    def _finish(self, count: int | None) -> None:
        """Stop. Messages that were not written stay in the store."""
        try:
            self._flush()
        finally:
            self._stop()
        say(plural(self._written), self._quiet)
        if left := count_in(self._path, "inbox"):
            say(f"{plural(left, 'more message')} kept in {self._path} for the next start", self._quiet)

    def _end(self, event: Event) -> None:
        """Note the end of the peer. The listener stops after it has written and acknowledged everything."""
        if event.kind is EventKind.DISCONNECTED:
            self._lost = event.error
        self._has_ended = True

"""``linkbox listen``: be a server, and write what arrives to stdout."""

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
from linkbox.cli.keeping import check_store, count_in, plural
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
from linkbox.networks.listening import demands_certificates


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


def listen(
    pattern: Annotated[
        PatternName,
        typer.Argument(help="p2p: one peer; p2m: any number of peers; ar: asks, which are answered."),
    ],
    address: AddressArgument,
    format: FormatOption = FormatName.bytes,
    framing: FramingOption = "linked",
    count: Annotated[int | None, typer.Option(min=1, help="End after that many messages.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End when a peer has ended (p2p, p2m).")] = False,
    max_peers: Annotated[int | None, typer.Option(min=1, help="Peers at a time.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="End, with status 1, when nothing came for so long."),
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="ar: answer with what was asked.")] = False,
    command: Annotated[
        str | None,
        typer.Option(
            "--exec",
            metavar="COMMAND",
            help="ar: answer with the stdout of a command, which gets the ask on its stdin. No shell.",
        ),
    ] = None,
    no_newline: NoNewlineOption = False,
    insecure: InsecureOption = False,
    store: InboxOption = None,
    secret_file: SecretOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    quiet: QuietOption = False,
) -> None:
    """Be a server: what arrives goes to stdout. Ctrl-C ends it in order.

    ar answers with a line of stdin for each ask, unless --echo or --exec says otherwise.

    With --store, what has arrived is on disk, and stays there until it is written to stdout; the next listen
    with that --store goes on with it, beginning with what may have been written when the last one was killed.
    """
    with exit_status(quiet, interrupted=FINE):
        wire = framing_of(framing)
        secret = secret_of(secret_file, wire)
        ssl = context_of(address, tls_ca, tls_cert, tls_key, is_server=True)
        is_ar = pattern is PatternName.ar
        _check_use(is_ar, wire, format, once, store)
        answers = answering_with(is_ar, echo, command, format, wire)
        options = {"max_peers": max_peers, "store": store}
        server = _SERVERS[pattern](
            check_address(address, insecure, ssl, secret),
            format_of(format),
            framing=wire,
            ssl=ssl,
            secret=secret,
            insecure=insecure,
            **{name: value for name, value in options.items() if value is not None},
        )
        listener = Listener(server, Output(format, wire, no_newline), answers, timeout, quiet)
        (listener if store is None else StoredListener(listener, store)).run(count, once)


def _check_use(is_ar: bool, framing: Framing, format: FormatName, once: bool, store: Path | None) -> None:
    """`WrongUse` for what does not go together."""
    if not is_ar:
        check_fits(framing, format)
    check_store(store, framing)
    if store is not None and is_ar:
        raise WrongUse("--store is for p2p and p2m: whoever asks waits for the answer, and asks again")
    if once and is_ar:
        raise WrongUse("--once is for p2p and p2m: say --count 1 to end after one ask")


def check_address(text: str, insecure: bool, ssl: Any, secret: Any) -> str:
    """`WrongUse` for an address that is open to other machines, unless that is wanted."""
    is_protected = ssl is not None and (secret is not None or demands_certificates(ssl))
    if not insecure and not is_protected and not Address.parse(text, server=True).is_local:
        raise WrongUse(
            f"{text} can be reached from other machines, and too little protects it: use tls:// with "
            "--tls-cert, --tls-key and --secret-file (or --tls-ca, for clients with certificates), listen at "
            "127.0.0.1, or say --insecure if everyone who can reach it may use it"
        )
    return text


PATIENCE = 2.0
"""Seconds a peer has to hang up in when a listener ends that has nothing more to say to it."""
PAUSE = 0.2
"""Seconds between two looks at whether the peer has ended, where that must not end the server by itself."""
UNACKED = 256
"""Most messages that are written before stdout is flushed, with a store."""


class Listener:
    """A server whose messages go to stdout."""

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
        """Until ``count`` messages, the end of the first peer, or Ctrl-C."""
        server = self._server
        if self._answers is None:
            server.add_callback(self._tell, EventKind.CONNECTED, EventKind.DISCONNECTED)
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
            raise PeerLost(f"the peer was lost before it had ended: {self._lost}")

    def _items(self, count: int | None) -> Iterator[Any]:
        while count is None or self._written < count:
            try:
                yield self._get()
            except EndOfData:
                return
            except MailboxEmpty:
                say(f"nothing came for {self._timeout:g} s")
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
        """What was acknowledged is written, whatever the reason for the end."""
        if self._answers is not None:
            self._answers.finish()
        self._stop()
        if self._answers is None and count is None:
            for item in self._server.data_get_all():
                self._output.write(item)
                self._written += 1
        self._output.flush()
        what = "message" if self._answers is None else "ask"
        say(plural(self._written, what), self._quiet)

    def _tell(self, event: Event) -> None:
        error = f": {event.error}" if event.error is not None else ""
        say(f"{event.peer} {event.kind.value}{error}", self._quiet)

    def _end(self, event: Event) -> None:
        """The first peer is through; what it sent stays readable after stop()."""
        if event.kind is EventKind.DISCONNECTED:
            self._lost = event.error
        self._stop()

    def _stop(self) -> None:
        if self._answers is None:
            self._server.stop(PATIENCE)
        else:
            self._server.stop()


class StoredListener(Listener):
    """The same with a store: a message counts as taken when it has been written and flushed, not earlier."""

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
            has_ended = self._has_ended  # before the look that finds nothing
            try:
                return self._server.message_get(min(PAUSE, max(0.0, deadline - monotonic())), ack=False)
            except MailboxEmpty:
                if has_ended:
                    raise EndOfData("the peer has ended, and nothing of it is left") from None
                if monotonic() >= deadline:
                    raise

    def _take(self, item: Any) -> None:
        self._output.write(item.data)
        self._written += 1
        self._unacked.append(item)
        if self._server.data_empty() or len(self._unacked) >= UNACKED:
            self._settle()

    def _settle(self) -> None:
        self._output.flush()
        unacked, self._unacked = self._unacked, []
        for message in unacked:
            message.ack()

    def _finish(self, count: int | None) -> None:
        """What was not written stays in the store."""
        try:
            self._settle()
        finally:
            self._stop()
        say(plural(self._written), self._quiet)
        if left := count_in(self._path, "inbox"):
            say(f"{plural(left, 'more message')} kept in {self._path} for the next start", self._quiet)

    def _end(self, event: Event) -> None:
        """What has arrived is still to be written, and acknowledged: before the stop."""
        if event.kind is EventKind.DISCONNECTED:
            self._lost = event.error
        self._has_ended = True

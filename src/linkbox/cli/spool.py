"""``linkbox spool``: show, send and export the messages in a store, also in a damaged one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from linkbox import ClientP2M, ClientP2P, DecodeError, FormatError, Framing, Linked
from linkbox.cli.broker import broker_of, with_nats_url
from linkbox.cli.keeping import Delivery, end_with, plural
from linkbox.cli.options import (
    FRAMING_HELP,
    ConnectTimeoutOption,
    FormatName,
    QuietOption,
    SecretOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    context_of,
    format_of,
    framing_of,
    secret_of,
)
from linkbox.cli.status import WrongUse, exit_status, say
from linkbox.core.wire.framing import PlainFraming
from linkbox.store.reader import Amount, Kept, Reader, Summary
from linkbox.text import printable

spool: typer.Typer = typer.Typer(
    help="Show, send and export what endpoints with store= (or --store) keep on disk.",
    no_args_is_help=True,
)
PathArgument = Annotated[Path, typer.Argument(metavar="PATH", help="The store.", show_default=False)]


# -- status ---------------------------------------------------------------------------------------------


class Status(msgspec.Struct):
    """The output of ``status --json``. Times are seconds since the epoch."""

    pattern: str
    format: str
    side: str
    address: str | None
    name: str | None
    sessions: int
    spool: Amount
    inbox: Amount
    doubt: Amount


@spool.command()
def status(
    path: PathArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Write one line of JSON, for programs.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Show what is in a store. Works also while a program uses it."""
    with exit_status(quiet):
        with Reader(path) as reader:
            about, summary = reader.about, reader.summary()
        if as_json:
            sys.stdout.write(msgspec.json.encode(_status(about, summary)).decode() + "\n")
        else:
            for name, value in _lines(about, summary):
                sys.stdout.write(f"{name:<9}{value}\n")


def _status(about: dict[str, str], found: Summary) -> Status:
    return Status(
        about.get("pattern", ""),
        about.get("format", ""),
        about.get("side", ""),
        about.get("address"),
        about.get("name"),
        found.sessions,
        found.spool,
        found.inbox,
        found.doubt,
    )


def _lines(about: dict[str, str], found: Summary) -> list[tuple[str, str]]:
    keys = ("pattern", "side", "format", "address", "name")
    lines = [(key, printable(about[key])) for key in keys if key in about]
    return [
        *lines,
        ("sessions", str(found.sessions)),
        ("spool", _amount(found.spool, "not acknowledged", "in a session that began {} ago")),
        ("inbox", _amount(found.inbox, "not taken", "the oldest arrived {} ago")),
        ("doubt", _amount(found.doubt, "may or may not have arrived", "the oldest {} ago")),
    ]


def _amount(amount: Amount, what: str, since: str) -> str:
    size = f"{amount.bytes} byte{'' if amount.bytes == 1 else 's'}"
    text = f"{plural(amount.messages)}, {size}"
    if amount.messages:
        text += f", {what}"
        if amount.since is not None:
            text += ", " + since.format(_duration(max(0.0, time.time() - amount.since)))
    return text


def _duration(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h``, ``4 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# -- flush ----------------------------------------------------------------------------------------------


TargetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="ADDRESS",
        help="The server. Default: the one it was last sent to.",
        show_default=False,
        callback=with_nats_url,
    ),
]


@spool.command()
def flush(
    path: PathArgument,
    address: TargetArgument = None,
    timeout: ConnectTimeoutOption = 10.0,
    secret_file: SecretOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    quiet: QuietOption = False,
) -> None:
    """Send the messages in the store of a client. Exit with status 1 if the server has not acknowledged all.

    A p2p conversation ends afterwards, as when its program stops; messages from the server go into the store.
    """
    with exit_status(quiet):
        with Reader(path) as reader:
            about, waiting = reader.about, reader.count("spool")
        if about.get("side") != "client":
            raise WrongUse(
                f"{path} is the store of a server: its messages are sent when the peers connect again"
            )
        where = address or about.get("address")
        if where is None:
            raise WrongUse(f"{path} does not contain the address of the server: give the ADDRESS")
        secret = secret_of(secret_file, Linked())
        ssl = context_of(where, tls_ca, tls_cert, tls_key)
        if not waiting:
            say(f"nothing is waiting in {path}", quiet)
            return
        client: Any = _CLIENTS[about["pattern"]](
            where,
            _format_of(path, about),
            store=path,
            name=about.get("name"),
            ssl=ssl,
            secret=secret,
            connect_timeout=timeout,
            broker=broker_of(where),
        )
        is_well = _deliver(client, path, timeout)
        if is_well:
            say(f"{plural(waiting)} acknowledged by {where}", quiet)
        end_with(is_well)


def _deliver(client: Any, path: Path, timeout: float) -> bool:
    delivery = Delivery(client, path, timeout)
    client.start(**({"wait": False} if isinstance(client, ClientP2P) else {}))
    try:
        try:
            delivery.wait()
        finally:
            client.stop()
    finally:
        is_well = delivery.report()
    return is_well


_CLIENTS: dict[str, Any] = {"p2p": ClientP2P, "p2m": ClientP2M}


class _Unknown:
    """A format that the command line does not know: messages in the store are already encoded."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, value: Any) -> bytes:
        raise NotImplementedError

    def decode(self, payload: bytes) -> Any:
        raise NotImplementedError


def _format_of(path: Path, about: dict[str, str]) -> Any:
    name = about["format"]
    if (known := _named(name)) is not None:
        return format_of(known)
    if about["pattern"] != "p2m":
        raise WrongUse(
            f"{path} has the custom format {name!r}: messages from the server cannot be checked here; "
            "start the program that owns the store"
        )
    return _Unknown(name)


def _named(name: str) -> FormatName | None:
    try:
        return FormatName(name)
    except ValueError:
        return None


# -- export ---------------------------------------------------------------------------------------------


@spool.command()
def export(
    path: PathArgument,
    inbox: Annotated[
        bool, typer.Option("--inbox", help="Export received messages that are not taken.")
    ] = False,
    doubt: Annotated[
        bool,
        typer.Option(
            "--doubt",
            help="Export messages in doubt: a server may have received them before it was restarted.",
        ),
    ] = False,
    framing: Annotated[
        str | None,
        typer.Option(
            "--framing",
            "-F",
            metavar="FRAMING",
            help="Set how messages of bytes are separated; default: a newline after each. "
            f"{FRAMING_HELP} A message that the framing cannot carry is reported and skipped.",
        ),
    ] = None,
    format: Annotated[
        FormatName | None,
        typer.Option("--format", "-f", help="Set the message format, if the store is too damaged to say it."),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Write the messages in a store to stdout, by default those to be sent; json is one message per line.

    The store is not changed. Damaged messages are reported on stderr, and the exit status is then 1;
    everything that can be read is written.
    """
    with exit_status(quiet):
        if inbox and doubt:
            raise WrongUse("--inbox and --doubt cannot be combined")
        part = "inbox" if inbox else "doubt" if doubt else "spool"
        with Reader(path) as reader:
            export = Export(format or _known_format(reader, quiet), _plain(framing))
            for kept in reader.messages(part):
                export.write(kept)
        export.finish(quiet)
        end_with(not export.damaged)


def _known_format(reader: Reader, quiet: bool) -> FormatName:
    name = reader.about.get("format")
    if name and (known := _named(name)) is not None:
        return known
    why = f"the format {name!r} is unknown" if name else "the format cannot be read"
    say(f"{reader.path}: {why}; writing messages as bytes; use --format to change that", quiet)
    return FormatName.bytes


def _plain(text: str | None) -> Framing | None:
    framing = None if text is None else framing_of(text)
    if framing is not None and framing.linked:
        raise WrongUse(
            "--framing linked is for connections: use length-prefixed to separate messages in a file"
        )
    return framing


class Export:
    """Writes messages of a store to stdout."""

    def __init__(self, format: FormatName, framing: Framing | None) -> None:
        if framing is not None and format is not FormatName.bytes:
            raise WrongUse(
                f"--framing is for messages of bytes; {format.value} is written as one message per line"
            )
        self._format = format
        self._framing = framing if isinstance(framing, PlainFraming) else None
        self._decode = format_of(format).decode
        self._file = sys.stdout.buffer
        self._newlines = 0
        self.written: int = 0
        self.damaged: int = 0

    def write(self, kept: Kept) -> None:
        """Write a message, or report its damage."""
        damage = kept.damage
        if damage is None:
            try:
                self._file.write(self._encode(kept.payload))
                self.written += 1
            except (FormatError, DecodeError) as error:
                damage = f"cannot be written: {error}"
        if damage is not None:
            self.damaged += 1
            say(f"{kept.what} {damage}")

    def _encode(self, payload: bytes) -> bytes:
        if self._format is not FormatName.bytes:
            return msgspec.json.encode(self._decode(payload)) + b"\n"
        if self._framing is not None:
            return self._framing.encode(payload)
        self._newlines += b"\n" in payload
        return payload + b"\n"

    def finish(self, quiet: bool) -> None:
        """Report how many messages were written."""
        self._file.flush()
        say(plural(self.written), quiet)
        if self._newlines:
            say(
                f"{self._newlines} of them contain newlines: use --framing length-prefixed to separate them",
                quiet,
            )

"""Arguments and options that several commands share: address, format, framing, secret, TLS."""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkbox import Address, Bytes, EventKind, Framing, Json, MsgPack, Raw
from linkbox.cli.broker import with_nats_url
from linkbox.cli.framings import CHECKSUMS, FRAMINGS, framing_named, framing_names
from linkbox.cli.status import WrongUse, say
from linkbox.core.backoff import ONE_TRY
from linkbox.operations.secrets import lookup_of

if TYPE_CHECKING:
    from ssl import SSLContext

FRAMING_HELP = (
    f"{FRAMINGS}. TEXT, START and END may have escapes such as \\r\\n and \\x02. "
    f"Checksums: {', '.join(CHECKSUMS)}."
)


REPORTED_AFTER = 1.0
"""Seconds that a client waits for a server in silence."""


class FormatName(enum.StrEnum):
    """The formats of the command line."""

    bytes = "bytes"
    json = "json"
    msgpack = "msgpack"


AddressArgument = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS",
        help="tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH or nats://HOST/NAME.",
        show_default=False,
        callback=with_nats_url,
    ),
]
FormatOption = Annotated[
    FormatName,
    typer.Option(
        "--format",
        "-f",
        help="Set the message format. json and msgpack read and write JSON, one message per line.",
    ),
]
FramingOption = Annotated[
    str,
    typer.Option(
        "--framing",
        "-F",
        metavar="FRAMING",
        autocompletion=framing_names,
        help=f"Set how messages are separated: {FRAMING_HELP} All but linked work with any socket.",
    ),
]
ConnectTimeoutOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", min=0.001, help="Give up after SECONDS without an answer from the server."
    ),
]
WaitOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0.0,
        help="Wait up to SECONDS for a server to appear. By default, fail at once when nobody listens.",
        show_default=False,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Write only errors to stderr.")]
NoNewlineOption = Annotated[
    bool,
    typer.Option(
        "--no-newline", "-n", help="Write no newline after a message of bytes (always so with raw)."
    ),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Listen unprotected at an address that other machines can reach.")
]

SecretOption = Annotated[
    Path | None,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        help="Read the secret that both sides must know from FILE. Default: LINKBOX_SECRET, if it is set.",
    ),
]

SpoolOption = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="PATH", help="Keep messages in this file until the server acknowledges them."
    ),
]
InboxOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="PATH",
        help="p2p, p2m: keep messages in this file until they are written to stdout.",
    ),
]

TlsCaOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        metavar="FILE",
        help="tls://: trust the authorities in FILE, not those of this machine. "
        "A server requires client certificates of these authorities.",
    ),
]
TlsCertOption = Annotated[
    Path | None,
    typer.Option("--tls-cert", metavar="FILE", help="tls://: use this certificate. A server needs one."),
]
TlsKeyOption = Annotated[
    Path | None,
    typer.Option("--tls-key", metavar="FILE", help="tls://: use this private key for --tls-cert."),
]


def context_of(
    address: str, ca: Path | None, cert: Path | None, key: Path | None, is_server: bool = False
) -> SSLContext | None:
    """The context for ``ssl=`` from the command line; None without TLS."""
    scheme = Address.parse(address, server=is_server).scheme
    if scheme not in ("tls", "nats+tls"):
        if ca or cert or key:
            raise WrongUse(f"--tls-ca, --tls-cert and --tls-key are for tls://, not for {address}")
        return None
    if (cert is None) is not (key is None):
        raise WrongUse("--tls-cert and --tls-key must be given together")
    from linkbox import tls

    try:
        if not is_server or scheme == "nats+tls":  # To a broker, a server is a client.
            return tls.client_context(ca, cert, key)
        if cert is None or key is None:
            raise WrongUse(f"{address} needs --tls-cert and --tls-key; `linkbox cert` makes them")
        return tls.server_context(cert, key, ca)
    except ValueError as error:
        raise WrongUse(str(error)) from error


def check_reach(address: str, insecure: bool) -> None:
    """Raise `WrongUse` for an address that other machines can reach, unless ``insecure``."""
    if not insecure and not Address.parse(address, server=True).is_local:
        raise WrongUse(
            f"{address} can be reached from other machines: listen at 127.0.0.1, or use --insecure if every "
            "machine that can reach it may use it"
        )


def connecting(framing: Framing, wait: float, timeout: float) -> dict[str, Any]:
    """The options of a client: with ``--wait`` it tries until then, otherwise once."""
    if wait:
        return {"connect_timeout": wait}
    return {"connect_timeout": timeout, "reconnect": ONE_TRY if framing.linked else None}


@contextmanager
def reporting_wait(client: Any, address: str, wait: float, quiet: bool) -> Iterator[None]:
    """Report after a second that the client is still waiting for a server."""
    text = f"waiting up to {wait:g} s for a server at {address}"
    timer = threading.Timer(REPORTED_AFTER, say, (text, quiet or not wait))
    timer.daemon = True
    client.add_callback(lambda event: timer.cancel(), EventKind.CONNECTED)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def secret_of(file: Path | None, framing: Framing) -> Path | str | None:
    """The secret from the file or the environment. It is never an argument: all users can read those."""
    secret = file if file is not None else os.environ.get("LINKBOX_SECRET")
    if secret is not None and not framing.linked:
        if file is None:
            return None  # The variable is meant for other commands.
        raise WrongUse("--secret-file needs --framing linked: a plain framing cannot prove a secret")
    if secret == "":
        # For example from a failed $(cat FILE). Without a secret the server would admit every client.
        raise WrongUse("LINKBOX_SECRET is empty: unset it, or set it to the secret")
    if secret is not None:
        try:
            lookup_of(secret)
        except ValueError as error:
            raise WrongUse(str(error)) from error
    return secret


def format_of(name: FormatName) -> Any:
    """Make the format of that name."""
    return {"bytes": Bytes, "json": Json, "msgpack": MsgPack}[name.value]()


def framing_of(text: str) -> Framing:
    """Make the framing from the value of ``--framing``, such as ``"length-prefixed:2,little"``."""
    try:
        return framing_named(text)
    except ValueError as error:
        raise WrongUse(f"--framing {text}: {error}") from error


def check_fits(framing: Framing, format: FormatName) -> None:
    """Raise `WrongUse` for a format that the framing cannot carry."""
    if isinstance(framing, Raw) and format is not FormatName.bytes:
        raise WrongUse(
            f"--framing raw has no message boundaries, which --format {format.value} needs: use lines"
        )

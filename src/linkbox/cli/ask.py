"""``linkbox ask``: send a request and write the response."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from linkbox import ClientAR, Framing
from linkbox.cli.broker import broker_of
from linkbox.cli.options import (
    AddressArgument,
    FormatName,
    FormatOption,
    FramingOption,
    NoNewlineOption,
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
from linkbox.cli.status import exit_status, say
from linkbox.cli.text import Output, lines_of, name_of, newline_of, open_input, parse, strip_newline

RequestArgument = Annotated[
    str,
    typer.Argument(
        metavar="TEXT|FILE|-",
        help="The request: the content of a file, or the text itself if there is no such file.",
    ),
]
TextOption = Annotated[
    bool, typer.Option("--text", help="Take the argument as text, even if a file has that name.")
]
LinesOption = Annotated[
    bool, typer.Option("--lines", help="Send each line as a request, in order, over one connection.")
]
ResponseTimeoutOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", min=0.001, help="Wait at most SECONDS for the connection and the response."
    ),
]


def ask(
    address: AddressArgument,
    what: RequestArgument = "-",
    format: FormatOption = FormatName.bytes,
    framing: FramingOption = "linked",
    text: TextOption = False,
    lines: LinesOption = False,
    timeout: ResponseTimeoutOption = 30.0,
    no_newline: NoNewlineOption = False,
    secret_file: SecretOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    quiet: QuietOption = False,
) -> None:
    """Send a request to an ar server and write its response to stdout."""
    with exit_status(quiet):
        wire = framing_of(framing)
        secret = secret_of(secret_file, wire)
        ssl = context_of(address, tls_ca, tls_cert, tls_key)
        output = Output(format, wire, no_newline)
        client = ClientAR[Any](
            address,
            format_of(format),
            framing=wire,
            keep_alive=lines,
            connect_timeout=timeout,
            ssl=ssl,
            secret=secret,
            broker=broker_of(address),
        )
        is_text = what != "-" and (text or not _is_file(what))
        with client:
            if not lines:
                question = _whole(what, is_text, format, wire, quiet)
                output.write(client.ask(question, timeout))
                output.flush()
                return
            if is_text:
                for number, line in enumerate(what.encode().splitlines(), 1):
                    output.write(client.ask(parse(line, format, f"line {number}"), timeout))
                return
            with open_input(what) as source:
                for question in lines_of(source, format, wire, name_of(what)):
                    output.write(client.ask(question, timeout))
                    output.flush()


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a file name, or contains a NUL
        return False


def _whole(what: str, is_text: bool, format: FormatName, framing: Framing, quiet: bool) -> Any:
    """The content of a single request."""
    if is_text:
        return parse(what.encode("utf-8", "surrogateescape"), format, repr(what))
    if what != "-":
        say(f"sending the content of the file {what}", quiet)
    with open_input(what) as source:
        content = source.read()
    if not framing.linked:  # Lines cannot carry a newline, and most devices do not expect one in a request
        content = strip_newline(content, newline_of(framing))
    return parse(content, format, name_of(what))

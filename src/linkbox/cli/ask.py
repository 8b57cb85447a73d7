"""``linkbox ask``: send a request and write the response."""

from __future__ import annotations

from collections.abc import Iterator
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
    WaitOption,
    connecting,
    context_of,
    format_of,
    framing_of,
    reporting_wait,
    secret_of,
)
from linkbox.cli.status import exit_status, say
from linkbox.cli.text import Output, lines_of, name_of, newline_of, open_input, parse, strip_newline

RequestArgument = Annotated[
    str,
    typer.Argument(
        metavar="TEXT|@FILE|-",
        help="The request: a text, @FILE for the content of a file, or - for stdin. A text that is the name "
        "of a file means that file, too.",
    ),
]
TextOption = Annotated[
    bool,
    typer.Option(
        "--text", help="Take the argument as text, even if a file has that name or it begins with @."
    ),
]
LinesOption = Annotated[
    bool, typer.Option("--lines", help="Send each line as a request, in order, over one connection.")
]
ResponseTimeoutOption = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0.001, help="Wait at most SECONDS for the response."),
]


def ask(
    address: AddressArgument,
    what: RequestArgument = "-",
    format: FormatOption = FormatName.bytes,
    framing: FramingOption = "linked",
    text: TextOption = False,
    lines: LinesOption = False,
    timeout: ResponseTimeoutOption = 30.0,
    wait: WaitOption = 0.0,
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
            ssl=ssl,
            secret=secret,
            broker=broker_of(address),
            **connecting(wire, wait, timeout),
        )
        is_text = what != "-" and (text or not (what.startswith("@") or _is_file(what)))
        if not is_text:
            what = what.removeprefix("@")
        with client, reporting_wait(client, address, wait, quiet):
            if not lines:
                questions = iter([_whole(what, is_text, format, wire, quiet)])
            elif is_text:
                texts = enumerate(what.encode("utf-8", "surrogateescape").splitlines(), 1)
                questions = (parse(line, format, f"line {number}") for number, line in texts)
            else:
                questions = _each_line(what, format, wire)
            for question in questions:
                output.write(client.ask(question, wait + timeout))
                output.flush()


def _each_line(what: str, format: FormatName, framing: Framing) -> Iterator[Any]:
    with open_input(what) as source:
        yield from lines_of(source, format, framing, name_of(what))


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

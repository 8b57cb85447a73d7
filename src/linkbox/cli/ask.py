"""``linkbox ask``: one ask, one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from linkbox import ClientAR, Framing
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


def ask(
    address: AddressArgument,
    what: Annotated[
        str,
        typer.Argument(
            metavar="TEXT|FILE|-",
            help="The ask: the file of that name, or else the text itself.",
        ),
    ] = "-",
    format: FormatOption = FormatName.bytes,
    framing: FramingOption = "linked",
    text: Annotated[bool, typer.Option("--text", help="It is the text, not a file.")] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="Each line is an ask; all go over one connection, in order.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="For the answer, the connection included.")
    ] = 30.0,
    no_newline: NoNewlineOption = False,
    secret_file: SecretOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    quiet: QuietOption = False,
) -> None:
    """Ask an ar server, and write its answer to stdout."""
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
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def _whole(what: str, is_text: bool, format: FormatName, framing: Framing, quiet: bool) -> Any:
    """The one ask there is."""
    if is_text:
        return parse(what.encode("utf-8", "surrogateescape"), format, repr(what))
    if what != "-":
        say(f"asking with the content of the file {what}", quiet)
    with open_input(what) as source:
        content = source.read()
    if not framing.linked:  # a newline at the end means the end to most, and Lines cannot carry it
        content = strip_newline(content, newline_of(framing))
    return parse(content, format, name_of(what))

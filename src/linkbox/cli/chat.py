"""``linkbox chat``: both ways at once, line by line."""

from __future__ import annotations

import sys
import threading
from typing import Annotated, Any

import typer

from linkbox import ClientP2P, Framing, LinkboxError, LinkError, ServerP2P
from linkbox.cli.listen import check_address
from linkbox.cli.options import (
    AddressArgument,
    FormatName,
    FormatOption,
    FramingOption,
    InsecureOption,
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
from linkbox.cli.status import WrongUse, exit_status, say
from linkbox.cli.text import Output, lines_of, raw_stdin


def chat(
    address: AddressArgument,
    format: FormatOption = FormatName.bytes,
    framing: FramingOption = "linked",
    listen: Annotated[bool, typer.Option("--listen", "-l", help="Be the server, for one peer.")] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="When stdin ends, go on listening until the other side ends.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="How long the server may take to be there.")
    ] = 10.0,
    insecure: InsecureOption = False,
    secret_file: SecretOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    quiet: QuietOption = False,
) -> None:
    """Talk with a p2p server: lines of stdin go out, what comes in goes to stdout.

    The end of stdin (Ctrl-D), on either side, ends the conversation: what was said before it still arrives.
    """
    with exit_status(quiet):
        wire = framing_of(framing)
        secret = secret_of(secret_file, wire)
        ssl = context_of(address, tls_ca, tls_cert, tls_key, listen)
        check_fits(wire, format)
        output = Output(format, wire)
        if listen:
            where = check_address(address, insecure, ssl, secret)
            server = ServerP2P[Any, Any](
                where, format_of(format), framing=wire, ssl=ssl, secret=secret, insecure=insecure
            )
            with server:
                say(f"listening at {server.address}", quiet)
                server.wait_connected()
                peer = server.peers()[0]
                say(f"{peer} is there", quiet)
                view = server.link(peer)
                Talker(view, format, wire, stay).run(output)
        else:
            client = ClientP2P[Any, Any](
                address, format_of(format), framing=wire, ssl=ssl, secret=secret, connect_timeout=timeout
            )
            with client:
                say(f"connected to {client.peers()[0] if client.peers() else address}", quiet)
                Talker(client, format, wire, stay).run(output)


class Talker:
    """stdin to a link, in a thread of its own, and the link to stdout."""

    def __init__(self, link: Any, format: FormatName, framing: Framing, stay: bool) -> None:
        self._link = link
        self._format = format
        self._framing = framing
        self._stay = stay
        self._error: Exception | None = None

    def run(self, output: Output) -> None:
        """Until both sides have ended, or the link is lost."""
        threading.Thread(target=self._talk, daemon=True).start()
        for message in self._link:
            output.write(message)
            output.flush()
        if self._error is not None:
            raise self._error

    def _talk(self) -> None:
        try:
            is_typed = sys.stdin.isatty()
            for message in lines_of(raw_stdin(), self._format, self._framing, "stdin", is_typed):
                self._link.send(message)
        except WrongUse as error:
            self._error = error
        except LinkboxError as error:
            # The end of the link is told by what the main thread reads; the rest has to be told here.
            if not isinstance(error, LinkError):
                self._error = error
        if self._stay and self._error is None:
            return
        try:
            self._link.end()
        except LinkboxError:
            pass  # It is over already.

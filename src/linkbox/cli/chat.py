"""``linkbox chat``: send and receive lines at the same time."""

from __future__ import annotations

import sys
import threading
from typing import Annotated, Any

import typer

from linkbox import ClientP2P, Framing, LinkboxError, LinkError, ServerP2P
from linkbox.cli.broker import broker_of
from linkbox.cli.listen import check_address
from linkbox.cli.options import (
    AddressArgument,
    ConnectTimeoutOption,
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
    listen: Annotated[bool, typer.Option("--listen", "-l", help="Run the server, for one peer.")] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="When stdin ends, keep receiving until the other side ends.")
    ] = False,
    timeout: ConnectTimeoutOption = 10.0,
    insecure: InsecureOption = False,
    secret_file: SecretOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    quiet: QuietOption = False,
) -> None:
    """Chat with a p2p server: send the lines of stdin, and write received messages to stdout.

    The end of stdin (Ctrl-D) on either side ends the conversation. All messages sent before still arrive.
    """
    with exit_status(quiet):
        wire = framing_of(framing)
        secret = secret_of(secret_file, wire)
        ssl = context_of(address, tls_ca, tls_cert, tls_key, listen)
        check_fits(wire, format)
        output = Output(format, wire)
        how: Any = {"framing": wire, "ssl": ssl, "secret": secret, "broker": broker_of(address)}
        if listen:
            where = check_address(address, insecure, ssl, secret)
            server = ServerP2P[Any, Any](where, format_of(format), insecure=insecure, **how)
            with server:
                say(f"listening at {server.address}", quiet)
                server.wait_connected()
                peer = server.peers()[0]
                say(f"{peer} connected", quiet)
                view = server.link(peer)
                Chat(view, format, wire, stay).run(output)
        else:
            client = ClientP2P[Any, Any](address, format_of(format), connect_timeout=timeout, **how)
            with client:
                say(f"connected to {client.peers()[0] if client.peers() else address}", quiet)
                Chat(client, format, wire, stay).run(output)


class Chat:
    """Sends stdin to the peer, in a background thread, and writes received messages to stdout."""

    def __init__(self, link: Any, format: FormatName, framing: Framing, stay: bool) -> None:
        self._link = link
        self._format = format
        self._framing = framing
        self._stay = stay
        self._error: Exception | None = None

    def run(self, output: Output) -> None:
        """Run until both sides have ended, or the connection is lost."""
        threading.Thread(target=self._send_stdin, daemon=True).start()
        for message in self._link:
            output.write(message)
            output.flush()
        if self._error is not None:
            raise self._error

    def _send_stdin(self) -> None:
        try:
            is_typed = sys.stdin.isatty()
            for message in lines_of(raw_stdin(), self._format, self._framing, "stdin", is_typed):
                self._link.send(message)
        except WrongUse as error:
            self._error = error
        except LinkboxError as error:
            # The main thread sees a lost connection itself; other errors are reported from here.
            if not isinstance(error, LinkError):
                self._error = error
        if self._stay and self._error is None:
            return
        try:
            self._link.end()
        except LinkboxError:
            pass  # It has already ended.

"""``linkbox chat``: send and receive lines at the same time."""

from __future__ import annotations

import sys
import threading
from typing import Annotated, Any, NamedTuple

import msgspec
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
from linkbox.cli.text import Output, lines_of, raw_stdin
from linkbox.text import printable


def chat(
    address: AddressArgument,
    format: FormatOption = FormatName.bytes,
    framing: FramingOption = "linked",
    listen: Annotated[bool, typer.Option("--listen", "-l", help="Run the server, for one peer.")] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="When stdin ends, keep receiving until the other side ends.")
    ] = False,
    timeout: ConnectTimeoutOption = 10.0,
    wait: WaitOption = 0.0,
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
        output = _output(format, wire, quiet)
        if listen and wait:
            raise WrongUse("--wait is for the client: --listen waits for a peer as long as it takes")
        options: dict[str, Any] = {
            "framing": wire,
            "ssl": ssl,
            "secret": secret,
            "broker": broker_of(address),
        }
        chosen = Chosen(format, wire, stay, quiet)
        if listen:
            where = check_address(address, insecure, ssl, secret)
            _chat_as_server(
                ServerP2P[Any, Any](where, format_of(format), insecure=insecure, **options), chosen, output
            )
            return
        client = ClientP2P[Any, Any](address, format_of(format), **options, **connecting(wire, wait, timeout))
        with reporting_wait(client, address, wait, quiet):
            client.start()
        with client:
            say(f"connected to {client.peers()[0] if client.peers() else address}", quiet)
            Chat(client, chosen).run(output)


class Chosen(NamedTuple):
    """The options of a chat."""

    format: FormatName
    framing: Framing
    stay: bool
    quiet: bool


def _chat_as_server(server: ServerP2P[Any, Any], chosen: Chosen, output: Output | Terminal) -> None:
    with server:
        say(f"listening at {server.address}", chosen.quiet)
        server.wait_connected()
        peer = server.peers()[0]
        say(f"{peer} connected", chosen.quiet)
        Chat(server.link(peer), chosen).run(output)


def _output(format: FormatName, framing: Framing, quiet: bool) -> Output | Terminal:
    """Where received messages are written."""
    if not sys.stdout.isatty():
        return Output(format, framing)
    say("received messages begin with <", quiet)
    return Terminal(format)


class Terminal:
    """Shows received messages so that they differ from what is typed, and cannot control the terminal."""

    def __init__(self, format: FormatName) -> None:
        self._is_bytes = format is FormatName.bytes

    def write(self, message: Any) -> None:
        """Show one message."""
        data: bytes = message if self._is_bytes else msgspec.json.encode(message)
        text = data.decode("utf-8", "backslashreplace")
        sys.stdout.write(f"< {printable(text, len(text))}\n")

    def flush(self) -> None:
        """Write the buffer."""
        sys.stdout.flush()


class Chat:
    """Sends stdin to the peer, in a background thread, and writes received messages to stdout."""

    def __init__(self, link: Any, chosen: Chosen) -> None:
        self._link = link
        self._format = chosen.format
        self._framing = chosen.framing
        self._stay = chosen.stay
        self._error: Exception | None = None

    def run(self, output: Output | Terminal) -> None:
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
        except (WrongUse, OSError) as error:  # stdin may be closed
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

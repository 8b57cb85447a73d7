"""The command ``linkbox doctor``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linkbox import Address, Framing
from linkbox.cli.doctor.report import Failed, Report
from linkbox.cli.options import (
    FormatName,
    FramingOption,
    SecretOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    context_of,
    framing_of,
    secret_of,
)
from linkbox.cli.status import WrongUse, exit_status
from linkbox.operations.secrets import lookup_of

if TYPE_CHECKING:
    from linkbox.cli.doctor.network import Way


class PatternName(enum.StrEnum):
    """The patterns, for the command line."""

    p2p = "p2p"
    p2m = "p2m"
    ar = "ar"


def doctor(
    address: Annotated[
        str, typer.Argument(metavar="[ADDRESS]", help="The address of a server.", show_default=False)
    ] = "",
    store: Annotated[
        Path | None, typer.Option("--store", metavar="FILE", help="Examine this store instead.")
    ] = None,
    pattern: Annotated[
        PatternName | None, typer.Option("--pattern", "-p", help="Expect a server for this pattern.")
    ] = None,
    format: Annotated[
        FormatName | None, typer.Option("--format", "-f", help="Expect a server with this format.")
    ] = None,
    framing: FramingOption = "linked",
    secret_file: SecretOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Wait SECONDS for each answer.")
    ] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write the report as JSON.")] = False,
) -> None:
    """Find out step by step why a client cannot use a server, and what to do.

    Exit status: 0 a client as described would work; 1 no connection (a store: damaged); 2 wrong use;
    3 no answer (a store: messages in doubt); 4 another protocol; 5 certificate; 6 another pattern, format or
    version; 7 secret; 8 rejected. The last step connects like a real client, and ends the conversation.
    """
    with exit_status():
        if bool(address) is (store is not None):
            raise WrongUse("give an address, or --store FILE")
        report = Report(as_json)
        verdict = f"{store} is intact" if store else f"a client as described can use {address}"
        try:
            if store is not None:
                from linkbox.cli.doctor.stored import diagnose_store  # It loads sqlite3.

                diagnose_store(report, store)
            else:
                from linkbox.cli.doctor.network import Way  # It loads ssl.

                if Address.parse(address).scheme == "nats":  # A module of its own would examine the broker.
                    raise WrongUse(
                        "linkbox doctor cannot examine a broker yet: give a tcp:// or tls:// address"
                    )
                context = context_of(address, tls_ca, tls_cert, tls_key)
                way = Way(report, Address.parse(address), context, timeout)
                _diagnose(way, framing_of(framing), secret_file, pattern, format)
        except Failed:
            pass
        report.finish(verdict)
        if report.status:
            raise typer.Exit(report.status)


def _diagnose(
    way: Way,
    framing: Framing,
    secret_file: Path | None,
    pattern: PatternName | None,
    format: FormatName | None,
) -> None:
    from linkbox.cli.doctor.speaking import diagnose_linked, diagnose_plain

    secret = secret_of(secret_file, framing)
    way.explore()
    if not framing.linked:
        diagnose_plain(way, framing.name)
        return
    lookup = None if secret is None else lookup_of(secret)[0]
    diagnose_linked(
        way, lookup, None if pattern is None else pattern.value, None if format is None else format.value
    )

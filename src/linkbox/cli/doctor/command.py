"""The command ``linkbox doctor``."""

from __future__ import annotations

import enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from linkbox import Address, Framing
from linkbox.broker import split_credentials
from linkbox.cli.broker import with_nats_url
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
from linkbox.extras import how_to_install
from linkbox.operations.secrets import lookup_of

if TYPE_CHECKING:
    from ssl import SSLContext


class PatternName(enum.StrEnum):
    """The patterns, for the command line."""

    p2p = "p2p"
    p2m = "p2m"
    ar = "ar"


ExaminedArgument = Annotated[
    str,
    typer.Argument(
        metavar="[ADDRESS]",
        help="The address of a server, or nats://HOST/NAME.",
        show_default=False,
        callback=with_nats_url,
    ),
]


def doctor(
    address: ExaminedArgument = "",
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
        float,
        typer.Option(metavar="SECONDS", min=0.1, max=86_400.0, help="Wait SECONDS for each answer."),
    ] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write the report as JSON.")] = False,
) -> None:
    """Find out step by step why a client cannot use a server, and what to do.

    Exit status: 0 a client as described would work; 1 no connection (a store: damaged); 2 wrong use;
    3 no answer (a store: messages in doubt); 4 another protocol; 5 certificate; 6 another pattern, format or
    version; 7 secret, or credentials for a broker; 8 rejected. The last step connects like a real client,
    and ends the conversation.
    """
    with exit_status():
        if bool(address) is (store is not None):
            raise WrongUse("give an address, or --store FILE")
        report = Report(as_json)
        bare = split_credentials(address, None)[0]
        try:
            if store is not None:
                from linkbox.cli.doctor.stored import diagnose_store  # It loads sqlite3.

                diagnose_store(report, store)
            else:
                context = context_of(bare, tls_ca, tls_cert, tls_key)
                wanted = Wanted(
                    framing_of(framing), secret_file, pattern and pattern.value, format and format.value
                )
                _diagnose(report, address, context, timeout, wanted)
        except Failed:
            pass
        report.finish(f"{store} is intact" if store else f"a client as described can use {bare}")
        if report.status:
            raise typer.Exit(report.status)


class Wanted(NamedTuple):
    """The client as described: what is None is found out."""

    framing: Framing
    secret_file: Path | None
    pattern: str | None
    format: str | None


def _diagnose(report: Report, given: str, context: SSLContext | None, timeout: float, wanted: Wanted) -> None:
    """``given`` may have credentials of a broker."""
    address = Address.parse(given)
    if address.is_broker:
        _diagnose_broker(report, given, context, timeout, wanted)
        return
    from linkbox.cli.doctor.network import Way  # It loads ssl.
    from linkbox.cli.doctor.speaking import diagnose_linked, diagnose_plain

    way = Way(report, address, context, timeout)
    secret = secret_of(wanted.secret_file, wanted.framing)
    way.explore()
    if not wanted.framing.linked:
        diagnose_plain(way, wanted.framing.name)
        return
    lookup = None if secret is None else lookup_of(secret)[0]
    diagnose_linked(way, lookup, wanted.pattern, wanted.format)


def _diagnose_broker(
    report: Report, given: str, context: SSLContext | None, timeout: float, wanted: Wanted
) -> None:
    if not wanted.framing.linked:
        raise WrongUse("a plain framing speaks to a socket: over nats:// there is only --framing linked")
    if find_spec("nats") is None:
        raise WrongUse(f"{Address.parse(given)} needs nats-py: {how_to_install('cli,nats')}")
    from linkbox.cli.doctor.broker import diagnose_broker  # It loads ssl and nats-py.

    if wanted.secret_file is not None:
        report.note("secret", "not tried: over a broker only P2P has one, between client and server")
    diagnose_broker(report, given, context, timeout, wanted.pattern, wanted.format)

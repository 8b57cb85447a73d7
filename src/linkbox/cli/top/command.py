"""The command ``linkbox top``."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import msgspec
import typer

from linkbox.cli.status import WrongUse, exit_status, say
from linkbox.extras import how_to_install
from linkbox.monitor import Reader

NEEDED = f"linkbox top needs {{}}: {how_to_install('cli,top')}"


def top(
    address: Annotated[
        str,
        typer.Argument(
            metavar="[HOST:PORT]", help="With --web: where to serve the page.", show_default="127.0.0.1:8080"
        ),
    ] = "",
    web: Annotated[bool, typer.Option("--web", help="Show a live page in the browser.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Write all numbers once, as JSON, after one interval.")
    ] = False,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Read the numbers every SECONDS.")
    ] = 1.0,
) -> None:
    """Show what all endpoints of your monitored programs do, live.

    A program is monitored if it is started with LINKBOX_MONITOR=1, or calls linkbox.monitor.start(). Keys:
    s sorts by the next column, r reverses, / filters, Enter opens an endpoint, p pauses, q quits.
    """
    with exit_status():
        if address and not web:
            raise WrongUse("an address is for --web: linkbox top --web 127.0.0.1:8080")
        if json and web:
            raise WrongUse("--json and --web cannot be combined")
        reader = Reader()
        try:
            if json:
                _write_json(reader, interval)
            elif web:
                _serve(reader, address or "127.0.0.1:8080", interval)
            else:
                _show(reader, interval)
        finally:
            reader.close()


def _write_json(reader: Reader, interval: float) -> None:
    reader.rows()
    time.sleep(interval)  # Rates need two readings.
    rows, failed = reader.rows()
    found = msgspec.json.encode({"endpoints": rows, "failed": failed})
    sys.stdout.write(msgspec.json.format(found).decode() + "\n")


def _show(reader: Reader, interval: float) -> None:
    if not sys.stdout.isatty():
        raise WrongUse("stdout is no terminal: use --json")
    try:
        from linkbox.cli.top.screen import Top
    except ModuleNotFoundError as error:
        raise WrongUse(NEEDED.format(error.name)) from error
    Top(reader.rows, interval).run()


def _serve(reader: Reader, address: str, interval: float) -> None:
    try:
        from linkbox.cli.top.web import serve
    except ModuleNotFoundError as error:
        raise WrongUse(NEEDED.format(error.name)) from error
    serve(reader, address, interval, say)

"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

import linkbox
from linkbox.cli.ask import ask
from linkbox.cli.cert import cert
from linkbox.cli.chat import chat
from linkbox.cli.demo.command import demo
from linkbox.cli.listen import listen
from linkbox.cli.proxy import proxy
from linkbox.cli.send import send
from linkbox.cli.spool import spool

app = typer.Typer(
    help="Programs and devices talking over TCP. stdout is data, stderr is talk; "
    "the exit status is 0 when all is fine, 1 when the link failed, 2 for wrong use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"linkbox {linkbox.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    pass


for command in (demo, listen, send, ask, chat, proxy):
    app.command()(command)
app.add_typer(spool, name="spool")
app.add_typer(cert, name="cert")

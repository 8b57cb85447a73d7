"""The complete command line."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

import linkbox
from linkbox.cli.ask import ask
from linkbox.cli.broker import nats_config
from linkbox.cli.cert import cert
from linkbox.cli.chat import chat
from linkbox.cli.demo.command import demo
from linkbox.cli.doctor.command import doctor
from linkbox.cli.listen import listen
from linkbox.cli.proxy import proxy
from linkbox.cli.record import record
from linkbox.cli.replay import replay
from linkbox.cli.send import send
from linkbox.cli.spool import spool
from linkbox.cli.top.command import top

app: typer.Typer = typer.Typer(
    help="Exchange messages with programs and devices over TCP. stdout carries data, stderr everything else. "
    "Exit status: 0 success, 1 the connection failed, 2 wrong use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _paragraphs(docstring: str) -> str:
    """The help of a command: each paragraph on one line, so that it is wrapped where the terminal ends."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"linkbox {linkbox.__version__} ({'compiled' if linkbox.compiled else 'pure Python'})")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show version and build."),
    ] = False,
) -> None:
    pass


for _command in (demo, listen, send, ask, chat, proxy, record, replay, top, doctor, nats_config):
    app.command()(_command)
app.add_typer(spool, name="spool")
app.add_typer(cert, name="cert")
for _each in (app, spool, cert):
    for _info in _each.registered_commands:
        _info.help = _paragraphs(_info.callback.__doc__ or "")

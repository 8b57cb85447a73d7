"""The command itself."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console

from linkbox.cli.demo.ar import Answers
from linkbox.cli.demo.device import Instruments
from linkbox.cli.demo.p2m import Metrics
from linkbox.cli.demo.p2p import Conversation
from linkbox.cli.demo.part import Check, Part
from linkbox.cli.demo.view import summary, watch
from linkbox.cli.options import QuietOption
from linkbox.cli.status import LINK_FAILED, exit_status


def demo(
    seconds: Annotated[float, typer.Option(min=0.5, max=3600, help="How long to go on.")] = 9.0,
    quiet: QuietOption = False,
) -> None:
    """See it work: all patterns between processes of this machine, live, and checked at the end.

    The exit status is 0 only if everything that was sent has arrived, equal and in order.
    """
    with exit_status(quiet=True):
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=120)
        began = monotonic()
        checks = perform((Metrics(), Conversation(), Answers(), Instruments()), console, seconds, quiet)
        summary(console, checks, monotonic() - began)
        if not all(check.is_fine for check in checks):
            raise typer.Exit(LINK_FAILED)


def perform(parts: Sequence[Part], console: Console, seconds: float, is_quiet: bool) -> list[Check]:
    """Start the parts, show them while they work, and compare what was sent with what arrived."""
    try:
        for part in parts:
            part.start(seconds)
        watch(console, parts, seconds, is_quiet)
        return [check for part in parts for check in part.finish()]
    finally:
        for part in parts:
            part.close()

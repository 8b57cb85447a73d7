"""The command ``linkbox demo``."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console

from linkbox.cli.demo.ar import Answers
from linkbox.cli.demo.crash import Crash
from linkbox.cli.demo.device import Instruments
from linkbox.cli.demo.p2m import Metrics
from linkbox.cli.demo.p2p import Conversation
from linkbox.cli.demo.part import Check, Part
from linkbox.cli.demo.view import summary, watch
from linkbox.cli.options import QuietOption
from linkbox.cli.status import LINK_FAILED, exit_status


def demo(
    seconds: Annotated[float, typer.Option(min=0.5, max=3600, help="Run for that many seconds.")] = 9.0,
    quiet: QuietOption = False,
) -> None:
    """Run all patterns between processes of this machine, show them live, and check the result.

    Meanwhile one connection is cut and one process is killed. The exit status is 0 only if every message
    has arrived unchanged, in order and once.
    """
    with exit_status(quiet=True):
        console = Console(highlight=False)
        began = monotonic()
        parts = (Metrics(), Crash(), Conversation(), Answers(), Instruments())
        checks = perform(parts, console, seconds, quiet)
        summary(console, checks, monotonic() - began)
        if not all(check.is_fine for check in checks):
            raise typer.Exit(LINK_FAILED)


def perform(parts: Sequence[Part], console: Console, seconds: float, is_quiet: bool) -> list[Check]:
    """Start the parts, show them while they run, and compare the messages sent and received."""
    try:
        for part in parts:
            part.start(seconds)
        watch(console, parts, seconds, is_quiet)
        return [check for part in parts for check in part.finish()]
    finally:
        for part in parts:
            part.close()

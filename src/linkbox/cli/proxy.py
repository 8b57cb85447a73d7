"""``linkbox proxy``: simulate a bad network between two programs."""

from __future__ import annotations

import re
import threading
from typing import Annotated

import typer

from linkbox.cli.options import QuietOption
from linkbox.cli.status import FINE, WrongUse, exit_status, say
from linkbox.testing import FaultyProxy

_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "k": 1e3, "m": 1e6, "g": 1e9}


def seconds(text: str) -> float:
    """``50ms``, ``0.5s`` or ``2``."""
    return _number(text, ("", "s", "ms", "us"), "a time like 50ms or 0.5s")


def size(text: str) -> float:
    """``1000``, ``64k`` or ``1.5M``, in bytes."""
    return _number(text, ("", "k", "m", "g"), "a number of bytes like 1000, 64k or 1.5M")


def _number(text: str, units: tuple[str, ...], what: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([a-zA-Z]*)", text.strip())
    if match is None or match[2].lower() not in units:
        raise typer.BadParameter(f"{text!r} is not {what}")
    return float(match[1]) * _UNITS[match[2].lower()]


def proxy(
    listen: Annotated[str, typer.Argument(help="The address for clients, such as tcp://127.0.0.1:9100.")],
    target: Annotated[str, typer.Argument(help="The address of the server to forward to.")],
    latency: Annotated[float, typer.Option(parser=seconds, metavar="TIME", help="Delay all bytes.")] = "0",  # type: ignore[assignment]
    jitter: Annotated[
        float, typer.Option(parser=seconds, metavar="TIME", help="Add a random delay of up to TIME.")
    ] = "0",  # type: ignore[assignment]
    bandwidth: Annotated[
        float | None,
        typer.Option(parser=size, metavar="SIZE", help="Limit each direction to SIZE bytes per second."),
    ] = None,
    slice: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="Write at most BYTES at a time.")
    ] = None,
    cut_after: Annotated[
        int | None, typer.Option(min=0, metavar="BYTES", help="Reset each connection after BYTES.")
    ] = None,
    black_hole: Annotated[bool, typer.Option("--black-hole", help="Discard all bytes.")] = False,
    eat_acks: Annotated[bool, typer.Option("--eat-acks", help="Discard acknowledgements.")] = False,
    seed: Annotated[int | None, typer.Option(help="Make the jitter reproducible.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Forward connections to TARGET and simulate the faults of a bad network. Stop with Ctrl-C."""
    with exit_status(quiet, interrupted=FINE):
        try:
            between = FaultyProxy(
                target,
                listen,
                seed=seed,
                latency=latency,
                jitter=jitter,
                bandwidth=bandwidth,
                slice=slice,
                cut_after=cut_after,
                black_hole=black_hole,
                eat_acks=eat_acks,
            ).start()
        except (OSError, ValueError) as error:
            raise WrongUse(str(error)) from error
        say(f"forwarding {between.address} to {target}", quiet)
        try:
            threading.Event().wait()
        finally:
            between.stop()
            passed = between.passed
            say(f"{between.connections} connections, {passed['up']} bytes up, {passed['down']} down", quiet)

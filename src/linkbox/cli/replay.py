"""``linkbox replay``: act as the device of a recording, or as its client."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from linkbox import DecodeError
from linkbox.cli.framings import framing_names
from linkbox.cli.keeping import end_with, plural
from linkbox.cli.options import FRAMING_HELP, InsecureOption, QuietOption, check_reach, framing_of
from linkbox.cli.status import FINE, WrongUse, exit_status, say
from linkbox.testing import Recording
from linkbox.testing._serve import Replay
from linkbox.testing._steps import shown

MOST_SHOWN = 20
"""Differences that are shown, at most."""


ReplayedArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A recording, made by `linkbox record`.", show_default=False)
]
WhereArgument = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS",
        help="Where to listen as the device. With --connect: the server to connect to.",
        show_default=False,
    ),
]
ConnectOption = Annotated[
    bool, typer.Option("--connect", "-c", help="Act as the client: send what was sent to the device.")
]
SpeedOption = Annotated[
    float,
    typer.Option(metavar="FACTOR", help="Replay FACTOR times as fast as recorded; inf: without pauses."),
]
ByTimeOption = Annotated[
    bool, typer.Option("--by-time", help="Send at the recorded times, whatever the other side sends.")
]
LoopOption = Annotated[
    bool,
    typer.Option("--loop", help="Begin again at the end: a stream that needs no requests, or the client."),
]
OnceOption = Annotated[
    bool,
    typer.Option(
        "--once",
        help="Exit when as many connections as recorded are closed, with status 1 if something differed.",
    ),
]
ReplayFramingOption = Annotated[
    str | None,
    typer.Option(
        "--framing",
        "-F",
        metavar="FRAMING",
        autocompletion=framing_names,
        help="Set how requests and responses are separated. Default: what arrives at a time is one. "
        f"{FRAMING_HELP}",
    ),
]
TransactionOption = Annotated[
    str | None,
    typer.Option(
        metavar="START:END",
        help="Let these bytes of a request differ, and copy them into its response; 0:2 for Modbus TCP.",
        show_default=False,
    ),
]
PatienceOption = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0.001, help="--connect: wait at most SECONDS for a response."),
]


def replay(
    file: ReplayedArgument,
    address: WhereArgument,
    connect: ConnectOption = False,
    speed: SpeedOption = 1.0,
    by_time: ByTimeOption = False,
    loop: LoopOption = False,
    once: OnceOption = False,
    framing: ReplayFramingOption = None,
    transaction: TransactionOption = None,
    timeout: PatienceOption = 5.0,
    insecure: InsecureOption = False,
    quiet: QuietOption = False,
) -> None:
    """Act as the device of a recording, or with --connect as its client, and report what differs.

    As the device, it sends the recorded response to each recorded request, in any order, and reports requests
    that were not recorded. Ctrl-C ends it. As the client, it sends the recorded requests, compares the
    responses, and exits with status 1 if one differs.
    """
    with exit_status(quiet, interrupted=FINE):
        if connect and (once or transaction):
            raise WrongUse("--once and --transaction are for the device, --connect is for the client")
        wire = None if framing is None else framing_of(framing)
        recording = _load(file)
        try:
            if connect:
                act = functools.partial(
                    recording.play, address, framing=wire, speed=speed, by_time=by_time, timeout=timeout
                )
                end_with(_act_as_client(act, loop, quiet))
                return
            check_reach(address, insecure)
            device = recording.serve(
                address,
                framing=wire,
                transaction=None if transaction is None else _positions(transaction),
                speed=speed,
                by_time=by_time,
                loop=loop,
            )
        except ValueError as error:
            raise WrongUse(str(error)) from error
        end_with(_act_as_device(device, once, quiet))


def _load(file: Path) -> Recording:
    try:
        recording = Recording(file)
    except DecodeError as error:
        raise WrongUse(str(error)) from error
    for number in recording.left_out:
        say(f"{file}, line {number}: the line is not complete and is left out")
    return recording


def _positions(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if match is None:
        raise WrongUse(f"--transaction {text}: two positions are needed, such as 0:2")
    return int(match[1]), int(match[2])


def _act_as_client(play: Callable[[], list[str]], loop: bool, quiet: bool) -> bool:
    """Returns whether everything was as recorded."""
    while True:
        differences = play()
        for text in differences[:MOST_SHOWN]:
            say(text)
        more = len(differences) - MOST_SHOWN
        if more > 0:
            say(f"{plural(more, 'more difference')}")
        if not differences:
            say("everything as recorded", quiet)
        if not loop:
            return not differences


def _act_as_device(device: Replay, once: bool, quiet: bool) -> bool:
    """Returns whether everything was as recorded. Ctrl-C is an exception, after the report."""
    device.on_unknown = lambda request: say(f"request {shown(request)} was not recorded")
    device.start()
    try:
        say(f"listening at {device.address}", quiet)
        (device.finished if once else threading.Event()).wait()
    finally:
        device.stop()
        unused = device.unused()
        for text in unused[:MOST_SHOWN]:
            say(text, quiet)
        if len(unused) > MOST_SHOWN:
            say(f"{len(unused) - MOST_SHOWN} more were not sent", quiet)
        if not unused and not device.unknown:
            say("everything as recorded", quiet)
    return not unused and not device.unknown

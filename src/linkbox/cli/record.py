"""``linkbox record``: write what passes between programs and a device to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkbox import DecodeError
from linkbox.cli.keeping import plural
from linkbox.cli.options import InsecureOption, QuietOption, check_reach
from linkbox.cli.status import FINE, WrongUse, exit_status, say
from linkbox.testing._recorder import Recorder
from linkbox.testing.recording import RecordingWriter

FileArgument = Annotated[
    str,
    typer.Argument(metavar="FILE|-", help="The recording; - is stdout. An existing one is appended to."),
]


def record(
    listen: Annotated[
        str, typer.Argument(metavar="LISTEN", help="The address for clients, such as tcp://127.0.0.1:9100.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET|-", help="The address of the server or device to forward to; - only receives."
        ),
    ],
    file: FileArgument,
    insecure: InsecureOption = False,
    quiet: QuietOption = False,
) -> None:
    """Forward connections to TARGET, and write what passes to FILE. Stop with Ctrl-C.

    `linkbox replay` then acts as the device, or as the client. The file has one JSON object a line. TLS
    cannot be recorded: the bytes would be encrypted.
    """
    with exit_status(quiet, interrupted=FINE):
        check_reach(listen, insecure)
        path = None if file == "-" else Path(file)
        try:
            writer = RecordingWriter(path, listen, target)
        except DecodeError as error:
            raise WrongUse(f"{error}; choose another file, it is not overwritten") from error
        try:
            recorder = Recorder(listen, None if target == "-" else target, writer)
            recorder.on_unreachable = lambda error: say(str(error))
            before = writer.connections
            recorder.start()
            more = f", appending to {plural(before, 'connection')}" if before else ""
            where = "receiving only" if target == "-" else f"forwarding to {target}"
            say(f"listening at {recorder.address}, {where}{more}", quiet)
            try:
                recorder.wait()
            finally:
                recorder.stop()
                passed = recorder.passed
                say(
                    f"{plural(recorder.connections, 'connection')}, {passed['client']} bytes from clients, "
                    f"{passed['server']} from the server, in {path or 'stdout'}",
                    quiet,
                )
        finally:
            writer.close()

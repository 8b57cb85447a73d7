"""The ``linkbox`` command: send, listen, ask and chat from a shell, and a demo. Needs the extra ``cli``.

- ``app``: the complete command. ``options``: options that several commands share.
- ``listen``, ``send``, ``ask``, ``chat``, ``record``, ``replay``, ``proxy``, ``cert``: one command each.
- ``framings``: the framings by name, for ``--framing``.
- ``spool``: shows, sends and exports a store. ``keeping``: ``--store`` of the other commands.
- ``hints``: the hints in errors, as a shell can follow them.
- ``text``: messages on stdin and stdout. ``status``: messages on stderr, and the exit status.
- ``demo``: runs all patterns between processes and checks the results.

stdout carries data, stderr everything else. Exit status: 0 success, 1 the connection failed, 2 wrong use.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from linkbox.extras import how_to_install

_NEEDED = ("typer", "rich", "psutil")


def main() -> NoReturn:
    """Run the command line in ``sys.argv`` and exit."""
    _fill_standard_streams()
    try:
        from linkbox.cli.app import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _NEEDED:
            raise
        _exit(f"the command line needs {missing}: {how_to_install('cli')}")
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        try:
            app(prog_name="linkbox")
        finally:
            sys.stdout.flush()  # An error at the end of the interpreter could not be reported.
    except OSError as error:  # the help and the version: commands report their own errors
        from linkbox.cli.status import closed_stream, forget_stdout

        forget_stdout()
        _exit(closed_stream(error) or str(error))
    sys.exit(0)  # pragma: no cover  (app() has exited)


def _exit(text: str) -> NoReturn:
    try:
        sys.stderr.write(f"linkbox: {text}\n")
        sys.stderr.flush()
    except OSError:
        pass  # stderr is closed; that is no reason for a traceback
    sys.exit(2)


def _fill_standard_streams() -> None:
    """Put something in the place of standard streams that are closed, as by ``<&-``.

    Otherwise the first socket would get the number 0, 1 or 2, and be taken for one of them. What is put there
    cannot be read or written: a command that needs it reports that, and another one works.
    """
    for number, name, flags, mode in (
        (0, "stdin", os.O_WRONLY, "r"),
        (1, "stdout", os.O_RDONLY, "w"),
        (2, "stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                descriptor = os.open(os.devnull, flags)
                if descriptor != number:
                    os.dup2(descriptor, number)
                    os.close(descriptor)
            stream = open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)

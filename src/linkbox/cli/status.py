"""Messages on stderr, and the exit status of a command."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from linkbox import AddressError, FormatError, LinkboxError, TooLarge
from linkbox.cli.hints import for_shell
from linkbox.text import LONGEST_MESSAGE, printable

FINE, LINK_FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


class WrongUse(Exception):
    """The command line is wrong, or its options contradict each other."""


def say(text: str, quiet: bool = False) -> None:
    """Write one line to stderr. Text from a peer may be part of it, so control characters are escaped."""
    if not quiet:
        try:
            # One call, so that lines of several processes do not mix.
            sys.stderr.write(f"linkbox: {printable(text, LONGEST_MESSAGE)}\n")
            sys.stderr.flush()
        except OSError:
            pass  # stderr is closed; that is no reason to stop.


class _StderrHandler(logging.Handler):
    """Writes log records of the library to stderr, one line each, without tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        say(for_shell(record.getMessage().removeprefix("linkbox: ")))


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def exit_status(quiet: bool = False, interrupted: int = INTERRUPTED) -> Iterator[None]:
    """Turn an exception of the body into an exit status and a message on stderr.

    ``interrupted`` is the status after Ctrl-C or SIGTERM.
    """
    log = logging.getLogger("linkbox")
    handler = _StderrHandler(logging.CRITICAL if quiet else logging.WARNING)
    log.addHandler(handler)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
        sys.stdout.flush()
    except WrongUse as error:
        say(str(error))
        raise typer.Exit(WRONG_USE) from error
    except (AddressError, FormatError, TooLarge) as error:
        say(for_shell(str(error)))
        raise typer.Exit(WRONG_USE) from error
    except LinkboxError as error:
        say(for_shell(str(error)) or type(error).__name__)
        raise typer.Exit(LINK_FAILED) from error
    except BrokenPipeError as error:
        forget_stdout()
        raise typer.Exit(FINE) from error
    except OSError as error:  # a file that cannot be read or written
        forget_stdout()
        say(_why(error))
        raise typer.Exit(WRONG_USE) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(interrupted) from error
    finally:
        signal.signal(signal.SIGTERM, before)
        log.removeHandler(handler)


def _why(error: OSError) -> str:
    """What failed, for a person."""
    if error.filename:
        return f"{error.filename}: {error.strerror}"
    return closed_stream(error) or (error.strerror or str(error))


def closed_stream(error: OSError) -> str | None:
    """The text of the error of a standard stream that is closed, as by ``>&-``; None for another error."""
    return "stdin or stdout is closed, and is needed here" if error.errno == errno.EBADF else None


def forget_stdout() -> None:
    """Discard the rest of the buffer of stdout, if it cannot be written: its reader may be gone."""
    try:
        sys.stdout.flush()
        return
    except OSError:
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

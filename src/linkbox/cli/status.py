"""How a command ends, and what it says on stderr."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from linkbox import AddressError, FormatError, LinkboxError, TooLarge

FINE, LINK_FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


class WrongUse(Exception):
    """The command line asks for what cannot be."""


def say(text: str, quiet: bool = False) -> None:
    """Talk on stderr."""
    if not quiet:
        try:
            sys.stderr.write(f"linkbox: {text}\n")  # in one piece, also beside the stdout of others
            sys.stderr.flush()
        except OSError:
            pass  # Nobody listens; that is no reason to stop.


class _TalkHandler(logging.Handler):
    """The library's log, one line each: tracebacks are for programmers."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage().removeprefix("linkbox: "))


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def exit_status(quiet: bool = False, interrupted: int = INTERRUPTED) -> Iterator[None]:
    """Turn whatever ends the body into an exit status, and say why on stderr.

    ``interrupted`` is the status after Ctrl-C or SIGTERM.
    """
    log = logging.getLogger("linkbox")
    handler = _TalkHandler(logging.CRITICAL if quiet else logging.WARNING)
    log.addHandler(handler)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
        sys.stdout.flush()
    except (WrongUse, AddressError, FormatError, TooLarge) as error:
        say(str(error))
        raise typer.Exit(WRONG_USE) from error
    except LinkboxError as error:
        say(str(error) or type(error).__name__)
        raise typer.Exit(LINK_FAILED) from error
    except BrokenPipeError as error:
        _forget_stdout()
        raise typer.Exit(FINE) from error
    except OSError as error:  # a file that cannot be read or written
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        raise typer.Exit(WRONG_USE) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(interrupted) from error
    finally:
        signal.signal(signal.SIGTERM, before)
        log.removeHandler(handler)


def _forget_stdout() -> None:
    """Whoever read our stdout has had enough: what is left in its buffer goes nowhere, silently."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

"""Who answers the asks of ``linkbox listen ar``: stdin, an echo, or a command."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, Protocol

import msgspec

from linkbox import Framing, LinkboxError, Request
from linkbox.cli.options import FormatName
from linkbox.cli.status import WrongUse, say
from linkbox.cli.text import lines_of, parse, raw_stdin, strip_newline

WORKERS = 8
"""Commands that run at a time."""


class Answering(Protocol):
    """Answers asks."""

    def answer(self, request: Request[Any]) -> bool:
        """Answer, now or later. False: nothing can be answered any more."""
        ...

    def finish(self) -> None:
        """Wait for the answers that are not given yet."""
        ...


def answering_with(
    is_ar: bool, echo: bool, command: str | None, format: FormatName, framing: Framing
) -> Answering | None:
    """What the options say; None for the patterns without answers."""
    if not is_ar:
        if echo or command is not None:
            raise WrongUse("--echo and --exec are for ar: p2p and p2m have no answers")
        return None
    if echo and command is not None:
        raise WrongUse("--echo or --exec, not both")
    if echo:
        return Echo()
    if command is not None:
        return Command(command, format)
    return Stdin(lines_of(raw_stdin(), format, framing, "stdin", is_patient=True))


class Echo:
    """The answer is the ask."""

    def answer(self, request: Request[Any]) -> bool:
        try:
            request.answer(request.data)
        except LinkboxError as error:  # several messages that no answer can hold
            request.fail(str(error))
        return True

    def finish(self) -> None:
        """Nothing is left."""


class Stdin:
    """The answer is the next line of stdin."""

    def __init__(self, lines: Iterator[Any]) -> None:
        self._lines = lines

    def answer(self, request: Request[Any]) -> bool:
        try:
            answer = next(self._lines)
        except StopIteration:
            request.fail("there are no more answers")
            say("no more answers on stdin")
            return False
        request.answer(answer)
        return True

    def finish(self) -> None:
        """Nothing is left."""


class Command:
    """The answer is what a command writes to stdout, less the newline at its end."""

    def __init__(self, text: str, format: FormatName) -> None:
        try:
            self._command = shlex.split(text)
        except ValueError as error:
            raise WrongUse(f"--exec {text}: {error}") from error
        if not self._command or shutil.which(self._command[0]) is None:
            raise WrongUse(f"--exec {text!r}: there is no such command")
        self._format = format
        self._pool = ThreadPoolExecutor(WORKERS)

    def answer(self, request: Request[Any]) -> bool:
        self._pool.submit(self._work, request)
        return True

    def finish(self) -> None:
        self._pool.shutdown(wait=True)

    def _work(self, request: Request[Any]) -> None:
        try:
            request.answer(self._run(request))
        except (LinkboxError, WrongUse, OSError) as error:
            request.fail(str(error))
        except subprocess.TimeoutExpired:
            request.fail(f"{self._command[0]} takes longer than the asker waits")

    def _run(self, request: Request[Any]) -> Any:
        data, deadline = request.data, request.deadline
        is_bytes = self._format is FormatName.bytes
        done = subprocess.run(
            self._command,
            input=data if is_bytes else msgspec.json.encode(data) + b"\n",
            stdout=subprocess.PIPE,
            timeout=None if deadline is None else max(0.0, deadline - monotonic()),
            check=False,
        )
        if done.returncode:
            raise OSError(f"{self._command[0]} ended with status {done.returncode}")
        text = strip_newline(done.stdout, b"\n")
        return parse(text, self._format, f"the output of {self._command[0]}")

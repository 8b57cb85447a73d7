"""Sources of the responses of ``linkbox listen ar``: stdin, an echo, or a command."""

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
"""Commands that run at the same time, at most."""


class Answering(Protocol):
    """Responds to requests."""

    def answer(self, request: Request[Any]) -> bool:
        """Respond, now or later. Returns False if no further request can be answered."""
        ...

    def finish(self) -> None:
        """Wait for outstanding responses."""
        ...


def answering_with(
    is_ar: bool, echo: bool, command: str | None, format: FormatName, framing: Framing
) -> Answering | None:
    """The source that the options select; None for the patterns without responses."""
    if not is_ar:
        if echo or command is not None:
            raise WrongUse("--echo and --exec are for ar: p2p and p2m have no responses")
        return None
    if echo and command is not None:
        raise WrongUse("--echo and --exec cannot be combined")
    if echo:
        return Echo()
    if command is not None:
        return Command(command, format)
    return Stdin(lines_of(raw_stdin(), format, framing, "stdin", is_patient=True))


class Echo:
    """The response is the request itself."""

    def answer(self, request: Request[Any]) -> bool:
        try:
            request.answer(request.data)
        except LinkboxError as error:  # a request of several messages does not fit into one response
            request.fail(str(error))
        return True

    def finish(self) -> None:
        """Nothing is outstanding."""


class Stdin:
    """The response is the next line of stdin."""

    def __init__(self, lines: Iterator[Any]) -> None:
        self._lines = lines

    def answer(self, request: Request[Any]) -> bool:
        try:
            answer = next(self._lines)
        except StopIteration:
            request.fail("the server has no more responses")
            say("no more responses on stdin: stopping")
            return False
        request.answer(answer)
        return True

    def finish(self) -> None:
        """Nothing is outstanding."""


class Command:
    """The response is the stdout of a command, without the newline at its end."""

    def __init__(self, text: str, format: FormatName) -> None:
        try:
            self._command = shlex.split(text)
        except ValueError as error:
            raise WrongUse(f"--exec {text}: {error}") from error
        if not self._command or shutil.which(self._command[0]) is None:
            raise WrongUse(f"--exec {text!r}: command not found")
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
            request.fail(f"{self._command[0]} did not finish before the deadline of the request")

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
            raise OSError(f"{self._command[0]} exited with status {done.returncode}")
        text = strip_newline(done.stdout, b"\n")
        return parse(text, self._format, f"the output of {self._command[0]}")

"""The report of ``linkbox doctor``: one line for each step, and how it ends."""

from __future__ import annotations

import enum
import sys

import msgspec

from linkbox.text import LONGEST_MESSAGE, printable


class Status(enum.IntEnum):
    """The exit status of ``linkbox doctor``."""

    FINE = 0
    """A client as described would work."""
    UNREACHABLE = 1
    """No connection: the name, the network, a firewall, or no program listens. A store: damaged."""
    WRONG_USE = 2
    SILENT = 3
    """A connection, but no answer. A store: something in it needs a decision."""
    OTHER_PROTOCOL = 4
    """It is another protocol: HTTP, a text protocol, TLS or no TLS, a plain framing."""
    CERTIFICATE = 5
    """The certificate of the server, or of the client, is not accepted."""
    MISMATCH = 6
    """A linkbox server for another pattern, format or version."""
    SECRET = 7
    """The secret is missing, or wrong."""
    REJECTED = 8
    """The server admits no further client now, or not this one."""


class Step(msgspec.Struct):
    """One line."""

    mark: str
    """``ok``, ``note`` or ``failed``."""
    name: str
    text: str


class Failed(Exception):
    """The diagnosis is complete: a client would not work."""


class Report:
    """Collects the steps, and shows each at once."""

    def __init__(self, is_json: bool) -> None:
        self.steps: list[Step] = []
        self.advice: str = ""
        self.status: Status = Status.FINE
        self._is_json = is_json

    def ok(self, name: str, text: str) -> None:
        """A step has succeeded."""
        self._add("ok", name, text)

    def note(self, name: str, text: str) -> None:
        """Something to know, which prevents nothing."""
        self._add("note", name, text)

    def fail(self, status: Status, name: str, text: str, advice: str) -> Failed:
        """A step has failed, which ends the diagnosis: raise the result."""
        self._add("failed", name, text)
        self.status, self.advice = status, printable(advice, LONGEST_MESSAGE)
        return Failed(text)

    def _add(self, mark: str, name: str, text: str) -> None:
        step = Step(mark, name, printable(text, LONGEST_MESSAGE))
        self.steps.append(step)
        if not self._is_json:
            sign = {"ok": "✔", "note": "·", "failed": "✖"}[mark]
            _write(f"{sign} {name + ':':13} {step.text}")

    def finish(self, verdict: str) -> None:
        """Write the end."""
        if self._is_json:
            found = {"status": int(self.status), "steps": self.steps, "advice": self.advice}
            _write(msgspec.json.encode(found).decode())
        elif self.status is Status.FINE:
            _write(f"= {verdict}")
        else:
            _write(f"→ {self.advice}")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

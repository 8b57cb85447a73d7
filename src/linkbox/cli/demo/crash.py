"""P2M with a store: the cable of a process is pulled, the process is killed, and what it had sent arrives."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from linkbox import ClientP2M, Json, Message, ServerP2M
from linkbox.cli.demo.part import (
    PATIENCE,
    Check,
    Child,
    ChildFailed,
    Line,
    Tally,
    compare,
    failure,
    messages_of,
    ticks,
)
from linkbox.testing import FaultyProxy

RATE = 50.0
"""Messages per second."""
WAITING = 3
"""The process is killed only while at least this many messages are on its disk alone."""
RECORD = b"%02d %08d\n"
RECORD_SIZE = len(RECORD % (0, 0))


# -- the child ---------------------------------------------------------------------------------------


def log(name: str, address: str, seconds: float, folder: str) -> dict[str, Any]:
    """The work of a child: send numbers, and note each one that `send` has accepted in a file."""
    run = int(name.rpartition(" ")[2])
    accepted = os.open(Path(folder, "accepted"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with ClientP2M(address, Json(), store=Path(folder, "spool.db"), name="logger") as client:
        for number in ticks(seconds, RATE):
            client.send([run, number])
            os.write(accepted, RECORD % (run, number))
        client.flush(timeout=PATIENCE)
    os.close(accepted)
    return {}


# -- the server --------------------------------------------------------------------------------------


class Crash:
    """A ServerP2M, and a client with a store: cut off, killed, and started again."""

    title = "P2M · a process with a store: its cable is pulled, then it is killed"

    def __init__(self) -> None:
        self.happened: list[tuple[float, str]] = []
        self._server = ServerP2M("tcp://127.0.0.1:0", Json())
        self._cable: FaultyProxy | None = None
        self._folder = Path()
        self._taken: list[bytes] = []
        self._children: list[Child] = []
        self._over = threading.Event()
        self._error: Exception | None = None
        self._taker = threading.Thread(target=self._take_all, daemon=True)
        self._player = threading.Thread(target=self._play, daemon=True)
        self._ends = 0.0
        self._kills_at = 0.0

    def start(self, seconds: float) -> None:
        """Start the server and the first client."""
        self._ends, self._kills_at = monotonic() + seconds, monotonic() + seconds / 2
        self._folder = Path(tempfile.mkdtemp(prefix="linkbox-demo-"))
        self._server.start()
        self._cable = FaultyProxy(self._server.address).start()
        self._taker.start()
        self._start_child(seconds + PATIENCE)  # it is killed before
        self._player.start()

    def _start_child(self, seconds: float) -> None:
        assert self._cable is not None
        name = f"logger {len(self._children)}"
        self._children.append(Child("crash", name, self._cable.address, seconds, str(self._folder)))

    def _take_all(self) -> None:
        for message in messages_of(self._server):
            self.take(message)

    def take(self, message: Message[Any]) -> None:
        """Note a received message."""
        self._taken.append(RECORD % tuple(message.data))

    def _accepted(self) -> int:
        """How many messages `send` has accepted."""
        file = self._folder / "accepted"
        return file.stat().st_size // RECORD_SIZE if file.exists() else 0

    def _waiting(self) -> int:
        return max(0, self._accepted() - len(self._taken))

    def _play(self) -> None:
        cable = self._cable
        assert cable is not None
        try:
            self._until(lambda: monotonic() >= self._kills_at - (self._ends - self._kills_at) / 3)
            self._until(lambda: len(self._taken) > 0)
            cable.change(black_hole=True)
            self._tell("logger: its cable is pulled")
            self._until(lambda: monotonic() >= self._kills_at and self._waiting() >= WAITING)
            self._children[0].kill()
            self._tell(f"logger: killed, with {self._waiting()} messages on its disk only")
            cable.cut()  # first: bytes that are still on their way must not follow after a gap
            cable.heal()
            self._start_child(max(0.2, self._ends - monotonic()))
            self._until(lambda: self._waiting() == 0 or self._children[-1].is_over)
            self._tell("logger: runs again, and has sent what was on its disk")
        except ChildFailed as error:
            self._error = error

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = self._ends + PATIENCE
        while not holds():
            if self._over.wait(0.01) or monotonic() > deadline:
                raise ChildFailed("the logger did not get as far as it should")

    def _tell(self, text: str) -> None:
        self.happened.append((monotonic(), text))

    def lines(self) -> list[Line]:
        """The current state."""
        return [Line("logger", len(self._taken), f"{self._waiting()} on its disk only")]

    def finish(self) -> list[Check]:
        """Wait for the second client, stop, compare."""
        try:
            self._player.join(PATIENCE)
            if self._error is not None:
                raise self._error
            self._children[-1].report()
        except ChildFailed as error:
            return [failure("P2M", "logger, killed", error)]
        finally:
            accepted = self._read_accepted()
            self.close()
            self._taker.join(PATIENCE)
        received = tally(known(self._taken, accepted))
        return [compare("P2M", "logger, killed", tally(accepted), received, "in order, none twice")]

    def _read_accepted(self) -> list[bytes]:
        file = self._folder / "accepted"
        return file.read_bytes().splitlines(keepends=True) if file.exists() else []

    def close(self) -> None:
        """Stop everything."""
        self._over.set()
        if self._player.ident is not None:
            self._player.join(PATIENCE)
        for child in self._children:
            child.kill()
        self._server.stop()
        if self._cable is not None:
            self._cable.stop()
            shutil.rmtree(self._folder, ignore_errors=True)


def known(taken: list[bytes], accepted: list[bytes]) -> list[bytes]:
    """What was taken, without the message for which `send` had not returned when its process was killed."""
    first = [record for record in accepted if record.startswith(b"00")]
    doubtful = RECORD % (0, len(first))
    return [record for record in taken if record != doubtful]


def tally(records: list[bytes]) -> dict[str, Any]:
    """The records as JSON, for comparison."""
    found = Tally()
    for record in records:
        found.add(record)
    return found.report()

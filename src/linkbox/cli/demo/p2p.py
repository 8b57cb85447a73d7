"""P2P: two processes send to each other at a given rate, at the same time; their connection is cut once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import linkbox
from linkbox import Bytes, ClientP2P, EndOfData, Event, EventKind, LinkboxError, LinkView, ServerP2P
from linkbox.cli.demo.part import (
    PATIENCE,
    Check,
    Child,
    ChildFailed,
    Line,
    Tally,
    compare,
    failure,
    size,
    ticks,
)
from linkbox.testing import FaultyProxy

RATE = 100.0
BURST = 40
"""Each side sends `BURST` messages, `RATE` times per second."""
LAST = b"that was all"


def lines_to_send(seed: str) -> list[bytes]:
    """Lines of the source of this library, in an order that depends on the seed."""
    folder = Path(linkbox.__file__).parent
    lines = [line for file in sorted(folder.glob("*.py")) for line in file.read_bytes().splitlines() if line]
    random.Random(seed).shuffle(lines)
    return lines


def send_all(
    link: Any, lines: list[bytes], seconds: float, tally: Tally, at_half: Callable[[], None] = lambda: None
) -> None:
    """Send the lines at the given rate, and then `LAST`. Call ``at_half`` meanwhile."""
    number = 0
    is_half = False
    for tick in ticks(seconds, RATE):
        if tick >= seconds * RATE / 2 and not is_half:
            is_half = True
            at_half()
        for _ in range(BURST):
            message = b"%d %s" % (number, lines[number % len(lines)])
            link.send(message, timeout=PATIENCE)
            tally.add(message)
            number += 1
    if not is_half:
        at_half()
    link.send(LAST, timeout=PATIENCE)


# -- the child ---------------------------------------------------------------------------------------


def converse(name: str, address: str, seconds: float) -> dict[str, Any]:
    """The work of the child: send, and receive by callback at the same time."""
    said, heard = Tally(), Tally()
    all_heard = threading.Event()
    with ClientP2P(address, Bytes(), name=name) as client:

        @client.on(EventKind.DATA)
        def listen(event: Event) -> None:
            message = client.data_get()
            if message == LAST:
                all_heard.set()
            else:
                heard.add(message)

        send_all(client, lines_to_send(name), seconds, said)
        if not all_heard.wait(PATIENCE):
            raise TimeoutError("the other side has not finished")
        client.end()
    return {"sent": said.report(), "received": heard.report()}


# -- the server --------------------------------------------------------------------------------------


class Conversation:
    """A ServerP2P that sends in one thread and receives by polling in another."""

    title = "P2P · two processes send to each other at the same time (Bytes)"

    def __init__(self) -> None:
        self.happened: list[tuple[float, str]] = []
        self._server = ServerP2P("tcp://127.0.0.1:0", Bytes())
        self._proxy: FaultyProxy | None = None
        self._cuts = 0
        self._children: list[Child] = []
        self._said, self._heard = Tally(), Tally()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def start(self, seconds: float) -> None:
        """Start the server and its client; the conversation begins when the client has connected."""
        self._server.add_callback(self._on_resumed, EventKind.RESUMED)
        self._server.start()
        self._proxy = FaultyProxy(self._server.address).start()
        self._children = [Child("p2p", "talker", self._proxy.address, seconds)]
        self._thread = threading.Thread(target=self._converse, args=(seconds,), daemon=True)
        self._thread.start()

    def _converse(self, seconds: float) -> None:
        try:
            self._server.wait_connected(timeout=PATIENCE)
            link = self._server.link(self._server.peers()[0])
            listener = threading.Thread(target=self._listen, args=(link,), daemon=True)
            listener.start()
            send_all(link, lines_to_send("server"), seconds, self._said, self._cut)
            listener.join(PATIENCE)
        except LinkboxError as error:
            self._error = error

    def _cut(self) -> None:
        """Cut the connection, while both sides send."""
        assert self._proxy is not None
        self.happened.append((monotonic(), "conversation: its connection is cut"))
        self._cuts += self._proxy.cut()

    def _on_resumed(self, event: Event) -> None:
        self.happened.append((monotonic(), "conversation: resumed on a new connection"))

    def _listen(self, link: LinkView[bytes, Any]) -> None:
        try:
            while True:
                message = link.data_get()
                if message != LAST:
                    self.hear(message)
        except EndOfData:
            pass
        except LinkboxError as error:
            self._error = error

    def hear(self, message: bytes) -> None:
        """Count a received message."""
        self._heard.add(message)

    def lines(self) -> list[Line]:
        """The current state."""
        sides = (("to the client", self._said), ("from the client", self._heard))
        return [Line(name, tally.count, f"{size(tally.size)} in all") for name, tally in sides]

    def finish(self) -> list[Check]:
        """Wait for the END of the conversation, stop, compare."""
        try:
            report = self._children[0].report()
        except ChildFailed as error:
            return [failure("P2P", "conversation", error)]
        finally:
            if self._thread is not None:
                self._thread.join(PATIENCE)
            resumed = self._server.statistics().reconnects
            self.close()
        problem = str(self._error or "")
        there = compare(
            "P2P", "to the client", self._said.report(), report["received"], "equal, in order", problem
        )
        back = compare(
            "P2P", "from the client", report["sent"], self._heard.report(), "equal, in order", problem
        )
        # Once for each cut, and for each connection that was lost in another way.
        fine = 0 < self._cuts <= resumed
        verdict = "none lost, none twice" if fine else "not resumed"
        return [there, back, Check("P2P", "cuts, resumed", self._cuts, resumed, verdict, fine)]

    def close(self) -> None:
        """Stop everything."""
        for child in self._children:
            child.kill()
        self._server.stop()
        if self._proxy is not None:
            self._proxy.stop()

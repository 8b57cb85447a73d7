"""One round of the races: its dice, its reports, and the process of its peer."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from linkbox import ServerAR, ServerP2M, ServerP2P

ANY = "tcp://127.0.0.1:0"
LIMIT = 60
"""Seconds after which the process of the peer ends."""


class Round:
    """What is played, and where it reports."""

    peer: Peer

    def __init__(self, dice: random.Random, scene: str, way: str, writer: int) -> None:
        self.dice = dice
        self.scene = scene
        self.way = way
        self._writer = writer
        self.accepted: list[int] = []
        """Numbers of the messages that a call has taken."""
        self.in_doubt: list[int] = []
        """Numbers of those whose call has raised, and which may have arrived nevertheless."""
        self.is_ordered = False
        self.must_arrive = False
        """Must stop() return True?"""

    def report(self, **what: Any) -> None:
        """Tell the campaign."""
        os.write(self._writer, json.dumps(what).encode() + b"\n")

    def claim(self, stopped: bool) -> None:
        """Tell what was accepted, and what stop() has returned."""
        self.report(
            accepted=list(self.accepted),
            in_doubt=list(self.in_doubt),
            is_ordered=self.is_ordered,
            must_arrive=self.must_arrive,
            stopped=stopped,
        )

    def check(self, is_well: object, what: str) -> None:
        """Report a fault unless ``is_well``."""
        if not is_well:
            self.report(fault=what)

    def moment(self, most: float = 0.03) -> float:
        """Some seconds: often very few."""
        return most * self.dice.random() ** 3


class Peer:
    """The servers of a round, in a process of their own that was forked before the first endpoint started."""

    def __init__(self, round_: Round) -> None:
        mine, theirs = os.pipe()
        self._reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(theirs)
            os.close(self._reader)
            _serve(round_, mine, writer)
        os.close(mine)
        os.close(writer)
        self._held = theirs
        """Closed by the end of this process, by which the peer sees it."""
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(self._reader, 1000)
            assert part, "the peer could not start"
            line += part
        os.close(self._reader)
        self.p2p, self.p2m, self.ar, self.silent = json.loads(line)


def _serve(round_: Round, parent: int, addresses: int) -> NoReturn:
    """The process of the peer: collects the numbers that it gets, until the other process ends."""
    code = 1
    try:
        signal.alarm(LIMIT)  # whatever happens; the stacks of interest are in the other process
        got: list[int] = []

        def handle(request: Any) -> bytes:
            got.append(int(request.data))
            return bytes(request.data)

        p2p = ServerP2P(ANY, max_peers=100).start()
        p2m = ServerP2M(ANY).start()
        ar = ServerAR(ANY, handler=handle).start()
        silent = socket.create_server(("127.0.0.1", 0))
        hole = f"tcp://127.0.0.1:{silent.getsockname()[1]}"

        def take(event: Any) -> None:
            got.extend(int(data) for data in event.endpoint.data_get_all() if data != b"again")

        p2p.add_callback(take)
        p2m.add_callback(take)
        is_over = threading.Event()
        threading.Thread(target=_talk, args=(p2p, is_over), daemon=True).start()
        line = json.dumps([p2p.address, p2m.address, ar.address, hole]) + "\n"
        os.write(addresses, line.encode())
        os.close(addresses)
        while os.read(parent, 1):
            pass
        is_over.set()
        for server in (p2p, p2m, ar):
            server.stop(0.5)
        round_.report(got=got)
        code = 0
    except BaseException as error:
        round_.report(fault=f"the peer: {error!r}")
    finally:
        sys.stderr.flush()
        os._exit(code)


def _talk(server: ServerP2P, is_over: threading.Event) -> None:
    """Messages to the clients, for their callbacks."""
    number = 0
    while not is_over.is_set():
        server.broadcast(b"%d" % number)
        number += 1
        time.sleep(0.002)  # they have other things to do, too

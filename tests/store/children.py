"""Processes that use a store, and are killed: ``python -m tests.store.children ROLE STORE ARGUMENTS``."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
ROLES: dict[str, Callable[..., None]] = {}


class Child:
    """One such process. What it says is read line by line."""

    def __init__(self, role: str, *args: Any, before: list[str] | None = None) -> None:
        command = [*(before or []), sys.executable, "-m", "tests.store.children", role, *map(str, args)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._is_traced = before is not None
        self.pid = self._process.pid
        self.lines: list[str] = []
        """All it has said so far."""
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._queue.put(self.lines[-1])
        self._queue.put("")

    def line(self, timeout: float = 20.0) -> str:
        """The next thing it says; empty when it has ended."""
        return self._queue.get(timeout=timeout)

    def say(self, text: str) -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it, and wait until it has ended and all it said is read."""
        if self._is_traced:
            assert self._process.stdin is not None
            self._process.stdin.close()
        else:
            self._process.send_signal(number)
        self.wait()

    def wait(self) -> int:
        """Wait for its end."""
        code = self._process.wait(20)
        self._reader.join(5)
        return code

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        self._reader.join(5)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass


def role(function: Callable[..., None]) -> Callable[..., None]:
    ROLES[function.__name__] = function
    return function


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # in one piece, whatever other threads say


def forever() -> None:
    """Until it is killed, or its parent is gone."""
    threading.Event().wait()


def watch() -> None:
    """Whoever started it is gone, or wants it to be: strace does not pass a SIGKILL on."""
    for _ in sys.stdin:
        ENOUGH.set()
    os._exit(1)


@role
def open_store(store: str) -> None:
    from linkbox import StoreError
    from tests.store.disks import nowhere, pusher

    try:
        with pusher(nowhere(), Path(store)):
            say("open")
            forever()
    except StoreError as error:
        say(str(error))


@role
def spool(store: str, count: str) -> None:
    from tests.store.disks import nowhere, pusher

    with pusher(nowhere(), Path(store)) as client:
        say(f"accepted {client.send_many(range(int(count)))}")
        forever()


@role
def spool_one_by_one(store: str, count: str) -> None:
    from tests.store.disks import nowhere, pusher

    with pusher(nowhere(), Path(store)) as client:
        for number in range(int(count)):
            client.send(number)
        say(f"accepted {count}")
        forever()


@role
def fork(store: str) -> None:
    """Sends, while a child is forked that comes to its end in order."""
    from tests.store.disks import nowhere, pusher

    with pusher(nowhere(), Path(store)) as client:
        client.send_many(range(200))
        say("accepted 200")
        stop = threading.Event()
        sent = threading.Event()

        def send() -> None:
            for number in range(200, 400):
                client.send(number)
                sent.set()
            stop.set()

        sender = threading.Thread(target=send)
        sender.start()
        sent.wait()
        codes = []
        while not stop.is_set() and len(codes) < 10:
            pid = os.fork()
            if not pid:
                sys.exit(0)
            deadline = time.monotonic() + 10
            while not (found := os.waitpid(pid, os.WNOHANG))[0]:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    found = os.waitpid(pid, 0)
                    break
                time.sleep(0.002)
            codes.append(found[1])
        say(f"child {max(codes)}")
        sender.join()
        say("accepted 400")


def started(endpoint: Any) -> Any:
    """Start it, on a disk that fails."""
    from linkbox import StoreError

    while True:
        try:
            return endpoint.start()
        except StoreError:
            pass


@role
def spool_whatever_happens(store: str, count: str) -> None:
    """Sends one by one, and says of each whether it was accepted."""
    from linkbox import StoreError
    from tests.store.disks import nowhere, pusher

    client = started(pusher(nowhere(), Path(store)))
    for number in range(int(count)):
        try:
            client.send(number)
            say(f"accepted {number}")
        except StoreError as error:
            say(f"refused {number} {error}")
    say("done")
    forever()


@role
def serve(store: str, address: str) -> None:
    """A P2M server that takes everything, and says what."""
    from linkbox import ServerP2M
    from linkbox.formats import Json

    server = started(ServerP2M(address, Json, store=store))
    say(server.address)
    while True:
        message = server.message_get()
        say(f"{message.data} {message.redelivered}")


def numbers(folder: Path) -> Iterator[int]:
    """Numbers that no earlier life has used: each is written down before it is used."""
    file = folder.with_name(folder.name + "-number")
    while True:
        number = int(file.read_text()) + 1 if file.exists() and file.read_text() else 1
        new = file.with_suffix(".new")
        new.write_text(str(number))
        new.replace(file)
        yield number


def send_on(client: Any, store: Path) -> None:
    """Send, until told that it is enough; say what was accepted, and which was the last."""
    number = 0
    for number in numbers(store):
        client.send(number)
        say(f"accepted {number}")
        if ENOUGH.is_set():
            break
    say(f"done {number}")


@role
def push_on(store: str, address: str) -> None:
    from tests.store.disks import pusher

    with pusher(address, Path(store)) as client:
        send_on(client, Path(store))
        forever()


@role
def push_bare(folder: str, address: str) -> None:
    """Without a store: accepted is what the server has acknowledged."""
    from linkbox import ClientP2M
    from linkbox.formats import Json
    from tests.store.disks import NOW

    with ClientP2M(address, Json, reconnect=NOW) as client:
        send_on(client, Path(folder))
        forever()


def take_all(endpoint: Any) -> None:
    while True:
        message = endpoint.message_get()
        say(f"took {message.data} {message.redelivered}")


@role
def take_on(store: str, address: str) -> None:
    from linkbox import ServerP2M
    from linkbox.formats import Json

    with ServerP2M(address, Json, store=store) as server:
        take_all(server)


@role
def talk_on(store: str, address: str, side: str) -> None:
    """One end of a conversation: it takes, and it sends as soon as somebody is there."""
    from linkbox import ServerP2P
    from linkbox.formats import Json
    from tests.store.disks import talker

    path = Path(store)
    end: Any = ServerP2P(address, Json, store=store) if side == "server" else talker(address, path)
    end.start() if side == "server" else end.start(wait=False)
    threading.Thread(target=take_all, args=(end,), daemon=True).start()
    if side == "server":
        end.wait_connected()
    send_on(end, path)
    forever()


@role
def forget(address: str) -> None:
    """A P2M server without a store, that takes everything."""
    from linkbox import ServerP2M
    from linkbox.formats import Json

    with ServerP2M(address, Json) as server:
        say("ready")
        take_all(server)


ENOUGH = threading.Event()

if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    ROLES[sys.argv[1]](*sys.argv[2:])

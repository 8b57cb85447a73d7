"""``make instructions``: machine instructions per round trip, counted by valgrind.

A count is the same on a busy machine, as times are not. A process that plays both sides (two threads) makes
n, and then 2 n round trips. The difference of the two counts, divided by n, is the figure: the start cancels.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path

from benchmarks.interpreter import optimised_python

ROOT = Path(__file__).parents[1]
ROUNDS = 500
WARM = 200
MESSAGE = b"x" * 64
SCENARIOS = ("p2p", "ask")
PATIENCE = 300.0


def play_bare(rounds: int) -> None:
    """Blocking sockets that know the size of every message."""
    listener = socket.create_server(("127.0.0.1", 0))

    def echo() -> None:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := sock.recv(len(MESSAGE)):
            sock.sendall(data)
        sock.close()

    thread = threading.Thread(target=echo)
    thread.start()
    with socket.create_connection(listener.getsockname()) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(rounds):
            sock.sendall(MESSAGE)
            assert len(sock.recv(len(MESSAGE))) == len(MESSAGE)
    thread.join()
    listener.close()


def play_p2p(rounds: int) -> None:
    """``send``, the other side's ``data_get`` and ``send``, ``data_get``."""
    from linkbox import ClientP2P, EndOfData, ServerP2P

    def echo() -> None:
        try:
            while True:
                server.send(server.data_get())
        except EndOfData:
            pass

    with ServerP2P("tcp://127.0.0.1:0") as server:
        thread = threading.Thread(target=echo)
        thread.start()
        with ClientP2P(server.address) as client:
            for _ in range(rounds):
                client.send(MESSAGE)
                client.data_get()
    thread.join()


def play_ask(rounds: int) -> None:
    """``ask`` with ``keep_alive``, and a handler that returns the request."""
    from linkbox import ClientAR, ServerAR

    with (
        ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data) as server,
        ClientAR(server.address, keep_alive=True) as client,
    ):
        for _ in range(rounds):
            client.ask(MESSAGE)


PLAYS = {"bare": play_bare, "p2p": play_p2p, "ask": play_ask}


def instructions(python: str, path: list[str], scenario: str, rounds: int) -> int:
    """Instructions of a process that makes so many round trips."""
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/out",
            python,
            "-m",
            "benchmarks.instructions",
            "--play",
            scenario,
            str(rounds),
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return int(found[1])


def per_round(python: str, path: list[str], scenario: str) -> float:
    """Instructions of one round trip."""
    once = instructions(python, path, scenario, WARM + ROUNDS)
    return (instructions(python, path, scenario, WARM + 2 * ROUNDS) - once) / ROUNDS


def main() -> int:
    """Measure and print the table; returns the exit status."""
    if shutil.which("valgrind") is None:
        print("valgrind is missing: install it (Debian: apt install valgrind)")
        return 1
    python = optimised_python()
    site = sysconfig.get_path("purelib")  # msgspec, for another interpreter of the same version
    builds = {"interpreted": [str(ROOT / "src"), site]}
    native = Path(os.environ.get("LINKBOX_NATIVE", ""))
    if "LINKBOX_NATIVE" in os.environ and (native / "linkbox").is_dir():
        builds["compiled"] = [str(native.absolute()), site]
    print(f"instructions per round trip, {python}")
    bare = per_round(python, [site], "bare")
    print(f"{'bare sockets':24} {bare:12,.0f}")
    for scenario in SCENARIOS:
        for build, path in builds.items():
            found = per_round(python, path, scenario)
            print(
                f"{scenario + ', ' + build:24} {found:12,.0f}  {found / bare:6.1f} × bare sockets", flush=True
            )
    if "compiled" not in builds:
        print("compiled: not built; `make native` builds it")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        PLAYS[sys.argv[2]](int(sys.argv[3]))
    else:
        sys.exit(main())

"""Processes that are restarted, killed, forked, interrupted, or just end; and clocks that jump."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from linkbox import EventKind, Json, Limits, LinkboxError, SessionLost
from linkbox.testing import FaultyProxy
from tests.faults.place import AT_ONCE, PATIENCE, Place
from tests.threaded.helpers import PROMPT, Process, Threads, free_port, restarting, wait_until


def _script(place: Place, script: str, *args: str) -> Process:
    """A process that runs the front end's own way of saying this: aio's has ``await``, and a loop."""
    if place.front == "threaded":
        script = (
            script.replace("await ", "").replace("async def", "def").replace("asyncio.run(main())", "main()")
        )
    return Process(script.replace("FRONT", "linkbox" if place.front == "threaded" else "linkbox.aio"), *args)


# --- Restarts -----------------------------------------------------------------------------------------


def test_the_server_restarts_in_order_while_clients_push(place: Place) -> None:
    """Everything arrives once; only what went out before a welcome may be in doubt, and then it says so.

    The well-behaved client talks to another server: this one is away now and then.
    """
    doubts: set[tuple[int, int]] = set()
    with place.serving() as other:
        server = place.server("P2M", Json, address=f"tcp://127.0.0.1:{free_port()}").start()

        def push(who: int) -> None:
            with place.client("P2M", server.address, Json, reconnect=AT_ONCE) as client:
                for number in range(60):
                    try:
                        client.send([who, number], timeout=PATIENCE)
                    except SessionLost:
                        doubts.add((who, number))

        with restarting(server), Threads() as threads:
            for who in range(3):
                threads.start(push, who)
        found = [tuple(each) for each in server.data_get_all()]
        assert len(set(found)) == len(found), "nothing twice"
        assert {(who, number) for who in range(3) for number in range(60)} - set(found) <= doubts
        assert len(other.peers()) == 1


COLLECTS = """
server = place.server("P2M", address=sys.argv[4]).start()
print(server.address)
while line := sys.stdin.readline():
    print(server.data_count())
"""


def test_the_server_is_killed_while_clients_push(place: Place) -> None:
    """kill -9, and another one at the same address: what is in doubt is named, the rest gets there."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with place.serving() as other, place.child(COLLECTS, address) as first:
        first.line()
        client = place.client("P2M", address, blocking=False, linger=60, reconnect=AT_ONCE)
        with client:
            receipts = [client.send(b"%d" % number) for number in range(200)]
            receipts[0].wait(timeout=PATIENCE)
            first.signal(signal.SIGKILL)
            first.wait()
            receipts += [client.send(b"%d" % number) for number in range(200, 300)]
            with place.child(COLLECTS, address) as second:
                second.line()
                outcomes = [_outcome(receipt) for receipt in receipts]
                assert set(outcomes) <= {"there", "SessionLost"}
                assert outcomes[0] == outcomes[-1] == "there"
                assert client.send(b"and on").wait(timeout=PATIENCE)
                second.signal(signal.SIGKILL)
                client.stop(0.2)
        assert len(other.peers()) == 1


def _outcome(receipt: Any) -> str:
    try:
        receipt.wait(timeout=PATIENCE)
        return "there"
    except LinkboxError as error:
        return type(error).__name__


PUSHES = """
client = place.client("P2P", sys.argv[4], name=sys.argv[5]).start()
number = 0
while True:
    client.send(b"%d" % number + bytes(3000))
    number += 1
    if number == 50:
        print("busy")
"""


def test_a_client_is_killed_mid_send_and_comes_back(place: Place) -> None:
    """What it said until then is there without a gap, whole; the next life is a conversation of its own."""
    with place.serving() as server:
        lost = place.ear(server, EventKind.DISCONNECTED, name="first")
        for name in ("first", "second"):
            with place.child(PUSHES, server.address, name) as child:
                view = place.view(server, name)
                assert child.line() == "busy"
                child.signal(signal.SIGKILL)
                child.wait()
            lost.wait()
            wait_until(lambda: len(server.peers()) == 1, "only the regular is there")
            found = [int(each.rstrip(b"\0")) for each in view.data_get_all()]
            assert found == list(range(len(found))) and found


# --- Fork, and the end --------------------------------------------------------------------------------

FORKS = """
import asyncio, linkbox, os, sys, warnings
import FRONT as front
warnings.simplefilter("ignore")  # a fork with threads: that is what this is about

async def child(client):
    try:
        await client.send(b"from the child")
        print("sent")
    except linkbox.StateError as error:
        print("fork" in str(error))
    open_files = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    print(sum("socket:" in each for each in open_files))

async def main():
    client = front.ClientP2P(sys.argv[1], name="bare")
    await client.start()
    await (await client.send(b"before")).wait(timeout=10)
    pid = os.fork()
    if pid == 0:
        try:
            CHILD
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(pid, 0)
    await (await client.send(b"after")).wait(timeout=10)
    print(await client.stop())

asyncio.run(main())
"""


def test_fork_after_start(place: Place) -> None:
    """The child's copy says that it is one, and gives back its descriptors; the parent's goes on."""
    script = FORKS.replace("CHILD", "await child(client)")
    with place.serving() as server, _script(place, script, server.address) as process:
        assert process.line() == "True"
        assert int(process.line()) <= (2 if place.front == "aio" else 0), "what wakes the loop"
        assert process.line() == "True", process.stderr
        assert process.wait() == 0
        assert server.statistics().messages_received >= 2


EXITS = """
import asyncio, sys
import FRONT as front

async def main():
    client = front.ClientP2P(sys.argv[1], name="bare")
    await client.start()
    server = front.ServerP2P("tcp://127.0.0.1:0")
    server.add_callback(print)
    await server.start()
    print("started")
    sys.stdin.readline()
    for _ in range(5):
        await client.send(b"x")

asyncio.run(main())
"""


def test_the_interpreter_exits_without_stop(place: Place) -> None:
    """It does not hang, and the log says how much was not delivered. The peer sees a lost peer, no END."""
    with (
        place.serving() as server,
        FaultyProxy(server.address) as proxy,
        _script(place, EXITS, proxy.address) as process,
    ):
        ear = place.ear(server, EventKind.DISCONNECTED, EventKind.END)
        assert process.line() == "started"
        proxy.change(hold=True)
        began = time.monotonic()
        process.say("exit")
        assert process.wait() == 0
        assert time.monotonic() - began < PROMPT
        how = "was not stopped" if place.front == "threaded" else "was closed without stop()"
        assert f"{how}; 5 messages" in process.stderr
        assert "Traceback" not in process.stderr and "Fatal" not in process.stderr
        proxy.cut()
        assert ear.wait().kind is EventKind.DISCONNECTED


# --- Signals and clocks -------------------------------------------------------------------------------

SIGNALLED = """
import asyncio, signal, sys
import FRONT as front

hits = []
signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))

async def main():
    client = front.ClientP2P(sys.argv[1], name="bare")
    await client.start()
    print("waiting")
    print(await client.data_get(30), len(hits) > 10)
    print(await client.stop())

asyncio.run(main())
"""


def test_signals_in_a_blocking_call(place: Place) -> None:
    """A signal whose handler returns changes nothing: the call goes on waiting, and gets its message."""
    with place.serving() as server, _script(place, SIGNALLED, server.address) as process:
        peer = place.peer(server)
        assert process.line() == "waiting"
        for _ in range(30):
            process.signal(signal.SIGUSR1)
            time.sleep(0.005)  # Signals that come too close become one.
        server.send(b"here", to=peer)
        assert process.line() == "b'here' True"
        assert process.line() == "True"


INTERRUPTED = """
import asyncio, sys
import FRONT as front

async def main():
    client = front.ClientP2P(sys.argv[1], name="bare")
    await client.start()
    try:
        print("waiting")
        await client.data_get()
    finally:
        print(await client.stop())

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_in_data_get(place: Place) -> None:
    """The call ends with KeyboardInterrupt (asyncio cancels it, and raises that), and stop() is in order."""
    with place.serving() as server, _script(place, INTERRUPTED, server.address) as process:
        ear = place.ear(server, EventKind.DISCONNECTED, EventKind.END)
        place.peer(server)
        assert process.line() == "waiting"
        process.signal(signal.SIGINT)
        assert process.line() == "True"
        assert process.line() == "interrupted"
        assert process.wait() == 0
        assert ear.wait().kind is EventKind.END
        assert "Traceback" not in process.stderr


def test_the_clock_jumps(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hours, back and forth: heartbeats, timeouts and sessions go by a clock that cannot be set."""
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    limits = Limits(heartbeat=0.3, peer_timeout=2)
    with place.serving(limits=limits) as server:
        ear = place.ear(server, EventKind.DISCONNECTED, EventKind.RESUMED)
        with place.client("P2P", server.address, name="bare", limits=limits) as client:
            view = place.view(server)
            for jump in (0, 5 * 3600, -5 * 3600, 100 * 24 * 3600, -3e8, 0):
                offset[0] = jump
                receipt = client.send(b"%d" % jump)
                assert view.data_get(PATIENCE) == b"%d" % jump
                assert receipt.wait(timeout=PATIENCE)
                wait_until(lambda: _round_trip(server), "a heartbeat")
            assert not ear.events
            began = time.monotonic()
            with pytest.raises(LinkboxError):
                client.data_get(0.1)
            assert time.monotonic() - began < PROMPT


def _round_trip(server: Any) -> bool:
    return any(each.round_trip is not None for each in server.statistics().peers.values())

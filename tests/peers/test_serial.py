"""Serial ports behind ser2net: the cable is a pair of pseudo terminals, the device has pyserial."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from linkbox import Backoff, DeadlineExceeded, Delimited, Dialogue, EventKind, MailboxEmpty, StateError, Text
from tests.faults.place import Place
from tests.peers import starters
from tests.peers.processes import PATIENCE, Programs, free_port, needs, needs_package, until
from tests.threaded.helpers import Ear

SCALE = Delimited(b"\r", receive=(b"\r\n", b"\r"))
pytestmark = [needs("ser2net", "socat"), needs_package("pyserial")]


@pytest.fixture
def computer(run: Programs, tmp_path: Path) -> Path:
    """A serial port that a scale is connected to."""
    here, there = starters.cable(run, tmp_path)
    starters.scale(run, there)
    return here


def test_requests(place: Place, run: Programs, tmp_path: Path, computer: Path) -> None:
    """With ``keep_alive``: ser2net needs a moment to free the port after a connection is closed."""
    port = free_port()
    starters.ser2net(run, tmp_path, computer, port)
    with place.client("AR", ("127.0.0.1", port), Text("ascii"), framing=SCALE, keep_alive=True) as client:
        assert client.ask("S", PATIENCE) == "S S     12.5 kg"
        assert client.ask("S", PATIENCE) == "S S     13.0 kg"
        client.tell("Z")
        assert client.ask("S", PATIENCE) == "S S      0.5 kg"
        assert client.ask("X", PATIENCE) == "?"


def test_a_late_response_is_not_taken_for_the_next(
    place: Place, run: Programs, tmp_path: Path, computer: Path
) -> None:
    port, go = free_port(), tmp_path / "go"
    starters.ser2net(run, tmp_path, computer, port)
    weight = Dialogue(match=lambda request, response: response[0] == request[0])
    with place.client(
        "AR", ("127.0.0.1", port), Text("ascii"), framing=SCALE, keep_alive=True, dialogue=weight
    ) as client:
        assert client.ask("S", PATIENCE) == "S S     12.5 kg"
        with pytest.raises(DeadlineExceeded):
            client.ask(f"WAIT {go}", timeout=0.5)
        go.touch()
        assert client.ask("S", PATIENCE) == "S S     13.0 kg"
        assert client.data_get(PATIENCE) == "WAITED"


def test_ser2net_is_restarted(place: Place, run: Programs, tmp_path: Path, computer: Path) -> None:
    port = free_port()
    first = starters.ser2net(run, tmp_path, computer, port)
    at_once = Backoff(initial=0.01, maximum=0.05)
    with place.client("P2P", ("127.0.0.1", port), Text("ascii"), framing=SCALE, reconnect=at_once) as client:
        client.send("S")
        assert client.data_get(PATIENCE) == "S S     12.5 kg"
        first.kill()
        until(lambda: not client.peers(), "the client notices")
        starters.ser2net(run, tmp_path, computer, port)
        client.wait_connected(timeout=PATIENCE)
        client.send("S")
        assert client.data_get(PATIENCE) == "S S     13.0 kg"


def test_the_adapter_is_unplugged(place: Place, run: Programs, tmp_path: Path) -> None:
    """ser2net then accepts each connection, writes why, and closes. That costs no flood of connections."""
    (here, there), port = starters.cable(run, tmp_path), free_port()
    starters.scale(run, there)
    starters.ser2net(run, tmp_path, here, port)
    slowly = Backoff(initial=0.05, maximum=0.05)
    ear = Ear()
    with place.client("P2P", ("127.0.0.1", port), Text("ascii"), framing=SCALE, reconnect=slowly) as client:

        def weigh() -> str:
            try:
                client.send("S")
                return str(client.data_get(1))
            except (StateError, MailboxEmpty):
                return ""

        assert weigh() == "S S     12.5 kg"
        client.add_callback(ear, EventKind.CONNECTED)
        run.end("socat")
        began = time.monotonic()
        ear.wait(10)
        assert time.monotonic() - began > 8 * 0.05
        assert "failure" in client.data_get(PATIENCE)
        starters.cable(run, tmp_path)
        starters.scale(run, there)
        until(lambda: weigh() == "S S     12.5 kg", "the scale is there again")

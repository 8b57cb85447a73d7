"""Serial ports: ser2net, pyserial and socat. A pseudo terminal of socat is the cable."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkbox import Backoff, ClientAR, ClientP2P, Delimited, Text
from tests.peers.processes import PATIENCE, Program, Programs, free_port, needs, needs_package, until

SCALE = Delimited(b"\r", receive=(b"\r\n", b"\r"))


@pytest.fixture
def cable(run: Programs, tmp_path: Path) -> tuple[Path, Path]:
    """Two serial ports that are connected with each other."""
    ends = tmp_path / "computer", tmp_path / "device"
    socat = run.start("socat", *(f"PTY,rawer,link={end}" for end in ends))
    until(lambda: all(end.exists() for end in ends), "both ends of the cable", socat)
    return ends


def ser2net(run: Programs, folder: Path, device: Path, port: int) -> Program:
    (folder / "ser2net.yaml").write_text(f"""%YAML 1.1
---
connection: &scale
    accepter: tcp,127.0.0.1,{port}
    connector: serialdev,{device},9600n81,local
""")
    program = run.start("ser2net", "-n", "-d", "-u", "-c", folder / "ser2net.yaml")
    program.listens(port)
    return program


def scale(run: Programs, device: Path) -> None:
    run.python("serial_scale.py", device).expect("^ready$")


@needs("ser2net", "socat")
@needs_package("pyserial")
def test_ser2net(run: Programs, tmp_path: Path, cable: tuple[Path, Path]) -> None:
    """With ``keep_alive``: ser2net needs a moment to free the port after a connection is closed."""
    computer, device = cable
    scale(run, device)
    port = free_port()
    ser2net(run, tmp_path, computer, port)
    with ClientAR(("127.0.0.1", port), Text("ascii"), framing=SCALE, keep_alive=True) as client:
        assert client.ask("S", PATIENCE) == "S S     12.5 kg"
        assert client.ask("S", PATIENCE) == "S S     13.0 kg"
        client.tell("Z")
        assert client.ask("S", PATIENCE) == "S S      0.5 kg"
        assert client.ask("X", PATIENCE) == "?"


@needs("ser2net", "socat")
@needs_package("pyserial")
def test_ser2net_is_restarted(run: Programs, tmp_path: Path, cable: tuple[Path, Path]) -> None:
    computer, device = cable
    scale(run, device)
    port = free_port()
    first = ser2net(run, tmp_path, computer, port)
    at_once = Backoff(initial=0.01, maximum=0.05)
    with ClientP2P(("127.0.0.1", port), Text("ascii"), framing=SCALE, reconnect=at_once) as client:
        client.send("S")
        assert client.data_get(PATIENCE) == "S S     12.5 kg"
        first.kill()
        until(lambda: not client.peers(), "the client notices")
        ser2net(run, tmp_path, computer, port)
        client.wait_connected(timeout=PATIENCE)
        client.send("S")
        assert client.data_get(PATIENCE) == "S S     13.0 kg"

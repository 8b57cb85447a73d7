"""Real programs that more than one test needs, configured and started."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.peers.nmea import walk
from tests.peers.processes import HERE, Program, Programs, free_port, until


def supply(run: Programs, folder: Path) -> int:
    """sinstruments with a power supply that understands SCPI; returns its port."""
    port = free_port()
    device = {
        "name": "supply",
        "class": "PowerSupply",
        "package": "scpi_instrument",
        "transports": [{"type": "tcp", "url": f"127.0.0.1:{port}"}],
    }
    (folder / "supply.json").write_text(json.dumps({"devices": [device]}))
    command = (sys.executable, "-m", "sinstruments", "-c", folder / "supply.json")
    run.start(*command, cwd=HERE / "programs").listens(port)
    return port


def julabo(run: Programs, folder: Path) -> int:
    """lewis with its thermostat."""
    del folder
    lewis = Path(sys.executable).parent / "lewis"
    return run.server(lewis, "julabo", "-p", "julabo-version-1: {bind_address: 127.0.0.1, port: PORT}")[1]


def gpsfake(run: Programs, folder: Path) -> int:
    """A receiver at a pseudo terminal, and gpsd that reads from there; the port of gpsd."""
    (folder / "walk.nmea").write_bytes("".join(each + "\r\n" for each in walk()).encode())
    return run.server("gpsfake", "-q", "-c", "0.01", "-P", "PORT", folder / "walk.nmea")[1]


def rsyslog(run: Programs, folder: Path, configuration: str) -> Program:
    head = f'global(workDirectory="{folder}" maxMessageSize="64k")'
    (folder / "rsyslog.conf").write_text(f"{head}\n{configuration}\n")
    return run.start("rsyslogd", "-n", "-f", folder / "rsyslog.conf", "-i", folder / "pid")


def forwarder(run: Programs, folder: Path, target: int) -> int:
    """rsyslog that takes lines at a port, and forwards them with octet counting, a newline inside."""
    port = free_port()
    daemon = rsyslog(
        run,
        folder,
        f"""
        module(load="imptcp")
        input(type="imptcp" port="{port}" address="127.0.0.1")
        template(name="form" type="string" string="<%PRI%>%syslogtag%%msg:::drop-last-lf%\\n.")
        action(type="omfwd" target="127.0.0.1" port="{target}" protocol="tcp" tcp_framing="octet-counted"
               template="form" action.resumeRetryCount="-1" action.resumeInterval="1")
        """,
    )
    daemon.listens(port)
    return port


def cable(run: Programs, folder: Path) -> tuple[Path, Path]:
    """Two serial ports that are connected with each other, from socat."""
    ends = folder / "computer", folder / "device"
    for end in ends:
        end.unlink(missing_ok=True)
    socat = run.start("socat", *(f"PTY,rawer,link={end}" for end in ends))
    until(lambda: all(end.exists() for end in ends), "both ends of the cable", socat)
    return ends


def scale(run: Programs, device: Path) -> None:
    """A device at a serial port, with pyserial."""
    run.python("serial_scale.py", device).expect("^ready$")


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

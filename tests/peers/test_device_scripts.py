"""The scripts of docs/devices.md and docs/serial.md, against the simulators and against real programs.

A script is a block that the docs do not run themselves. Its first address is exchanged for the device's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers import starters
from tests.peers.processes import ENVIRONMENT, HERE, Program, Programs, free_port, needs, needs_package
from tests.project.test_docs import blocks

ROOT = HERE.parents[1]
LONGEST = 15
Start = Callable[[Programs, Path], int]


def scripts(page: str) -> dict[str, str]:
    """By heading and, if a section has several, their number."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for block in blocks(text):
        if block.language == "python" and not block.run:
            before = "\n".join(text.splitlines()[: block.line - 1])
            heading = re.findall(r"^#+ (.*)$", before, re.MULTILINE)[-1]
            found[heading if heading not in found else f"{heading}, 2"] = block.code
    return found


DEVICES, SERIAL = scripts("devices.md"), scripts("serial.md")


def start(run: Programs, folder: Path, code: str, place: str) -> Program:
    """Run a script with another address, as a user would."""
    code, count = re.subn(r'"(tcp:|/dev/)[^"]+"', f'"{place}"', code, count=1)
    assert count == 1, "no address in the script"
    (folder / "script.py").write_text(code, encoding="utf-8")
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"}
    return run.start(sys.executable, "-W", "error", folder / "script.py", environment=environment)


def ends_well(program: Program) -> str:
    output = program.wait().decode()
    assert program.process.returncode == 0, output
    return output


@dataclass(frozen=True)
class Case:
    """A script that connects to a device, and what it prints."""

    script: str
    device: Start
    output: tuple[str, ...]
    """Patterns of lines that follow each other."""
    ends: bool = True

    def parameter(self, name: str, *marks: pytest.MarkDecorator) -> object:
        return pytest.param(self, id=f"{self.script} with {name}", marks=marks)


def simulator(name: str) -> Start:
    return lambda run, folder: run.simulator(HERE / "simulators.py", name)[1]


def program(name: str) -> Start:
    return lambda run, folder: run.simulator(name)[1]


MODBUS = (r"registers \(1010, 1011, 1012\)", r"registers \(1020, 1021, 1022\)")
SCPI = ("ACME,PSU-1,4711,1.0", r"volts 3.3")
BATH = ("temperature 24.0", "set point 40.5")
ACKNOWLEDGED = (r"\['AA', '4711'\]",)
AMSTERDAM = ("latitude 5222.3215 N longitude 00454.5778 E", "knots 0.58")

CLIENTS = [
    Case("Modbus TCP", simulator("modbus"), MODBUS).parameter("a simulator"),
    Case("Modbus TCP", program("modbus_server.py"), MODBUS).parameter("pymodbus", needs_package("pymodbus")),
    Case("SCPI instruments", simulator("scpi"), SCPI).parameter("a simulator"),
    Case("SCPI instruments", starters.supply, SCPI).parameter("sinstruments", needs_package("sinstruments")),
    Case("A thermostat: CR in, CR LF out", simulator("thermostat"), BATH).parameter("a simulator"),
    Case("A thermostat: CR in, CR LF out", starters.julabo, BATH).parameter("lewis", needs_package("lewis")),
    Case("NMEA 0183", simulator("gps"), AMSTERDAM, ends=False).parameter("a simulator"),
    Case("gpsd", simulator("gpsd"), ("latitude 52.372025 longitude 4.90963",), ends=False).parameter(
        "a simulator"
    ),
    Case("gpsd", starters.gpsfake, (r"latitude 48.11\d+ longitude 11.516666667",) * 2, ends=False).parameter(
        "gpsfake", needs("gpsd", "gpsfake")
    ),
    Case("HL7 over MLLP, 2", simulator("lab"), ACKNOWLEDGED).parameter("a simulator"),
    Case("HL7 over MLLP, 2", program("hl7_server.py"), ACKNOWLEDGED).parameter("hl7", needs_package("hl7")),
    Case("STX, ETX and a checksum", simulator("scale"), ("weight 12.5 kg",)).parameter("a simulator"),
]


@pytest.mark.parametrize("case", CLIENTS)
def test_a_script_that_connects(run: Programs, tmp_path: Path, case: Case) -> None:
    port = case.device(run, tmp_path)
    script = start(run, tmp_path, DEVICES[case.script], f"tcp://127.0.0.1:{port}")
    lines = r"(.*\n)*".join(rf"^{line}\n" for line in case.output)
    script.expect(lines)
    if case.ends:
        ends_well(script)


def listening(run: Programs, folder: Path, script: str) -> tuple[Program, int]:
    port = free_port()
    started = start(run, folder, DEVICES[script], f"tcp://127.0.0.1:{port}")
    started.listens(port)
    return started, port


def test_the_lab_with_a_simulator(run: Programs, tmp_path: Path) -> None:
    script, port = listening(run, tmp_path, "HL7 over MLLP")
    ward = run.python(HERE / "simulators.py", "ward", port)
    assert "MSA|AA|4711" in ends_well(ward)
    script.expect("^message 4711 from WARD$")


@needs_package("hl7")
def test_the_lab_with_a_client_of_hl7(run: Programs, tmp_path: Path) -> None:
    script, port = listening(run, tmp_path, "HL7 over MLLP")
    output = ends_well(run.python("hl7_client.py", port))
    assert [line.split()[:2] for line in output.splitlines()] == [["AA", str(4710 + n)] for n in (1, 2, 3)]
    script.expect("^message 4713 from WARD$")


def test_syslog_with_a_simulator(run: Programs, tmp_path: Path) -> None:
    script, port = listening(run, tmp_path, "syslog")
    ends_well(run.python(HERE / "simulators.py", "router", port))
    script.expect(r"^facility 4 severity 2 '1 - host su: failed for größe'$")
    script.expect(r"^facility 4 severity 2 '1 - host su:\\ntwo lines'$")


@needs("rsyslogd", "nc")
def test_syslog_with_rsyslog(run: Programs, tmp_path: Path) -> None:
    script, port = listening(run, tmp_path, "syslog")
    lines = starters.forwarder(run, tmp_path, port)
    run.start("nc", "-N", "127.0.0.1", lines).write(
        "<165>Jan  1 00:00:00 host app: größe\n".encode(), end=True
    )
    script.expect(r"^facility 20 severity 5 'app: größe\\n\.'$")


@needs("ser2net", "socat")
@needs_package("pyserial")
def test_the_scale_behind_ser2net(run: Programs, tmp_path: Path) -> None:
    computer, device = starters.cable(run, tmp_path)
    starters.scale(run, device)
    port = free_port()
    starters.ser2net(run, tmp_path, computer, port)
    script = start(run, tmp_path, SERIAL["ser2net"], f"tcp://127.0.0.1:{port}")
    weights = [f"S S {weight:8.1f} kg" for weight in (0.5, 1.0, 1.5)]
    assert ends_well(script).splitlines() == weights


@needs("socat", "nc")
@needs_package("pyserial")
def test_the_bridge_of_pyserial(run: Programs, tmp_path: Path) -> None:
    """Beside it the script for ser2net works unchanged; the second time as another client."""
    computer, device = starters.cable(run, tmp_path)
    starters.scale(run, device)
    port = free_port()
    code = SERIAL["pyserial"].replace("tcp://127.0.0.1:7000", f"tcp://127.0.0.1:{port}")
    start(run, tmp_path, code, str(computer)).listens(port)
    for weights in ((0.5, 1.0, 1.5), (0.5, 1.0, 1.5)):
        script = start(run, tmp_path, SERIAL["ser2net"], f"tcp://127.0.0.1:{port}")
        assert ends_well(script).splitlines() == [f"S S {weight:8.1f} kg" for weight in weights]


def test_every_script_has_a_test_and_at_most_fifteen_lines() -> None:
    tested = {case.values[0].script for case in CLIENTS} | {"HL7 over MLLP", "syslog"}
    assert set(DEVICES) == tested
    assert set(SERIAL) == {"ser2net", "pyserial"}
    for name, code in (DEVICES | SERIAL).items():
        assert len(code.strip().splitlines()) <= LONGEST, name

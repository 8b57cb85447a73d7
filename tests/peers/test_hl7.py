"""HL7 over MLLP with the package hl7: it is the server, then the client, then its command ``mllp_send``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from linkbox import Enclosed, Text
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Programs, needs_package, port_of

pytestmark = needs_package("hl7")
MLLP = Enclosed(b"\x0b", b"\x1c\r")


def message(control: int, name: str, results: int) -> str:
    head = f"MSH|^~\\&|WARD|A|LAB|B|20260101||ORU^R01|{control}|P|2.5\rPID|1||7||{name}\r"
    return head + "".join(f"OBX|{n}|NM|GLU||{n}.5|mmol/l\r" for n in range(results))


def fields(segment: str, text: str) -> list[str]:
    (found,) = [line for line in text.split("\r") if line.startswith(segment)]
    return found.split("|")


def test_a_server_acknowledges_us(place: Place, run: Programs) -> None:
    server, port = run.simulator("hl7_server.py")
    with place.client("AR", ("127.0.0.1", port), Text(), framing=MLLP, keep_alive=True) as ward:
        for n in range(10):
            answer = ward.ask(message(4711 + n, "Müller", n * 200), PATIENCE)
            assert fields("MSA", answer)[1:3] == ["AA", str(4711 + n)]
            assert fields("MSH", answer)[8].split("^")[0] == "ACK"
            assert server.expect(rf"^received {4711 + n} (\S+) (\d+)$").groups() == ("Müller", str(n * 200))
    server.expect("^closed$")


def test_a_client_is_acknowledged(place: Place, run: Programs) -> None:
    received: list[str] = []

    def acknowledge(request: Any) -> str:
        received.append(request.data)
        control = fields("MSH", request.data)[9]
        return f"MSH|^~\\&|LAB|B|WARD|A|20260101||ACK|{control}|P|2.5\rMSA|AA|{control}|grüß\r"

    with place.server("AR", Text(), framing=MLLP, handler=acknowledge) as lab:
        client = run.python("hl7_client.py", port_of(lab.address))
        assert client.wait().decode().splitlines() == [f"AA {4710 + n} grüß" for n in (1, 2, 3)]
    assert [text.count("OBX") for text in received] == [100, 200, 300]
    assert all(fields("PID", text)[5] == "Müller^Jörg" for text in received)


def test_mllp_send(place: Place, run: Programs, tmp_path: Path) -> None:
    """The command sends a file of messages, and waits for an acknowledgement of each."""
    texts = [message(n, "Petersen", 3) for n in (1, 2)]
    (tmp_path / "messages").write_bytes(b"".join(b"\x0b%b\x1c\r" % text.encode() for text in texts))
    with place.server("AR", Text(), framing=MLLP) as lab:
        command = [Path(sys.executable).parent / "mllp_send", "--port", port_of(lab.address)]
        client = run.start(*command, "--file", tmp_path / "messages", "127.0.0.1")
        for text in texts:
            request = lab.data_get(PATIENCE)
            assert request.data == text.rstrip("\r")  # it strips what it reads
            request.answer(f"MSH|^~\\&|LAB\rMSA|AA|{fields('MSH', text)[9]}\r")
        output = client.wait()
        assert output.count(b"MSA|AA|1") == output.count(b"MSA|AA|2") == 1, output
        assert client.process.returncode == 0

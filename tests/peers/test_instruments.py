"""Instruments: SCPI with the simulator sinstruments, a thermostat (CR in, CR LF out) with lewis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkbox import ClientP2P, DeadlineExceeded, Delimited, Dialogue, Framing, Lines, Raw, Text
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Programs, needs_package
from tests.peers.starters import julabo, supply

SCPI = Lines()
JULABO = Delimited(b"\r", receive=(b"\r\n", b"\r"))


@needs_package("sinstruments")
@pytest.mark.parametrize("keep_alive", [True, False])
def test_scpi(place: Place, run: Programs, tmp_path: Path, keep_alive: bool) -> None:
    port = supply(run, tmp_path)
    with place.client(
        "AR", ("127.0.0.1", port), Text("ascii"), framing=SCPI, keep_alive=keep_alive
    ) as device:
        assert device.ask("*IDN?", PATIENCE) == "ACME,PSU-1,4711,1.0"
        for n in range(20):
            device.tell(f"VOLT {n / 8}")
            assert float(device.ask("VOLT?", PATIENCE)) == n / 8
        with pytest.raises(DeadlineExceeded):
            device.ask("VOLT 3", timeout=1.0)  # a command has no response
        assert device.ask("SYST:ERR?", PATIENCE) == '0,"No error"'
        assert device.ask("VOLT?", PATIENCE) == "3.000"


@needs_package("sinstruments")
def test_scpi_block(run: Programs, tmp_path: Path) -> None:
    """A block has its length before it, and any bytes in it: read as a stream."""
    with ClientP2P(("127.0.0.1", supply(run, tmp_path)), framing=Raw()) as device:
        device.send(b"CURVE?\n")
        assert device.data_get_count(1, PATIENCE) == b"#"
        digits = int(device.data_get_count(1, PATIENCE))
        size = int(device.data_get_count(digits, PATIENCE))
        assert device.data_get_count(size, PATIENCE) == bytes(range(5, 15))
        assert device.data_get_until(b"\n", PATIENCE) == b""


class Answers(Framing):
    """Lines, and blocks: ``#``, how many digits, the digits, that many bytes, a newline."""

    def encode(self, payload: bytes) -> bytes:
        raise NotImplementedError

    def decoder(self, limit: int) -> AnswerDecoder:
        return AnswerDecoder()


class AnswerDecoder:
    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        self.rest += data
        while found := re.match(rb"#\d(?P<size>\d+)|[^#\n]", self.rest):
            start = 0
            if found["size"] is not None:
                digits = int(self.rest[1:2])
                if len(self.rest) < 2 + digits:
                    return
                start = 2 + digits + int(self.rest[2 : 2 + digits])
            end = self.rest.find(b"\n", start)
            if end < 0:
                return
            message, self.rest = self.rest[:end], self.rest[end + 1 :]
            yield message

    def eof(self) -> list[bytes]:
        return []


@needs_package("sinstruments")
def test_scpi_block_as_a_response(place: Place, run: Programs, tmp_path: Path) -> None:
    """The instrument reads lines, and sends lines or blocks: two framings."""
    options = {"framing": SCPI, "dialogue": Dialogue(answer=Answers()), "keep_alive": True}
    with place.client("AR", ("127.0.0.1", supply(run, tmp_path)), **options) as device:
        for _ in range(5):
            assert device.ask(b"CURVE?", PATIENCE) == b"#210" + bytes(range(5, 15))
            assert device.ask(b"*IDN?", PATIENCE) == b"ACME,PSU-1,4711,1.0"


@needs_package("lewis")
def test_lewis(place: Place, run: Programs, tmp_path: Path) -> None:
    port = julabo(run, tmp_path)
    with place.client("AR", ("127.0.0.1", port), Text("ascii"), framing=JULABO, keep_alive=True) as bath:
        assert bath.ask("VERSION", PATIENCE) == "JULABO FP50_MH Simulator, ISIS"
        assert float(bath.ask("IN_PV_00", PATIENCE)) == 24.0
        for n in (40.5, 31.0):
            bath.ask(f"OUT_SP_00 {n}", PATIENCE)
            assert float(bath.ask("IN_SP_00", PATIENCE)) == n

"""Instruments: SCPI with the simulator sinstruments, a thermostat (CR in, CR LF out) with lewis."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkbox import ClientP2P, DeadlineExceeded, Delimited, Lines, Raw, Text
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


@needs_package("lewis")
def test_lewis(place: Place, run: Programs, tmp_path: Path) -> None:
    port = julabo(run, tmp_path)
    with place.client("AR", ("127.0.0.1", port), Text("ascii"), framing=JULABO, keep_alive=True) as bath:
        assert bath.ask("VERSION", PATIENCE) == "JULABO FP50_MH Simulator, ISIS"
        assert float(bath.ask("IN_PV_00", PATIENCE)) == 24.0
        for n in (40.5, 31.0):
            bath.ask(f"OUT_SP_00 {n}", PATIENCE)
            assert float(bath.ask("IN_SP_00", PATIENCE)) == n

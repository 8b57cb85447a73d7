"""Instruments: SCPI with the simulator sinstruments, a thermostat (CR in, CR LF out) with lewis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from linkbox import ClientAR, ClientP2P, DeadlineExceeded, Delimited, Lines, Raw, Text, aio
from tests.peers.processes import PATIENCE, Programs, needs_package
from tests.peers.starters import julabo, supply

SCPI = Lines()
JULABO = Delimited(b"\r", receive=(b"\r\n", b"\r"))


@needs_package("sinstruments")
@pytest.mark.parametrize("keep_alive", [True, False])
def test_scpi(run: Programs, tmp_path: Path, keep_alive: bool) -> None:
    port = supply(run, tmp_path)
    with ClientAR(("127.0.0.1", port), Text("ascii"), framing=SCPI, keep_alive=keep_alive) as device:
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
def test_lewis(run: Programs, tmp_path: Path) -> None:
    port = julabo(run, tmp_path)
    with ClientAR(("127.0.0.1", port), Text("ascii"), framing=JULABO, keep_alive=True) as bath:
        assert bath.ask("VERSION", PATIENCE) == "JULABO FP50_MH Simulator, ISIS"
        assert float(bath.ask("IN_PV_00", PATIENCE)) == 24.0
        for n in (40.5, 31.0):
            bath.ask(f"OUT_SP_00 {n}", PATIENCE)
            assert float(bath.ask("IN_SP_00", PATIENCE)) == n


@needs_package("lewis")
def test_lewis_in_asyncio(run: Programs, tmp_path: Path) -> None:
    port = julabo(run, tmp_path)

    async def main() -> None:
        async with aio.ClientAR(("127.0.0.1", port), Text("ascii"), framing=JULABO, keep_alive=True) as bath:
            asked = ("IN_PV_00", "IN_PV_01", "IN_PV_02", "IN_PAR_06")
            found = await asyncio.gather(*(bath.ask(each, PATIENCE) for each in asked))
        assert [float(value) for value in found] == [24.0, 26.0, 5.0, 0.1]

    asyncio.run(main())

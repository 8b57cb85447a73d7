"""A power supply for the simulator ``sinstruments``: its configuration names this class."""

from sinstruments.simulator import BaseDevice


class PowerSupply(BaseDevice):
    """SCPI: lines in, lines out; commands have no answer, ``CURVE?`` has a block of IEEE 488.2."""

    voltage = 0.0

    def handle_message(self, message: bytes) -> bytes | None:
        word, _, value = message.strip().decode("ascii").partition(" ")
        match word.upper():
            case "*IDN?":
                return b"ACME,PSU-1,4711,1.0\n"
            case "VOLT":
                self.voltage = float(value)
            case "VOLT?":
                return b"%.3f\n" % self.voltage
            case "SYST:ERR?":
                return b'0,"No error"\n'
            case "CURVE?":
                return b"#210" + bytes(range(5, 15)) + b"\n"
        return None

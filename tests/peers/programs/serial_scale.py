"""A scale at a serial port, with pyserial: ``serial_scale.py DEVICE``.

Responds to ``S`` with a weight that grows by 0.5 kg, to ``Z`` (set to zero) not at all, to ``WAIT file`` when
that file exists, to everything else with ``?``.
"""

import sys
import time
from pathlib import Path

import serial

weight = 12.0
with serial.Serial(sys.argv[1], 9600, timeout=None) as port:
    print("ready", flush=True)
    while True:
        match port.read_until(b"\r").strip().split():
            case [b"S"]:
                weight += 0.5
                port.write(b"S S %8.1f kg\r\n" % weight)
            case [b"Z"]:
                weight = 0.0
            case [b"WAIT", path]:
                while not Path(path.decode()).exists():
                    time.sleep(0.01)
                port.write(b"WAITED\r\n")
            case _:
                port.write(b"?\r\n")

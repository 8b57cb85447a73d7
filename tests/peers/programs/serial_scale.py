"""A scale at a serial port, with pyserial: ``serial_scale.py DEVICE``.

Answers ``S`` with a weight that grows by 0.5 kg, ``Z`` (set to zero) not at all, everything else with ``?``.
"""

import sys

import serial

weight = 12.0
with serial.Serial(sys.argv[1], 9600, timeout=None) as port:
    print("ready", flush=True)
    while True:
        match port.read_until(b"\r").strip():
            case b"S":
                weight += 0.5
                port.write(b"S S %8.1f kg\r\n" % weight)
            case b"Z":
                weight = 0.0
            case _:
                port.write(b"?\r\n")

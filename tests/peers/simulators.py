"""Small devices for the scripts of docs/devices.md: ``python tests/peers/simulators.py scpi 5025``.

Each listens at the port (0: any that is free) and writes it; the devices that are clients connect to it.
They need nothing but Python, and not linkbox: their bytes are made by hand.
"""

from __future__ import annotations

import functools
import operator
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from io import BufferedReader

Write = Callable[[bytes], None]


def lines(stream: BufferedReader, end: bytes) -> Iterator[bytes]:
    """Up to each end, without it."""
    rest = b""
    while data := stream.read1(4096):
        *whole, rest = (rest + data).split(end)
        yield from whole


def modbus(stream: BufferedReader, write: Write) -> None:
    """A controller: holding registers that contain 1000 + their number, functions 3 and 6."""
    registers = [1000 + n for n in range(100)]
    while head := stream.read(6):
        transaction, _, length = struct.unpack(">HHH", head)
        unit, function, first, word = struct.unpack(">BBHH", stream.read(length)[:6])
        if function == 6 and first < 100:
            registers[first] = word
            body = struct.pack(">BBHH", unit, function, first, word)
        elif function == 3 and first + word <= 100:
            values = struct.pack(f">{word}H", *registers[first : first + word])
            body = bytes([unit, function, len(values)]) + values
        else:
            body = bytes([unit, function | 0x80, 2])  # no such address
        write(struct.pack(">HHH", transaction, 0, len(body)) + body)


def scpi(stream: BufferedReader, write: Write) -> None:
    """A power supply: ``*IDN?``, ``VOLT x`` (no answer), ``VOLT?``."""
    voltage = 0.0
    for line in stream:
        word, _, value = line.strip().partition(b" ")
        if word == b"VOLT":
            voltage = float(value)
        else:
            write({b"*IDN?": b"ACME,PSU-1,4711,1.0\n", b"VOLT?": b"%.3f\n" % voltage}.get(word, b"?\n"))


def thermostat(stream: BufferedReader, write: Write) -> None:
    """A bath: CR ends what it reads, CR LF what it writes; commands are answered, too."""
    target = 24.0
    for line in lines(stream, b"\r"):
        if line.startswith(b"OUT_SP_00 "):
            target = float(line[10:])
            write(b"\r\n")
        else:
            write({b"IN_PV_00": b"24.0\r\n", b"IN_SP_00": b"%.1f\r\n" % target}.get(line, b"?\r\n"))


def lrc(data: bytes) -> bytes:
    return bytes([functools.reduce(operator.xor, data, 0)])


def scale(stream: BufferedReader, write: Write) -> None:
    """STX … ETX and a checksum: ``W`` is answered by a weight."""
    weight = 12.0
    for request in lines(stream, b"\x02W\x03" + lrc(b"W\x03")):
        assert request == b"", request
        weight += 0.5
        body = b"%.1f kg\x03" % weight
        write(b"\x02" + body + lrc(body))


def lab(stream: BufferedReader, write: Write) -> None:
    """HL7 over MLLP: acknowledges each message."""
    for frame in lines(stream, b"\x1c\r"):
        assert frame[:1] == b"\x0b", frame
        control = frame.split(b"\r")[0].split(b"|")[9]
        write(b"\x0bMSH|^~\\&|LAB||WARD||20260101||ACK|1|P|2.5\rMSA|AA|%b\r\x1c\r" % control)


SENTENCES = (
    b"$GPGGA,085411.000,5222.3215,N,00454.5778,E,1,4,2.95,16.0,M,47.0,M,,*61\r\n"
    b"$GPVTG,251.34,T,,M,0.58,N,1.07,K,A*37\r\n"
)


def gps(stream: BufferedReader, write: Write) -> None:
    """A receiver: sends a position and a speed, then waits until the client closes."""
    write(SENTENCES)
    stream.read()


def gpsd(stream: BufferedReader, write: Write) -> None:
    """The JSON of gpsd."""
    write(b'{"class":"VERSION","release":"3.22","proto_major":3,"proto_minor":14}\n')
    assert b"WATCH" in stream.readline()
    write(b'{"class":"DEVICES","devices":[]}\n{"class":"TPV","mode":3,"lat":52.372025,"lon":4.909630}\n')
    stream.read()


def router(stream: BufferedReader, write: Write) -> None:
    """syslog with octet counting; one message contains a newline."""
    for text in ("<34>1 - host su: failed for größe", "<34>1 - host su:\ntwo lines"):
        write(b"%d %b" % (len(text.encode()), text.encode()))


def ward(stream: BufferedReader, write: Write) -> None:
    """HL7 over MLLP: sends a result, and reads the acknowledgement."""
    write(b"\x0bMSH|^~\\&|WARD||LAB||20260101||ORU^R01|4711|P|2.5\rPID|1||7||Smith\r\x1c\r")
    print(next(lines(stream, b"\x1c\r")).decode(), flush=True)


Device = Callable[[BufferedReader, Write], None]
LISTEN: dict[str, Device] = {
    each.__name__: each for each in (modbus, scpi, thermostat, scale, lab, gps, gpsd)
}
CONNECT: dict[str, Device] = {each.__name__: each for each in (router, ward)}


def serve(device: Device, connection: socket.socket) -> None:
    try:
        with connection, connection.makefile("rb") as stream:
            device(stream, connection.sendall)
    except ConnectionError:
        pass  # the client has gone


def main(name: str, port: int) -> None:
    if name in CONNECT:
        serve(CONNECT[name], socket.create_connection(("127.0.0.1", port)))
        return
    with socket.create_server(("127.0.0.1", port)) as listener:
        print("listening at", listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(LISTEN[name], connection), daemon=True).start()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in (*LISTEN, *CONNECT):
        sys.exit(f"usage: simulators.py {'|'.join((*LISTEN, *CONNECT))} [PORT]")
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 0)

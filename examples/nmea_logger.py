"""A logger for NMEA 0183, the protocol of GPS and wind instruments: checks and counts the sentences."""

import socket
import threading
from collections import Counter
from functools import reduce

from linkbox import Address, EventKind, Lines, ServerP2M


def checksum(body):
    return b"%02X" % reduce(lambda total, byte: total ^ byte, body, 0)


def instruments(address):
    """Simulate the instruments of a boat: a bare socket, CRLF, and one sentence with a wrong checksum."""
    target = Address.parse(address)
    with socket.create_connection((target.host, target.port)) as sock:
        for second in range(50):
            for body in (
                b"GPGGA,0854%02d,5222.3215,N,00454.5778,E,1,08,0.9,16.0,M,47.0,M,," % second,
                b"WIMWV,%d.0,R,12.5,N,A" % (second * 7 % 360),
            ):
                sock.sendall(b"$" + body + b"*" + checksum(body) + b"\r\n")
        sock.sendall(b"$WIMWV,999.0,R,12.5,N,A*00\r\n")


ended = threading.Event()
kinds, flawed = Counter(), []
with ServerP2M("tcp://127.0.0.1:0", framing=Lines()) as server:
    server.add_callback(lambda event: ended.set(), EventKind.END)
    thread = threading.Thread(target=instruments, args=(server.address,))
    thread.start()
    assert ended.wait(10)  # END is emitted when everything before it is in the mailbox
    thread.join()
    for sentence in server.data_get_all():
        body, _, digits = sentence.removeprefix(b"$").partition(b"*")
        if checksum(body) == digits:
            kinds[body[:5].decode()] += 1
        else:
            flawed.append(sentence)

print(dict(kinds), "flawed:", flawed)
assert kinds == {"GPGGA": 50, "WIMWV": 50} and len(flawed) == 1

"""A framing of your own: STX text ETX LRC, as many balances, readers and meters have it.

The LRC is the exclusive or of the bytes behind STX, ETX included. A frame with a wrong one is left out and
reported with ERROR; the next one is found at its STX. The device sends ACK and NAK outside of frames: here
they are messages too. Without them, use `Enclosed(b"\\x02", b"\\x03", checksum=lrc, checksum_after=True)`.
"""

import functools
import operator
import socket
import threading

from linkbox import ClientP2P, DecodeError, EventKind, FormatError, Framing

STX, ETX, ACK, NAK = b"\x02", b"\x03", b"\x06", b"\x15"


def lrc(data: bytes) -> bytes:
    return bytes([functools.reduce(operator.xor, data, 0)])


class StxEtx(Framing):
    def encode(self, payload: bytes) -> bytes:
        if payload in (ACK, NAK):
            return payload
        if STX in payload or ETX in payload:
            raise FormatError("STX and ETX cannot be in a text")
        return STX + payload + ETX + lrc(payload + ETX)

    def decoder(self, limit: int) -> "StxEtxDecoder":
        return StxEtxDecoder(limit)


class StxEtxDecoder:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.rest = b""

    def feed(self, data: bytes):
        self.rest += data
        while self.rest:
            if self.rest[:1] != STX:  # Between frames: ACK and NAK count, everything else is noise.
                mark, self.rest = self.rest[:1], self.rest[1:]
                if mark in (ACK, NAK):
                    yield mark
                continue
            end = self.rest.find(ETX)
            if end < 0 or end + 1 == len(self.rest):
                if len(self.rest) > self.limit + 3:
                    raise ValueError("a frame without ETX")
                break
            covered, found = self.rest[1 : end + 1], self.rest[end + 1 : end + 2]
            if lrc(covered) == found:
                self.rest = self.rest[end + 2 :]
                yield covered[:-1]
            else:
                self.rest = self.rest[end + 1 :]  # The LRC may have got lost.
                yield DecodeError(f"LRC {found.hex()} instead of {lrc(covered).hex()}: {covered[:40]!r}")

    def eof(self):
        return []


def balance(listener: socket.socket) -> None:
    """A device: an ACK and a weight for each request, one of them damaged on the way."""
    connection, _ = listener.accept()
    with connection:
        for weight in (b" 12.50 g", b" 12.51 g", b" 12.52 g"):
            connection.recv(4, socket.MSG_WAITALL)
            frame = StxEtx().encode(weight)
            if weight.endswith(b"51 g"):
                connection.sendall(ACK + frame.replace(b"5", b"7"))
            else:
                connection.sendall(ACK + frame)
        connection.recv(1)


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=balance, args=(listener,), daemon=True).start()
        with ClientP2P(("127.0.0.1", listener.getsockname()[1]), framing=StxEtx()) as device:
            device.add_callback(lambda event: print("error:", event.error), EventKind.ERROR)
            for _ in range(3):
                device.send(b"W")
            for _ in range(5):
                print(device.data_get(timeout=5))

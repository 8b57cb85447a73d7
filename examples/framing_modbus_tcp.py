"""A framing of your own: Modbus TCP. A message is a whole frame: header, unit, function, data.

`LengthPrefixed(2, offset=4, keep_header=True)` finds the same messages; this one also checks the header.
"""

import socket
import struct
import threading

from linkbox import ClientP2P, Framing

HEADER = struct.Struct(">HHH")  # transaction, protocol (always 0), bytes that follow


class ModbusTcp(Framing):
    def encode(self, payload: bytes) -> bytes:
        return payload

    def decoder(self, limit: int) -> "ModbusDecoder":
        return ModbusDecoder()


class ModbusDecoder:
    def __init__(self) -> None:
        self.rest = b""

    @property
    def pending(self) -> int:
        return len(self.rest)

    def feed(self, data: bytes):
        self.rest += data
        while len(self.rest) >= HEADER.size:
            _, protocol, length = HEADER.unpack_from(self.rest)
            if protocol or not 2 <= length <= 254:
                raise ValueError(f"no Modbus header: {self.rest[:6].hex(' ')}")
            end = HEADER.size + length
            if len(self.rest) < end:
                break
            message, self.rest = self.rest[:end], self.rest[end:]
            yield message

    def eof(self):
        if self.rest:
            raise ValueError(f"{len(self.rest)} bytes of a frame that is not complete")
        return []


def read_registers(transaction: int, first: int, count: int) -> bytes:
    """Function 3: read holding registers."""
    return HEADER.pack(transaction, 0, 6) + struct.pack(">BBHH", 1, 3, first, count)


def controller(listener: socket.socket) -> None:
    """A device with registers that contain their own numbers."""
    connection, _ = listener.accept()
    with connection:
        while request := connection.recv(12, socket.MSG_WAITALL):
            transaction, _, _, _, _, first, count = struct.unpack(">HHHBBHH", request)
            values = struct.pack(f">{count}H", *range(first, first + count))
            connection.sendall(
                HEADER.pack(transaction, 0, 3 + len(values)) + bytes([1, 3, len(values)]) + values
            )


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=controller, args=(listener,), daemon=True).start()
        with ClientP2P(("127.0.0.1", listener.getsockname()[1]), framing=ModbusTcp()) as device:
            for transaction in (1, 2):
                device.send(read_registers(transaction, 100 * transaction, 3))
            for _ in range(2):
                response = device.data_get(timeout=5)
                print("transaction", response[1], struct.unpack(">3H", response[9:]))

"""Modbus TCP with pymodbus: it is the device, then the client."""

from __future__ import annotations

import struct
import threading
from typing import Any

import pytest

from linkbox import Backoff, Dialogue, LengthPrefixed
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Programs, needs_package, port_of, until

pytestmark = needs_package("pymodbus")
MODBUS = LengthPrefixed(2, offset=4, keep_header=True)
SAME = Dialogue(match=lambda request, response: request[:2] == response[:2])
"""The transaction is the same."""


def frame(transaction: int, function: int, *words: int, data: bytes = b"") -> bytes:
    body = struct.pack(f">BB{len(words)}H", 1, function, *words) + data
    return struct.pack(">HHH", transaction, 0, len(body)) + body


def registers(response: bytes) -> list[int]:
    assert response[8] == len(response) - 9
    return list(struct.unpack(f">{response[8] // 2}H", response[9:]))


@pytest.fixture
def port(run: Programs) -> int:
    return run.simulator("modbus_server.py")[1]


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_device_is_asked(place: Place, port: int, keep_alive: bool) -> None:
    with place.client(
        "AR", ("127.0.0.1", port), framing=MODBUS, keep_alive=keep_alive, dialogue=SAME
    ) as client:
        assert registers(client.ask(frame(1, 3, 10, 3), PATIENCE)) == [1010, 1011, 1012]
        assert client.ask(frame(2, 6, 11, 0xBEEF), PATIENCE) == frame(2, 6, 11, 0xBEEF)
        assert client.ask(frame(3, 16, 12, 2, data=bytes([4, 0, 7, 0, 8])), PATIENCE) == frame(3, 16, 12, 2)
        assert registers(client.ask(frame(4, 3, 10, 4), PATIENCE)) == [1010, 0xBEEF, 7, 8]
        assert registers(client.ask(frame(5, 4, 0, 100), PATIENCE)) == list(range(1000, 1100))
        coils = client.ask(frame(6, 1, 0, 16), PATIENCE)
        assert coils[8:] == bytes([2, 0b01001001, 0b10010010])
        illegal = client.ask(frame(7, 3, 5000, 1), PATIENCE)
        assert illegal == frame(7, 0x83, data=b"\x02")  # illegal data address


def test_many_threads_ask_one_device(place: Place, port: int) -> None:
    wrong: list[Any] = []
    with place.client("AR", ("127.0.0.1", port), framing=MODBUS, keep_alive=True, dialogue=SAME) as client:

        def ask(first: int) -> None:
            for n in range(first, first + 25):
                got = registers(client.ask(frame(n, 3, n, 1), PATIENCE))
                if got != [1000 + n]:
                    wrong.append((n, got))

        threads = [threading.Thread(target=ask, args=(first,)) for first in (0, 25, 50, 75)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_device_that_is_restarted_is_picked_up(place: Place, run: Programs) -> None:
    device, port = run.simulator("modbus_server.py")
    at_once = Backoff(initial=0.01, maximum=0.05)
    with place.client("P2P", ("127.0.0.1", port), framing=MODBUS, reconnect=at_once) as client:
        client.send(frame(1, 3, 7, 1))
        assert registers(client.data_get(PATIENCE)) == [1007]
        device.kill()
        until(lambda: not client.peers(), "the client notices")
        run.simulator("modbus_server.py", port)
        client.wait_connected(timeout=PATIENCE)
        client.send(frame(2, 3, 8, 1))
        assert registers(client.data_get(PATIENCE)) == [1008]


class Device:
    """A linkbox server with 200 registers."""

    def __init__(self) -> None:
        self.values = [1000 + n for n in range(200)]

    def handle(self, request: Any) -> bytes:
        transaction, _, length, unit, function, first, word = struct.unpack_from(">HHHBBHH", request.data)
        assert (unit, length) == (1, len(request.data) - 6)
        if function == 6:
            self.values[first] = word
            return request.data
        if first + word > len(self.values):
            return frame(transaction, function | 0x80, data=b"\x02")
        if function == 16:
            self.values[first : first + word] = struct.unpack_from(f">{word}H", request.data, 13)
            return frame(transaction, function, first, word)
        found = struct.pack(f">{word}H", *self.values[first : first + word])
        return frame(transaction, function, data=bytes([len(found)]) + found)


def test_a_pymodbus_client_asks_us(place: Place, run: Programs) -> None:
    device = Device()
    with place.server("AR", framing=MODBUS, handler=device.handle) as server:
        client = run.python("modbus_client.py", port_of(server.address))
        output = client.wait().decode()
    assert output.splitlines() == [
        "registers [1010, 1011, 1012]",
        "written True",
        "written True",
        "registers [1010, 48879, 1012]",
        f"sum {sum(range(100))}",
        "exception 131 2",
    ]

"""A Modbus TCP device of pymodbus: ``modbus_server.py [PORT]``.

Registers 0 to 99 contain 1000 + their number; of 16 coils every third is on.
"""

import asyncio
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


async def main() -> None:
    numbers = [SimData(0, values=[1000 + n for n in range(100)], datatype=DataType.REGISTERS)]
    coils = [SimData(0, values=[n % 3 == 0 for n in range(16)], datatype=DataType.BITS)]
    device = SimDevice(id=1, simdata=(coils, coils, numbers, numbers))
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = ModbusTcpServer(device, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    print("listening at", server.transport.sockets[0].getsockname()[1], flush=True)
    await server.serving


asyncio.run(main())

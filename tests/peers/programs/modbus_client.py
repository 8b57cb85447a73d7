"""A client of pymodbus: ``modbus_client.py PORT``; prints what it has read."""

import sys

from pymodbus.client import ModbusTcpClient

client = ModbusTcpClient("127.0.0.1", port=int(sys.argv[1]), timeout=20, retries=0)
assert client.connect()
print("registers", client.read_holding_registers(10, count=3, device_id=1).registers)
print("written", not client.write_register(11, 0xBEEF, device_id=1).isError())
print("written", not client.write_registers(20, list(range(100)), device_id=1).isError())
print("registers", client.read_holding_registers(10, count=3, device_id=1).registers)
print("sum", sum(client.read_holding_registers(20, count=100, device_id=1).registers))
refused = client.read_holding_registers(5000, count=1, device_id=1)
print("exception", refused.function_code, refused.exception_code)
client.close()

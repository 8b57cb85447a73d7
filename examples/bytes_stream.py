"""Bytes as a stream: sent in pieces of random sizes, read in other sizes, across message boundaries."""

import random
import struct

from linkbox import ClientP2P, ServerP2P

HEADER = struct.Struct(">I")
records = [random.randbytes(random.randint(0, 5000)) for _ in range(500)]
stream = b"".join(HEADER.pack(len(record)) + record for record in records)

with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
    position = 0
    while position < len(stream):
        size = random.randint(1, 9999)
        client.send(stream[position : position + size])
        position += size

    # The reader takes as many bytes as it needs next, however the sender split them.
    for record in records:
        (length,) = HEADER.unpack(server.data_get_count(HEADER.size, timeout=10))
        assert length == 0 or server.data_get_count(length, timeout=10) == record
    assert server.data_empty()

print(len(records), "records,", len(stream), "bytes, all equal")

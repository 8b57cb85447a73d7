"""A custom format: any object with a name, encode and decode. Here: compressed JSON."""

import json
import zlib

from linkbox import ClientP2M, DecodeError, FormatError, ServerP2M


class ZippedJson:
    """JSON, compressed."""

    name = "zipped-json"  # both ends must use the same name

    def encode(self, value):
        try:
            return zlib.compress(json.dumps(value).encode())
        except TypeError as error:
            raise FormatError(str(error)) from error

    def decode(self, data):
        try:
            return json.loads(zlib.decompress(data))
        except (ValueError, zlib.error) as error:
            raise DecodeError(str(error)) from error


table = [{"name": f"row {number}", "values": [number, number**2]} for number in range(5000)]

with ServerP2M("tcp://127.0.0.1:0", format=ZippedJson()) as server:
    with ClientP2M(server.address, format=ZippedJson()) as client:
        client.send(table)
        sent = client.statistics().bytes_sent
    assert server.data_get(timeout=5) == table
    print(f"{len(json.dumps(table))} bytes of JSON, {sent} bytes on the wire")

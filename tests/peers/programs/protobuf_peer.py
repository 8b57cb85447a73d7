"""Google's protobuf: ``protobuf_peer.py PORT`` sends a delimited stream, and prints the one it receives."""

import socket
import sys

from google.protobuf import proto, struct_pb2

with (
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection,
    connection.makefile("rwb") as stream,
):
    for n in range(200):
        sent = struct_pb2.Struct()
        sent.update({"n": n, "text": "ü" * n, "list": [True, None, n / 8]})
        proto.serialize_length_prefixed(sent, stream)
    stream.flush()
    connection.shutdown(socket.SHUT_WR)
    while (got := proto.parse_length_prefixed(struct_pb2.Struct, stream)) is not None:
        print("received", int(got["n"]), len(got["text"]), list(got["list"]))
print("end")

"""Delimited streams of protocol buffers: Google's own reader and writer at the other end."""

from __future__ import annotations

from typing import Any

from linkbox import ServerAR, VarintPrefixed
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Programs, needs_package, port_of

pytestmark = needs_package("protobuf")


class Proto:
    """A format for messages of one type of protocol buffers."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.name = kind.DESCRIPTOR.full_name

    def encode(self, value: Any) -> bytes:
        return value.SerializeToString()

    def decode(self, data: bytes) -> Any:
        return self.kind.FromString(data)


def test_structs_are_answered(run: Programs) -> None:
    from google.protobuf import struct_pb2

    def handle(request: Any) -> Any:
        answer = struct_pb2.Struct()
        answer.CopyFrom(request.data)
        answer["n"] = request.data["n"] + 1000
        return answer

    with ServerAR(
        "tcp://127.0.0.1:0", Proto(struct_pb2.Struct), framing=VarintPrefixed(), handler=handle
    ) as server:
        peer = run.python("protobuf_peer.py", port_of(server.address))
        output = peer.wait().decode().splitlines()
    assert output == [*(f"received {n + 1000} {n} [True, None, {n / 8}]" for n in range(200)), "end"]


def test_structs_go_into_a_mailbox(place: Place, run: Programs) -> None:
    from google.protobuf import struct_pb2

    with place.server("P2M", Proto(struct_pb2.Struct), framing=VarintPrefixed()) as server:
        peer = run.python("protobuf_peer.py", port_of(server.address))
        for n in range(200):
            got = server.data_get(PATIENCE)
            assert (got["n"], got["text"], list(got["list"])) == (n, "ü" * n, [True, None, n / 8])
        assert peer.wait() == b"end\n"

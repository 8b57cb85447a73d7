"""The test vectors of the wire: the code does what docs/vectors.json says, docs/protocol.md shows it all.

Frames are encoded and decoded; whole conversations are spoken with a real server over a bare socket, and
with a real client.
"""

from __future__ import annotations

import hmac
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from linkbox import ClientAR, ClientP2M, Server, ServerAR, ServerP2M, ServerP2P
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake
from linkbox.core.wire.decoder import Decoder
from linkbox.errors import ProtocolViolation
from tests.core.wire import decode_message, encode_message

DOCS = Path(__file__).parents[2] / "docs"
VECTORS: dict[str, Any] = json.loads((DOCS / "vectors.json").read_text(encoding="utf-8"))
CONVERSATIONS: dict[str, Any] = {each["name"]: each for each in VECTORS["conversations"]}
PREFACE = bytes.fromhex(VECTORS["preface"])
HANDSHAKE = {"HELLO": handshake.Hello, "WELCOME": handshake.Welcome, "REFUSE": handshake.Refuse}
SERVERS: dict[str, Callable[[str], Server[Any, Any]]] = {"p2p": ServerP2P, "p2m": ServerP2M, "ar": ServerAR}


def unhex(value: Any) -> Any:
    return [bytes.fromhex(each) for each in value] if isinstance(value, list) else bytes.fromhex(value)


def encode(type: str, fields: dict[str, Any]) -> bytes:
    """The whole frame for these fields, as this library writes it."""
    given = {key: unhex(value) if key in ("body", "bodies") else value for key, value in fields.items()}
    if type in HANDSHAKE:
        return encode_message(msgspec.convert(given, HANDSHAKE[type]))
    values = list(given.values())
    match type:
        case "DATA":
            return frames.frame(frames.DATA, *values)
        case "BATCH":
            return frames.encode_batch(*values)
        case "PART":
            return (
                frames.encode_first_part(*values) if "total" in given else frames.frame(frames.PART, *values)
            )
        case "ACK":
            return frames.encode_ack(*values)
        case "ACK_NOW":
            return frames.frame(frames.ACK_NOW)
        case "PING" | "PONG" | "END" | "END_ACK" | "GOAWAY":
            return frames.encode_number(frames.Type[type], *values)
        case _:
            encoded: bytes = getattr(frames, f"encode_{type.lower()}")(*values)
            return encoded


def decode(kind: int, payload: bytes, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a payload, as this library reads it, in the notation of the vectors."""
    type = frames.type_name(kind)
    found: Any
    if type in HANDSHAKE:
        as_json: dict[str, Any] = json.loads(msgspec.json.encode(decode_message(kind, payload)))
        return as_json
    if type in ("PING", "PONG", "END", "END_ACK", "GOAWAY"):
        found = (frames.decode_number(kind, payload),)
    elif type == "DATA" or (type == "PART" and "total" not in fields):
        found = (payload,)
    elif type == "PART":
        found = frames.decode_first_part(payload)
    elif type == "BATCH":
        found = (frames.decode_batch(payload),)
    elif type == "ACK_NOW":
        found = ()
    else:
        found = getattr(frames, f"decode_{type.lower()}")(payload)
    return dict(zip(fields, map(shown, found), strict=True))


def shown(value: Any) -> Any:
    if isinstance(value, list):
        return [shown(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value


def taken_apart(data: bytes) -> list[tuple[int, bytes]]:
    """All frames in these bytes, which may begin with a preface."""
    decoder = Decoder()
    found = decoder.receive(data.removeprefix(PREFACE))
    assert decoder.error is None
    assert decoder.buffered == 0
    return found


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda vector: vector["name"])
def test_frame(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    assert encode(vector["type"], vector["fields"]).hex() == vector["hex"]
    ((kind, payload),) = taken_apart(data)
    assert frames.type_name(kind) == vector["type"]
    assert decode(kind, payload, vector["fields"]) == vector["fields"]


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_bad_frame(vector: dict[str, Any]) -> None:
    decoder = Decoder()
    found = decoder.receive(bytes.fromhex(vector["hex"]))
    if decoder.error is not None:
        assert found == []
        return
    ((kind, payload),) = found
    first = {"total": 0, "body": ""} if kind == frames.PART else {}
    with pytest.raises(ProtocolViolation):
        decode(kind, payload, first)


def test_every_type_has_a_vector() -> None:
    """CHALLENGE and PROOF have theirs in a table of their own."""
    assert {vector["type"] for vector in VECTORS["frames"]} == {each.name for each in frames.Type} - {
        "CHALLENGE",
        "PROOF",
    }


@pytest.mark.parametrize("vector", VECTORS["proofs"], ids=lambda vector: vector["name"])
def test_proofs(vector: dict[str, Any]) -> None:
    """Both sides of this library say what the vector says; and by hand, it is what the page says."""
    part = {key: bytes.fromhex(value) for key, value in vector.items() if key != "name"}
    nonce = bytes.fromhex(json.loads(part["challenge"][4:])["nonce"])

    def lookup(name: str) -> list[bytes]:
        return [part["secret"]]

    server = auth.ServerSide(lookup, part["hello"], nonce, "server", part["certificate"])
    client = auth.ClientSide(lookup, part["hello"])
    assert server.challenge() == part["challenge"]
    proof = client.prove(part["challenge"][4:], part["client_nonce"], part["certificate"])
    assert proof == part["client_proof"]
    assert server.check(part["client_proof"][4:], "client") == part["server_proof"]
    assert client.check(part["server_proof"][4:])
    for role in ("client", "server"):
        text = f"linkbox 1 {role}".encode()
        covered = [part["hello"], part["challenge"][4:], part["client_nonce"], part["certificate"]]
        for each in filter(None, covered):
            text += len(each).to_bytes(4, "big") + each
        said = json.loads(part[f"{role}_proof"][4:])["mac"]
        assert said == hmac.new(part["secret"], text, "sha256").hexdigest()


def test_preface() -> None:
    assert frames.preface() == PREFACE
    assert frames.check_preface(PREFACE) == VECTORS["version"] == frames.VERSION


def test_the_page_shows_every_vector() -> None:
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")
    squeezed = re.sub(r"\s", "", page)
    steps = [step for conversation in VECTORS["conversations"] for step in conversation["steps"]]
    every = [*VECTORS["frames"], *VECTORS["bad"], *steps, {"hex": VECTORS["preface"]}]
    proofs = [
        value for each in VECTORS["proofs"] for key, value in each.items() if key not in ("name", "hello")
    ]
    hexes = [each["hex"] for each in every] + proofs
    assert [each for each in hexes if each not in squeezed] == []
    # The table of types and sizes, row by row: | 16 | DATA | … | 1048576 |
    table = {
        name: (int(number), int(most)) for number, name, most in re.findall(TYPE_ROW, page, re.MULTILINE)
    }
    assert table == {each.name: (each.value, frames.MAXIMUM[each]) for each in frames.Type}


def test_the_page_names_every_key_of_the_handshake() -> None:
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")
    for name, message in (("HELLO", handshake.Hello), ("WELCOME", handshake.Welcome)):
        table = page.partition(f"\n{name}:\n\n")[2].partition("\n\n")[0]
        assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == documented(message)


def documented(message: Any) -> list[str]:
    """The keys in the order of the class; the page may group them differently, but not leave one out."""
    return [each.name for each in msgspec.structs.fields(message)]


TYPE_ROW = r"^\| (\d+) \| ([A-Z_]+) \|.*\| (\d+) \|$"


@pytest.mark.parametrize("conversation", VECTORS["conversations"], ids=lambda each: each["name"])
def test_steps_say_which_frames_they_hold(conversation: dict[str, Any]) -> None:
    for step in conversation["steps"]:
        found = [frames.type_name(kind) for kind, _ in taken_apart(bytes.fromhex(step["hex"]))]
        assert found == step["frames"]


class Wire:
    """A bare socket that speaks one half of the wire."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._decoder = Decoder()
        self._greeted = False

    @classmethod
    def to(cls, address: str) -> Wire:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        return cls(socket.create_connection((host, int(port)), timeout=10))

    def send(self, hex: str) -> None:
        self._socket.sendall(bytes.fromhex(hex))

    def frames(self) -> Iterator[tuple[int, bytes]]:
        if not self._greeted:
            assert self._socket.recv(len(PREFACE), socket.MSG_WAITALL) == PREFACE
            self._greeted = True
        while data := self._socket.recv(65536):
            found = self._decoder.receive(data)
            assert self._decoder.error is None
            yield from found

    def read_until(self, kind: int) -> bytes:
        """Read on until a frame of that type; its payload."""
        return next(payload for found, payload in self.frames() if found == kind)

    def read_messages(self, count: int) -> list[str]:
        """That many messages, as DATA or BATCH: how they are cut into frames is the sender's choice."""
        found: list[str] = []
        for kind, payload in self.frames():
            if kind in (frames.DATA, frames.BATCH):
                found += map(bytes.hex, frames.decode_batch(payload) if kind == frames.BATCH else [payload])
            if len(found) >= count:
                break
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_server_takes_the_clients_half(name: str) -> None:
    conversation = CONVERSATIONS[name]
    got: list[Any] = []
    connection, wire = 0, None
    with SERVERS[conversation["pattern"]]("tcp://127.0.0.1:0") as server:
        for step in conversation["steps"]:
            if step["connection"] != connection:
                if wire is not None:
                    got.append(server.data_get(10))  # It breaks when all that was sent has arrived.
                    wire.close()
                wire, connection = Wire.to(server.address), step["connection"]
            assert wire is not None
            if step["from"] == "client":
                wire.send(step["hex"])
            else:
                serve(server, wire, conversation, step, got)
        if wire is not None:
            wire.close()
        got += [server.data_get(10) for _ in conversation["delivers"][len(got) :]]
    assert [each.hex() for each in got] == conversation["delivers"]


def serve(
    server: Server[Any, Any], wire: Wire, conversation: dict[str, Any], step: dict[str, Any], got: list[Any]
) -> None:
    """What the application and the wire do in a step of the server's."""
    for payload in step.get("answers", []):
        request = server.data_get(10)
        got.append(request.data)
        request.answer(bytes.fromhex(payload))
    if "sends" in step:
        assert isinstance(server, ServerP2P)
        got.append(server.data_get(10))
        for payload in step["sends"]:
            server.send(bytes.fromhex(payload))
        assert wire.read_messages(len(step["sends"])) == step["sends"]
        return
    kind, expected = taken_apart(bytes.fromhex(step["hex"]))[-1]
    payload = wire.read_until(kind)
    if kind == frames.WELCOME:
        wanted, found = decode_message(kind, expected), decode_message(kind, payload)
        assert isinstance(wanted, handshake.Welcome)
        assert isinstance(found, handshake.Welcome)
        assert (found.received, found.resumed) == (wanted.received, wanted.resumed)
    elif kind == frames.ACK:
        assert frames.decode_ack(payload)[0] == frames.decode_ack(expected)[0]
    else:
        assert payload == expected


@pytest.mark.parametrize("name", ["p2m", "ar"])
def test_a_client_takes_the_servers_half(name: str) -> None:
    """In these two the client says all it has to say in its first write."""
    conversation = CONVERSATIONS[name]
    hexes = [step["hex"] for step in conversation["steps"] if step["from"] == "server"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"

        def serve_one() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(10)
                wire = Wire(sock)
                wire.read_until(frames.END)
                for hex in hexes:
                    wire.send(hex)
                wire.read_until(frames.END_ACK)

        thread = threading.Thread(target=serve_one, daemon=True)
        thread.start()
        payloads = unhex(conversation["delivers"])
        if name == "p2m":
            with ClientP2M(address, reconnect=None) as pusher:
                assert pusher.send_many(payloads, timeout=10) == len(payloads)
        else:
            with ClientAR(address, reconnect=None) as asker:
                assert asker.ask(payloads[0], timeout=10).hex() == conversation["steps"][1]["answers"][0]
        thread.join(10)
        assert not thread.is_alive()

"""Messages that cost more than their size: in memory, or in time. Limits count what they cost."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest

from linkbox import EventKind, Json, Limits, Lines, MsgPack, TooLarge, Typed
from linkbox.core.wire import frames
from tests.faults.bare import Bare, data, reason_of
from tests.faults.place import BUSY, PATIENCE, Place, growing_less_than
from tests.threaded.helpers import Process, wait_until

MIB = 1 << 20
PEERS = 20
SAME_HASH = (1 << 61) - 1


def array(item: bytes, size: int) -> bytes:
    """A JSON array of about that size."""
    return b"[" + b",".join([item] * (size // (len(item) + 1))) + b"]"


def packed(item: bytes, size: int) -> bytes:
    """The same in MessagePack."""
    return b"\xdd" + struct.pack(">I", size // len(item)) + item * (size // len(item))


def in_frames(message: bytes) -> bytes:
    """The frames of a message of any size."""
    step = frames.MAX_PIECE // 2
    pieces = [message[at : at + step] for at in range(0, len(message), step)]
    if len(pieces) == 1:
        return data(message)
    first = frames.encode_first_part(len(message), pieces[0])
    return first + b"".join(frames.frame(frames.PART, piece) for piece in pieces[1:-1]) + data(pieces[-1])


# --- One message that takes long ------------------------------------------------------------------------


@contextmanager
def rejecting(place: Place, format: Any, **limits: Any) -> Iterator[Callable[[bytes, bytes], str]]:
    """A server; the function sends a message and a good one, and returns why the first was rejected."""
    name = "msgpack" if isinstance(format, MsgPack) else "json"
    options: dict[str, Any] = {"limits": Limits(**limits)}
    # The well-behaved client talks to another server: not every format has values for it.
    with (
        place.serving(pause=BUSY),
        place.server("P2P", format, **options) as server,
        Bare(place, server.address) as bare,
    ):
        ear = place.ear(server, EventKind.ERROR)
        bare.meet(format=name)
        view, count = place.view(server), 0

        def try_it(message: bytes, good: bytes) -> str:
            nonlocal count
            count += 1
            bare.say(in_frames(message), data(good))
            reason = reason_of(bare.until(frames.REJECT))
            assert isinstance(ear.wait(count).error, TooLarge)
            view.data_get(PATIENCE)
            return reason

        yield try_it


def test_json_that_takes_seconds(place: Place) -> None:
    """Each of these took the interpreter up to a minute at 16 MiB."""
    with rejecting(place, Json()) as reason:
        for number in (b"1e308", b"5e-324", b"1.7976931348623157e308"):
            assert "slow to read" in reason(array(number, MIB), array(b"1.5", 1000))
        assert "slow to read" in reason(array(b"9" * 4300, 8 * MIB), array(b"9" * 4300, 10_000))
        for item in (b"{}", b'{"":{}}', b"[" * 98 + b"]" * 98):
            assert "bytes of memory" in reason(array(item, 2 * MIB), array(item, 1000))


def test_a_type_that_takes_seconds(place: Place) -> None:
    wide = msgspec.defstruct("Wide", [(f"f{number}", list[int], []) for number in range(50)])
    with rejecting(place, Typed(list[wide])) as reason:
        assert "bytes of memory" in reason(array(b"{}", MIB), b"[{}]")
    with rejecting(place, Typed(list[float])) as reason:
        assert "slow to read" in reason(array(b"1e308", MIB), b"[1e308]")
    with rejecting(place, Typed(set[int])) as reason:
        same = json.dumps([number * SAME_HASH for number in range(10_000)])
        assert "keys that are not text" in reason(same.encode(), b"[1]")


def test_messagepack_that_takes_seconds(place: Place) -> None:
    with rejecting(place, MsgPack()) as reason:
        for item in (b"\x90", b"\x80", b"\x81\0\x80", b"\x91" * 500 + b"\0"):
            assert "bytes of memory" in reason(packed(item, 2 * MIB), packed(item, 1000))
        keys = {number << 40: 0 for number in range(100_000)}
        assert "keys that are not text" in reason(msgspec.msgpack.encode(keys), b"\x81\x01\x02")


def test_requests_that_take_seconds(place: Place) -> None:
    """The client of such a request is told, and so is one whose response is such a message."""
    expensive = msgspec.json.decode(array(b"1e308", MIB))
    with (
        place.serving(
            "AR", Json, handler=lambda request: expensive if request.data == "1" else request.data
        ) as server,
        place.client("AR", server.address, Json()) as client,
    ):
        for request in (expensive, "1"):
            with pytest.raises(TooLarge, match="slow to read"):
                client.ask(request, timeout=PATIENCE)
        assert client.ask("2", timeout=PATIENCE) == "2"


@pytest.mark.parametrize("format", [Json(), MsgPack()], ids=["json", "msgpack"])
def test_a_request_that_goes_on_costs_what_it_takes(place: Place, format: Any) -> None:
    """Its messages are decoded, and kept until it is complete: a mebibyte of them was thirty in memory."""
    limits = Limits(mailbox_total=8 * MIB, message=MIB)
    message = array(b"[]", 9000) if isinstance(format, Json) else packed(b"\x90", 3000)

    def handle(request: Any) -> Any:
        return request.data if len(request.messages) == 1 else len(request.messages)

    with (
        place.serving("AR", format, limits=limits, handler=handle) as server,
        Bare(place, server.address) as bare,
    ):
        bare.meet(pattern="ar", format=format.name)
        with growing_less_than(40):
            for id in range(1, 4):
                bare.say(frames.encode_ask(id, frames.MORE_OF_ASK, None, message) * 200)
                assert frames.decode_fail(bare.until(frames.FAIL))[:2] == (id, "linkbox.TooLarge")
        bare.say(frames.encode_ask(4, frames.MORE_OF_ASK, None, message) * 3)
        bare.say(frames.encode_ask(4, frames.NO_MESSAGE, None, b""))
        assert frames.decode_answer(bare.until(frames.ANSWER))[2] in (b"3", b"\x03")


def test_the_limit_decoded_can_be_raised(place: Place) -> None:
    message = array(b"{}", MIB)
    with (
        place.serving(pause=BUSY),
        place.server("P2P", Json(), limits=Limits(decoded=256 * MIB)) as server,
        Bare(place, server.address) as bare,
    ):
        bare.meet(format="json")
        bare.say(in_frames(message))
        assert len(place.view(server).data_get(PATIENCE)) == message.count(b"{}")


# --- Many messages at once ------------------------------------------------------------------------------


class Item(msgspec.Struct):
    """Lets a test do something while a message is decoded."""

    number: int

    def __post_init__(self) -> None:
        if self.number == 0:
            Item.at_first()

    @staticmethod
    def at_first() -> None:
        """Called by message 0."""


@pytest.mark.parametrize("framing", ["linked", "plain"])
def test_a_peer_with_many_messages_does_not_make_others_wait(
    place: Place, framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first of them is decoded, another peer sends one: it is decoded soon, not behind all."""
    many = 15_000
    options: dict[str, Any] = {"framing": Lines()} if framing == "plain" else {}
    texts = [b'{"number":%d}' % number for number in range(many)]
    with place.serving(), place.server("P2M", Typed(Item), **options) as server, ExitStack() as stack:
        greedy, other = (stack.enter_context(Bare(place, server.address)) for _ in range(2))
        other_text = b'{"number":-1}'
        if framing == "plain":
            other_text += b"\n"
            flood = [text + b"\n" for text in texts]
        else:
            for number, bare in enumerate((greedy, other)):
                bare.meet(pattern="p2m", format="json", session=number)
            other_text = data(other_text)
            step = 5000
            flood = [frames.encode_batch(texts[at : at + step]) for at in range(0, many, step)]
        monkeypatch.setattr(Item, "at_first", staticmethod(lambda: other.say(other_text)))
        wait_until(lambda: len(server.peers()) >= 2, "both are connected")
        greedy.say(*flood)
        numbers = [server.data_get(PATIENCE).number for _ in range(many + 1)]
        assert [number for number in numbers if number >= 0] == list(range(many)), "each peer's in order"
        assert numbers.index(-1) < 10_000


class Slow:
    """A format of a user that decodes nothing until it may."""

    name = "slow"

    def __init__(self) -> None:
        self.may = threading.Event()

    def encode(self, value: bytes) -> bytes:
        return bytes(value)

    def decode(self, data: bytes) -> bytes:
        assert self.may.wait(30)
        return data


def test_a_plain_framing_is_not_read_faster_than_it_is_decoded(place: Place) -> None:
    """There is no credit: what is not decoded would pile up."""
    if place.front == "aio":
        pytest.skip("there the loop decodes, and reads nothing meanwhile")
    format, line = Slow(), bytes(1000) + b"\n"
    server = place.server("P2M", format, framing=Lines())
    with place.serving(pause=BUSY), server, Bare(place, server.address) as bare:
        bare.sock.settimeout(1.0)  # Nothing else shows that nobody reads any more.
        sent = bare.flood(line * 1000, 100)
        assert sent < 20, "much more was taken than fits into the buffers of the kernel"
        format.may.set()
        for _ in range(sent * 1000):
            assert server.data_get(PATIENCE) == line[:-1]


def test_what_does_not_fit_waits_as_it_arrived(place: Place) -> None:
    """Messages that grow: they are decoded when there is room, and acknowledged only then."""
    message, count = array(b'{"":{}}', 30_000), 40
    with (
        place.serving(pause=BUSY),
        place.server("P2P", Json(), limits=Limits(mailbox_bytes=4 * MIB)) as server,
        Bare(place, server.address) as bare,
    ):
        bare.meet(format="json")
        bare.say(data(message) * count)
        processed = _settled(bare)
        assert 1 < processed < 10
        assert server.statistics().waiting == processed
        for _ in range(count):
            assert len(server.data_get(PATIENCE)) == message.count(b'""')
        wait_until(lambda: _ack(bare)[0] == count, "all are acknowledged")


def test_a_count_of_messages_that_do_not_fit_can_be_waited_for(place: Place) -> None:
    """``data_get_count`` promises that the mailbox holds as many as are waited for."""
    message, count = array(b'{"":{}}', 30_000), 40
    with (
        place.serving(pause=BUSY),
        place.server("P2P", Json(), limits=Limits(mailbox_bytes=4 * MIB)) as server,
        Bare(place, server.address) as bare,
    ):
        bare.meet(format="json")
        bare.say(data(message) * count)
        _settled(bare)
        assert len(server.data_get_count(count, PATIENCE)) == count


def _ack(bare: Bare) -> tuple[int, int, int]:
    """How many units are processed, and the credit in bytes and units."""
    bare.say(frames.frame(frames.ACK_NOW))
    processed, _, nbytes, units = frames.decode_ack(bare.until(frames.ACK))
    return processed, nbytes, units


def _settled(bare: Bare) -> int:
    """How many units are processed once nothing more happens: each question takes the server a turn."""
    last, same = -1, 0
    while same < 3 * PEERS:
        processed = _ack(bare)[0]
        last, same = processed, same + 1 if processed == last else 0
    return last


# --- Everything at once -----------------------------------------------------------------------------------


LIMITS = {
    "mailbox_bytes": 2 * MIB,
    "mailbox_total": 16 * MIB,
    "message": MIB // 4,
    "decoded": 4 * MIB,
    "window_bytes": MIB // 4,
}
SERVER = """
import gc, json
from linkbox import *
from tests.faults.place import memory_now
format, pattern, options = sys.argv[4:]
options = json.loads(options)
server = place.server(pattern, eval(format), limits=Limits(**options.pop("limits")), max_peers=100, **options)
server.start()
print(server.address)
for line in sys.stdin:
    if line == "start\\n":
        before = memory_now()
        print()
    elif line == "send\\n":
        for peer in server.peers():
            try:
                while peer.name != "half":
                    server.send(b"", to=peer, timeout=0)
            except MailboxFull:
                pass
        print()
    else:
        gc.collect()
        print(json.dumps({"grown": memory_now() - before, "waiting": server.statistics().waiting}))
"""
MESSAGES = {
    "Bytes()": [b"", b"1", b"12", bytes(300)],
    "Json()": [b'""', b"{}", array(b'{"a":{}}', 10_000), array(b'"ab"', 200)],
    "MsgPack()": [b"\x80", packed(b"\x81\x00\x80", 18_000), packed(b"\x90", 4000), b"\xc0"],
    "Typed(list[set[str] | dict[str, int]])": [b"[]", array(b"[]", 3000), array(b'{"a":1}', 3000)],
}


def allowed(format: str) -> int:
    """What the limits allow for: see docs/limits.md, "What a server can grow to"."""
    share = max(LIMITS["mailbox_total"] // (2 * PEERS), 64 * 1024)
    last = LIMITS["message" if format == "Bytes()" else "decoded"]
    each = share + last + LIMITS["window_bytes"] + 2 * 64 * 1024
    return LIMITS["mailbox_total"] + PEERS * each + PEERS * LIMITS["message"]


class Filler:
    """A peer that sends whatever it may, until it may send nothing more."""

    def __init__(self, bare: Bare, format: str, number: int, messages: list[bytes]) -> None:
        self.bare = bare
        self._messages = messages
        self._units = self._nbytes = 0
        welcome = bare.meet(format=format, session=number, name=f"bare {number}")
        self._credit = welcome.credit

    def send_one(self) -> bool:
        """Send a message, if the credit allows it."""
        if self._units >= self._credit[1] or self._nbytes >= self._credit[0]:
            return False
        message = self._messages[self._units % len(self._messages)]
        self.bare.say(data(message))
        self._units += 1
        self._nbytes += len(message)
        return True

    def send_all(self) -> bool:
        """Send as many as the credit allows."""
        found: list[bytes] = []
        while self._units < self._credit[1] and self._nbytes < self._credit[0]:
            message = self._messages[self._units % len(self._messages)]
            found.append(data(message))
            self._units += 1
            self._nbytes += len(message)
        self.bare.say(*found)
        return bool(found)

    def ask(self) -> None:
        """Learn the credit."""
        _, *credit = _ack(self.bare)
        self._credit = (credit[0], credit[1])


@pytest.mark.parametrize("overflow", ["block", "drop_oldest"])
@pytest.mark.parametrize("format", MESSAGES)
def test_a_server_whose_limits_are_all_reached(place: Place, format: str, overflow: str) -> None:
    """20 peers send what costs most for its size, one after the other and as much as they may."""
    options = json.dumps({"limits": LIMITS, "overflow": overflow})
    with place.child(SERVER, format, "P2P", options) as child, ExitStack() as stack:
        address = child.line()
        name = {"B": "bytes", "M": "msgpack"}.get(format[0], "json")
        peers = [
            Filler(stack.enter_context(Bare(place, address)), name, number, MESSAGES[format])
            for number in range(PEERS)
        ]
        assert _say(child, "start") == ""
        for number in range(PEERS):
            half = stack.enter_context(Bare(place, address))
            half.meet(format=name, session=PEERS + number, name="half")
            half.say(frames.encode_first_part(LIMITS["message"], bytes(LIMITS["message"] - 1)))
            _ack(half)
        for _ in range(100):
            for peer in peers:
                peer.send_one()
        for _ in range(3):
            for peer in peers:
                peer.send_all()
                peer.ask()
        if overflow == "block":
            _fill(peers)
        if format == "Bytes()":
            _say(child, "send")
        _settled(peers[0].bare)
        report = json.loads(_say(child, "report"))
        assert report["waiting"] > (PEERS if overflow == "block" else 0)
        assert report["grown"] < 1.5 * allowed(format), report


def _fill(peers: list[Filler]) -> None:
    """Until nobody may send anything more, and nothing more happens."""
    idle = 0
    while idle < 5:
        was_sent = [peer.send_all() for peer in peers]
        idle = 0 if any(was_sent) else idle + 1
        for peer in peers:
            for _ in range(3):
                peer.ask()


def _say(child: Process, line: str) -> str:
    child.say(line)
    return child.line()

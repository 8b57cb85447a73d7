"""Attacks on servers of requests: whoever asks much, or takes no answers, costs the others nothing."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest

from linkbox import AnswerError, EventKind, Json, Limits, Lines, ProtocolViolation, Raw
from linkbox.core.wire import frames
from tests.faults.bare import Bare, data, opening
from tests.faults.place import PATIENCE, Place, growing_less_than
from tests.threaded.helpers import Threads, wait_until

MIB = 1 << 20
WORKERS = 8


def ask(id: int, body: bytes = b"", flags: int = 0) -> bytes:
    """A frame of a request."""
    return frames.encode_ask(id, flags, None, body)


def asks(count: int, body: bytes = b"", flags: int = 0) -> bytes:
    """So many requests."""
    return b"".join(ask(id, body, flags) for id in range(1, count + 1))


class Handler:
    """Echoes; but a request for much gets a mebibyte. Counts these, and the others by what they say."""

    def __init__(self, size: int = MIB) -> None:
        self._much = b"x" * size
        self._lock = threading.Lock()
        self.count: Counter[bytes] = Counter()

    def __call__(self, request: Any) -> bytes:
        with self._lock:
            self.count[bytes(request.data[:4])] += 1
        return self._much if request.data[:4] == b"much" else bytes(request.data)

    @property
    def much(self) -> int:
        """How many such requests were begun."""
        return self.count[b"much"]


def ping(bare: Bare) -> None:
    """Wait until the server has read everything."""
    bare.say(frames.encode_number(frames.PING, 7))
    bare.until(frames.PONG)


def honest(place: Place, server: Any, times: int = 50, **options: Any) -> None:
    """Another client asks again and again. In the meantime everything is done that can be done."""
    with place.client("AR", server.address, keep_alive=True, name="honest", **options) as client:
        for number in range(times):
            assert client.ask(b"%d" % number, timeout=PATIENCE) == b"%d" % number


# --- Answers that nobody takes ------------------------------------------------------------------------


def test_answers_that_nobody_takes(place: Place) -> None:
    """A few bytes ask for 1,000 MiB: nothing is begun for a peer whose window is full."""
    handler, limits = Handler(), Limits(window_bytes=4 * MIB)
    with (
        place.serving("AR", handler=handler, limits=limits) as server,
        Bare(place, server.address) as bare,
        growing_less_than(40),
    ):
        bare.meet(pattern="ar")
        bare.say(asks(1000, b"much"))
        wait_until(lambda: handler.much >= 4, "it has begun")
        honest(place, server)
        assert handler.much <= 4 + WORKERS
        for taken in range(1, 30):  # The rest comes when what was sent is taken.
            bare.until(frames.ANSWER)
            for _ in range(3):  # in four pieces
                bare.until(frames.ANSWER)
            bare.say(frames.encode_ack(4 * taken, 4 * taken, 1 << 40, 1 << 40))
        wait_until(lambda: handler.much >= 29, "it goes on")
        honest(place, server)
        assert handler.much <= 29 + 4 + WORKERS


def test_answers_that_nobody_takes_over_a_plain_framing(place: Place) -> None:
    """The same, where the only sign is that the kernel takes no more."""
    handler, limits = Handler(), Limits(window_bytes=4 * MIB)
    with (
        place.serving("AR", framing=Lines(), handler=handler, limits=limits) as server,
        Bare(place, server.address) as bare,
        growing_less_than(60),
    ):
        bare.say(b"much\n" * 900)
        wait_until(lambda: handler.much >= 4, "it has begun")
        honest(place, server, 1000, framing=Lines())
        assert handler.much < 60  # some are in the kernel
        left = 100 * (MIB + 1)
        while left > 0:
            left -= len(bare.sock.recv(MIB))
        wait_until(lambda: handler.much >= 100, "it goes on")
        honest(place, server, 1000, framing=Lines())
        assert handler.much < 160


def test_answers_for_peers_that_are_gone(place: Place) -> None:
    """Sessions wait for their peers, with answers for them; of these no more than fits the limits, in all."""
    handler, limits = Handler(), Limits(mailbox_total=2 * MIB, message=MIB + 1)
    with place.serving("AR", handler=handler, limits=limits) as server:
        lost = place.ear(server, EventKind.DISCONNECTED)
        with growing_less_than(25):
            for number in range(40):
                with Bare(place, server.address) as bare:
                    bare.meet(pattern="ar", session=number + 1)
                    bare.say(ask(1, b"much"))
                    wait_until(lambda: handler.much > number)  # noqa: B023
                    bare.reset()
                lost.wait(number + 1)
        assert 0 < resumed(place, server, 40) <= 2


def resumed(place: Place, server: Any, count: int) -> int:
    """How many of the sessions 1, 2, 3 … does the server still have?"""
    found = 0
    for number in range(count):
        with Bare(place, server.address) as bare:
            found += bare.meet(pattern="ar", session=number + 1, epoch=2, born=1).resumed
    return found


# --- What requests cost -------------------------------------------------------------------------------


def test_empty_requests_of_peers_that_are_gone(place: Place) -> None:
    """A thousand requests without a byte, and their answers, cost half a megabyte: so they count."""
    with place.serving("AR", limits=Limits(mailbox_total=MIB, message=1000)) as server:
        lost = place.ear(server, EventKind.DISCONNECTED)
        for number in range(20):
            with Bare(place, server.address) as bare:
                bare.meet(pattern="ar", session=number + 1)
                bare.say(asks(1000))
                ping(bare)
            lost.wait(number + 1)
        wait_until(lambda: server.statistics().waiting == 0, "what can be answered is answered")
        assert 0 < resumed(place, server, 20) <= 3


def test_rejections_for_peers_that_are_gone(place: Place) -> None:
    """The same for a thousand REJECTs, which are kept because they may not have arrived."""
    limits = Limits(mailbox_total=MIB // 4, message=1000)
    with place.serving(limits=limits) as server:
        lost = place.ear(server, EventKind.DISCONNECTED)
        for number in range(8):
            with Bare(place, server.address) as bare:
                bare.meet(session=number + 1)
                for _ in range(20):  # The credit is for about 300 of them.
                    bare.say(data(bytes(1001)) * 50)
                    for _ in range(50):
                        bare.until(frames.REJECT)
            lost.wait(number + 1)
        found = 0
        for number in range(8):
            with Bare(place, server.address) as bare:
                found += bare.meet(session=number + 1, epoch=2, born=1).resumed
        assert 0 < found <= 3


def test_the_first_credit_is_for_as_many_requests_as_may_wait(place: Place) -> None:
    with place.serving("AR", limits=Limits(asks=100)) as server, Bare(place, server.address) as bare:
        assert bare.meet(pattern="ar").credit[1] == 100


# --- Half requests ------------------------------------------------------------------------------------

SMALL = Limits(mailbox_total=4 * MIB, message=MIB)


def say_halves(bare: Bare, count: int) -> None:
    """So many requests of half a mebibyte, none of them complete."""
    for id in range(1, count + 1):
        bare.say(
            ask(id, bytes(MIB // 4), frames.MORE_OF_MESSAGE), ask(id, bytes(MIB // 4), frames.MORE_OF_ASK)
        )
    ping(bare)


@pytest.mark.parametrize("is_gone", [False, True], ids=["it stays", "it is gone"])
def test_half_requests_leave_room_for_others(place: Place, is_gone: bool) -> None:
    """One peer has said as much of its requests as all may have together: others ask, and large ones, too."""
    with place.serving("AR", limits=SMALL) as server, Bare(place, server.address) as bare:
        lost = place.ear(server, EventKind.DISCONNECTED)
        bare.meet(pattern="ar")
        say_halves(bare, 7)
        if is_gone:
            bare.reset()
            lost.wait()
        with place.client("AR", server.address) as client:
            assert client.ask(bytes(MIB), timeout=PATIENCE) == bytes(MIB)


def test_half_requests_of_many_that_are_gone(place: Place) -> None:
    """Each of them had a small share, and all of it would be nothing for others: now it is theirs."""
    with place.serving("AR", limits=SMALL) as server:
        lost = place.ear(server, EventKind.DISCONNECTED)
        for number in range(20):
            with Bare(place, server.address) as bare:
                bare.meet(pattern="ar", session=number + 1)
                say_halves(bare, 4)
            lost.wait(number + 1)
        with place.client("AR", server.address) as client:
            assert client.ask(bytes(MIB), timeout=PATIENCE) == bytes(MIB)


def test_a_half_request_waits_for_its_peer(place: Place) -> None:
    """A session survives its connection, and so does what it has sent: if nobody else needs the memory."""
    with place.serving("AR") as server:
        lost = place.ear(server, EventKind.DISCONNECTED)
        with Bare(place, server.address) as bare:
            bare.meet(pattern="ar", session=5)
            bare.say(ask(1, b"one, ", frames.MORE_OF_MESSAGE))
            ping(bare)
        lost.wait()
        with Bare(place, server.address) as bare:
            assert bare.meet(pattern="ar", session=5, epoch=2, born=1).received == 1
            bare.say(ask(1, b"two"))
            assert frames.decode_answer(bare.until(frames.ANSWER))[2] == b"one, two"


def test_half_requests_end_with_their_client(place: Place) -> None:
    """END says that nothing more comes: a request that is not complete fails, and all is over."""
    with (
        place.server("AR", handler=lambda request: request.data) as server,
        Bare(place, server.address) as bare,
    ):
        bare.meet(pattern="ar")
        bare.say(ask(1, b"half", frames.MORE_OF_ASK), frames.encode_number(frames.END, 1))
        assert frames.decode_fail(bare.until(frames.FAIL))[:2] == (1, "RequestFailed")
        last = frames.decode_number(frames.END, bare.until(frames.END))
        bare.say(frames.encode_ack(last, last, 1 << 40, 1 << 40), frames.encode_number(frames.END_ACK, last))
        bare.ended()
        bare.close()
        assert server.stop(PATIENCE)


def test_half_requests_over_raw_leave_room_for_others(place: Place) -> None:
    """Over Raw each connection is one request: the one that was silent for longest makes room."""
    limits = Limits(mailbox_total=4 * MIB, message=MIB, progress=0.2)
    with (
        place.serving(),
        place.server("AR", framing=Raw(), limits=limits, handler=lambda request: request.data) as server,
        ExitStack() as stack,
    ):
        bares = [stack.enter_context(Bare(place, server.address)) for _ in range(6)]
        for bare in bares:
            bare.say(bytes(MIB - 1))

        def succeeds() -> bool:
            with place.client("AR", server.address, framing=Raw()) as client:
                try:
                    return bool(client.ask(bytes(MIB), timeout=PATIENCE) == bytes(MIB))
                except ConnectionError:
                    return False

        wait_until(succeeds, "the others are silent for too long", PATIENCE)


# --- Many requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_plain", [False, True], ids=["linked", "lines"])
def test_clients_take_turns(place: Place, is_plain: bool) -> None:
    """Five peers ask 500 times, then somebody asks once: its turn comes after one request of each."""
    framing: dict[str, Any] = {"framing": Lines()} if is_plain else {}
    released, order = threading.Event(), list[bytes]()
    wait = place.waiting_for(released, b"released")

    def handle(request: Any) -> Any:
        order.append(request.data)
        return wait(request) if request.data == b"wait" else request.data

    with place.server("AR", handler=handle, workers=1, **framing) as server, ExitStack() as stack:
        more = {"connections": 2} if is_plain else {}
        client = stack.enter_context(place.client("AR", server.address, **framing, **more))
        threads = stack.enter_context(Threads())
        threads.start(client.ask, b"wait")
        wait_until(lambda: order == [b"wait"], "the only worker is busy")
        for number in range(5):
            bare = stack.enter_context(Bare(place, server.address))
            if is_plain:
                bare.say(b"many\n" * 500)
            else:
                bare.meet(pattern="ar", session=number + 1)
                bare.say(asks(500, b"many"))
                ping(bare)
        wait_until(lambda: len(server.peers()) == 6, "all are there")
        threads.start(client.ask, b"honest")
        wait_until(lambda: len(server.peers()) == 7, "it has come")
        wait_until(lambda: server.statistics().messages_received == (7 if is_plain else 2502), "it has asked")
        released.set()
        wait_until(lambda: b"honest" in order, "it has its turn")
        assert order.index(b"honest") <= 6


def test_a_crowd_that_asks_line_after_line(place: Place) -> None:
    """60 connections, each with 999 requests in one write; somebody else waits for none of them."""
    with place.serving("AR", framing=Lines(), pause=3.0) as server, ExitStack() as stack:
        bares = [stack.enter_context(Bare(place, server.address)) for _ in range(60)]
        for bare in bares:
            bare.say(b"x\n" * 999)
        honest(place, server, framing=Lines())


def test_more_lines_than_may_wait(place: Place) -> None:
    """The limit asks over a plain framing: the server reads no further for a while, and answers them all."""
    with place.serving("AR", framing=Lines(), limits=Limits(asks=100)) as server:
        with Bare(place, server.address) as bare, Threads() as threads:
            threads.start(bare.say, b"".join(b"%d\n" % number for number in range(3000)))
            received = b""
            while received.count(b"\n") < 3000:
                received += bare.sock.recv(MIB)
        assert received.split() == [b"%d" % number for number in range(3000)]


# --- Frames that are out of place ---------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["P2P", "P2M"])
@pytest.mark.parametrize(
    "frame",
    [ask(1, b"x", frames.MORE_OF_ASK), ask(1), frames.encode_cancel(1, "enough")],
    ids=["half an ASK", "ASK", "CANCEL"],
)
def test_requests_where_there_are_none(place: Place, pattern: str, frame: bytes) -> None:
    """A violation, and nothing of it is left: stop() has nothing to wait for."""
    with place.server(pattern) as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.DISCONNECTED)
        bare.meet(pattern=pattern.lower())
        bare.say(frame)
        error = ear.wait().error
        assert isinstance(error, ProtocolViolation) and f"although the pattern is {pattern.lower()}" in str(
            error
        )
        bare.ended()
        assert server.data_empty() and not server.peers()


@pytest.mark.parametrize(
    "frame",
    [data(b"x"), frames.encode_batch([b"x", b"y"]), frames.encode_first_part(2, b"x")],
    ids=["DATA", "BATCH", "PART"],
)
def test_messages_where_there_are_only_requests(place: Place, frame: bytes) -> None:
    with place.server("AR") as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.DISCONNECTED)
        bare.meet(pattern="ar")
        bare.say(frame)
        assert "although the pattern is ar" in str(ear.wait().error)


def test_too_many_requests_name_the_limit(place: Place) -> None:
    released = threading.Event()
    handler = place.waiting_for(released, b"late")
    with place.server("AR", handler=handler, limits=Limits(asks=2)) as server:
        with Bare(place, server.address) as bare:
            bare.say(opening(pattern="ar"), asks(3))
            _, kind, text = frames.decode_fail(bare.until(frames.FAIL))
            assert kind == "limit" and "Limits(asks=2)" in text
        released.set()


@pytest.mark.parametrize("count", [0, 2])
def test_a_request_without_the_one_message(place: Place, count: int) -> None:
    """`request.data` has no value then: the client is told, and nothing is wrong at the server."""
    with (
        place.serving("AR", Json, handler=lambda request: request.data) as server,
        place.client("AR", server.address, Json) as client,
    ):
        for _ in range(3):
            with pytest.raises(AnswerError, match=f"requests of one message.* has {count} messages"):
                client.ask_many(range(count), timeout=PATIENCE)
        assert client.ask(5, timeout=PATIENCE) == 5
        assert server.statistics().errors == 0


@pytest.mark.parametrize(
    "said",
    [
        frames.encode_ask(0, 0, None, b"x"),
        frames.encode_ask(1, frames.NO_MESSAGE, None, b"x"),
        frames.encode_ask(1, 1, None, b"x") + frames.encode_ask(1, frames.NO_MESSAGE, None, b""),
    ],
    ids=["request 0", "no message, and a part of one", "half a message"],
)
def test_a_request_that_contradicts_itself(place: Place, said: bytes) -> None:
    with place.serving("AR") as server, Bare(place, server.address) as bare:
        gone = place.ear(server, EventKind.DISCONNECTED)
        bare.meet(pattern="ar")
        bare.say(said)
        assert isinstance(gone.wait().error, ProtocolViolation)

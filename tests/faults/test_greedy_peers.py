"""Peers that take too much, too long, or too little: each has a limit, and meets it alone."""

from __future__ import annotations

import ssl
import struct
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest

from linkbox import (
    EventKind,
    LengthPrefixed,
    Limits,
    MailboxFull,
    ProtocolViolation,
    Stage,
    TooLarge,
)
from linkbox.core.wire import frames
from linkbox.testing import FaultyProxy
from tests.faults.bare import Bare, data, header, opening, reason_of
from tests.faults.place import AT_ONCE, BUSY, PATIENCE, Place, growing_less_than
from tests.threaded.helpers import PROMPT, Threads, for_ever, wait_until

# --- Slow ones ----------------------------------------------------------------------------------------


def _drip(bare: Bare, piece: bytes) -> None:
    """Say it byte by byte, until thrown out."""
    for byte in piece:
        try:
            bare.sock.send(bytes([byte]))
        except OSError:  # TLS has an error of its own for it
            return
        time.sleep(0.02)  # That is the fault.


def test_slowloris_in_the_handshake(place: Place) -> None:
    """The limit handshake is for all of it: a byte now and then does not help."""
    with place.serving(limits=Limits(handshake=0.4)) as server, Bare(place, server.address) as bare:
        began = time.monotonic()
        _drip(bare, opening())
        bare.ended()
        assert 0.3 < time.monotonic() - began < PROMPT


def test_slowloris_in_a_message(place: Place) -> None:
    """The limit progress: a frame that has begun must be whole by then."""
    with place.serving(limits=Limits(progress=0.4)) as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.DISCONNECTED)
        bare.meet()
        began = time.monotonic()
        _drip(bare, data(bytes(200)))
        assert "did not finish a message" in str(ear.wait().error)
        assert 0.3 < time.monotonic() - began < PROMPT


def test_a_slow_line_is_no_slowloris(place: Place) -> None:
    """A message in parts takes much longer than progress, and each part a little: it arrives."""
    limits = Limits(progress=0.4)
    with place.serving(limits=limits) as server, Bare(place, server.address) as bare:
        bare.meet()
        view = place.view(server)
        bare.say(frames.encode_first_part(8, b"0"))
        for digit in b"123456":
            time.sleep(0.1)  # A slow line.
            bare.say(frames.frame(frames.PART, bytes([digit])))
        bare.say(data(b"7"))
        assert view.data_get(5) == b"01234567"


def test_a_slow_reader(place: Place) -> None:
    """It gets everything, at its own pace; nobody else waits for it."""
    with place.serving() as server, FaultyProxy(server.address) as proxy:
        proxy.change("down", bandwidth=2_000_000)
        with place.client("P2P", proxy.address, name="bare") as client:
            peer = place.peer(server)
            for number in range(20):
                server.send(struct.pack(">I", number) + bytes(50_000), to=peer)
            for number in range(20):
                assert client.data_get(PATIENCE)[:4] == struct.pack(">I", number)


def test_a_peer_that_never_reads(place: Place) -> None:
    """The limits window_bytes and stalled_write: sending waits, then its kernel is given up."""
    with (
        place.serving(limits=Limits(stalled_write=0.5)) as server,
        Bare(place, server.address) as bare,
    ):
        ear = place.ear(server, EventKind.DISCONNECTED)
        bare.meet()
        peer = place.peer(server)
        body = bytes(1 << 20)
        with pytest.raises(MailboxFull):
            for_ever(lambda: server.send(body, to=peer, timeout=0.05))
        assert "took nothing for 0.5 s" in str(ear.wait().error)


def test_a_peer_that_never_acknowledges(place: Place) -> None:
    """The limit window_messages: what was sent is kept until it is acknowledged, and so much of it."""
    with place.serving(limits=Limits(window_messages=10)) as server, Bare(place, server.address) as bare:
        bare.meet()
        peer = place.peer(server)
        receipts = [server.send(b"%d" % number, to=peer) for number in range(10)]
        with pytest.raises(MailboxFull):
            server.send(b"one more", to=peer, timeout=0.05)
        wait_until(lambda: receipts[0].stage is Stage.SENT, "it is written")
        bare.say(frames.encode_ack(1, 1, 1 << 40, 1 << 40))
        assert receipts[0].wait(timeout=PATIENCE)
        server.send(b"one more", to=peer, timeout=PATIENCE)


def test_a_peer_that_does_not_close(place: Place) -> None:
    """The limit close: the last bytes of an ordered close are waited for, but not for ever."""
    with place.serving(limits=Limits(close=0.3)) as server, Bare(place, server.address) as bare:
        bare.say(opening(pattern="ar"))
        assert bare.refusal().code == "pattern"
        began = time.monotonic()
        assert bare.sock.recv(10) == b""  # its half is closed; ours stays open, and silent
        while bare.flood(b"x", 1):
            time.sleep(0.02)  # Only writing shows that nobody is there any more.
        assert 0.1 < time.monotonic() - began < PROMPT


# --- Floods -------------------------------------------------------------------------------------------


def test_a_ping_flood(place: Place) -> None:
    """The limit control_frames: who does not read is owed 1,000 PONGs, and no more."""
    with place.serving(pause=BUSY) as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.DISCONNECTED)
        bare.meet()
        with growing_less_than(16):  # what one read brings is answered at once, before anybody knows
            bare.flood(frames.encode_number(frames.PING, 1) * 1000, 2000)
            error = ear.wait().error
        assert isinstance(error, ProtocolViolation) and "does not read the 1000 control frames" in str(error)


def test_a_flood_of_control_frames(place: Place) -> None:
    """400,000 frames that are no messages, from a peer that reads nothing: they cost time, its own."""
    nothing = frames.encode_ack(0, 0, 1 << 40, 1 << 40) + frames.frame(frames.ACK_NOW)
    some = nothing + frames.encode_number(frames.PONG, 1) + header(0x90, 0)
    with place.serving(pause=BUSY) as server, Bare(place, server.address) as bare:
        bare.meet()
        view = place.view(server)
        with growing_less_than(8):
            bare.flood(some * 1000, 100)
            bare.say(data(b"done"))
            assert view.data_get(PATIENCE) == b"done"


def test_a_flood_of_dropped(place: Place) -> None:
    """Each DROPPED names other units: what is remembered of them is bounded, and so is the work."""
    with place.serving(pause=BUSY) as server, Bare(place, server.address) as bare:
        bare.meet()
        view = place.view(server)
        for number in range(3000):
            receipt = server.send(b"%d" % number, to=view.peer)
        wait_until(lambda: receipt.stage is Stage.SENT, "all are written")
        flood = b"".join(frames.encode_dropped(2 * each, 2 * each) for each in range(1, 1500))
        with growing_less_than(8):
            assert bare.flood(flood, 30) == 30
            bare.say(data(b"done"))
            assert view.data_get(PATIENCE) == b"done"


def test_a_flood_of_bad_messages(place: Place) -> None:
    """Each is rejected by name, to a peer that does not listen: what is owed to it is bounded."""
    with (
        place.serving(limits=Limits(message=10), pause=BUSY) as server,
        Bare(place, server.address) as bare,
    ):
        ear = place.ear(server, EventKind.DISCONNECTED)
        bare.meet()
        with growing_less_than(16):
            bare.flood(data(bytes(11)) * 1000, 300)
            bare.reset()
            ear.wait()


def test_a_flood_of_bad_messages_while_a_callback_blocks(place: Place) -> None:
    """Each rings ERROR, and nobody hears it: what waits for the callback is bounded by the peer's credit."""
    released = threading.Event()
    limits = Limits(mailbox_messages=5000, message=10)
    server = place.server("P2P", limits=limits)
    # The well-behaved client talks to another server: this one's bell is not free for its messages either.
    with place.serving(), server, Bare(place, server.address) as bare, Threads() as threads:
        server.add_callback(place.waiting_for(released), EventKind.ERROR)
        bare.meet()
        threads.start(bare.ended)  # it reads everything
        with growing_less_than(24):
            assert bare.flood(data(bytes(11)) * 1000, 3000) < 3000, "it was thrown out"
        released.set()


def test_fourteen_claims_of_a_hundred_megabytes(place: Place) -> None:
    """What a peer announces costs nothing; only what arrives does. Also where so much would be allowed."""
    for limits in (Limits(), Limits(message=200 << 20)):
        with place.serving(limits=limits) as server, ExitStack() as stack, growing_less_than(20):
            for number in range(14):
                bare = stack.enter_context(Bare(place, server.address))
                bare.meet(session=number)
                bare.say(frames.encode_first_part(100 << 20, bytes(100_000)))
                bare.say(frames.encode_number(frames.PING, 7))
                bare.until(frames.PONG)  # so all of it has been read


def test_a_claim_of_a_hundred_megabytes_over_a_plain_framing(place: Place) -> None:
    """Over LengthPrefixed the length is all there is: beyond the limit the connection is closed.

    The well-behaved client talks to another server, for it speaks our own protocol.
    """
    framing = LengthPrefixed(size=4)
    server = place.server("P2P", framing=framing, max_peers=20)
    with place.serving(), server, growing_less_than(20), ExitStack() as stack:
        for _ in range(14):
            bare = stack.enter_context(Bare(place, server.address))
            bare.say(struct.pack(">I", 100 << 20) + bytes(100_000))
            bare.ended()
        with place.client("P2P", server.address, framing=framing) as good:
            good.send(b"good")
            assert server.data_get(PATIENCE) == b"good"


def test_a_message_that_is_too_large(place: Place) -> None:
    """The limit message: whole or in parts, it is rejected by name, counted and not kept."""
    with place.serving(limits=Limits(message=100)) as server, Bare(place, server.address) as bare:
        assert bare.meet().message == 100
        view = place.view(server)
        bare.say(data(bytes(101)), data(bytes(100)))
        assert "101 bytes" in reason_of(bare.until(frames.REJECT))
        bare.say(frames.encode_first_part(1 << 40, b"x"), data(b"y"))
        assert "at most 100" in reason_of(bare.until(frames.REJECT))
        assert view.data_get_all() == [bytes(100)]
        with pytest.raises(TooLarge):
            server.send(bytes(101), to=view.peer)


def test_halves_of_messages_are_left_behind(place: Place) -> None:
    """Peers that say half a message and are gone: some halves wait for them, not any number."""
    limits = Limits(mailbox_total=2 << 20)
    with place.serving(limits=limits) as server:
        lost = place.ear(server, EventKind.DISCONNECTED)
        with growing_less_than(10):
            for number in range(60):
                with Bare(place, server.address) as bare:
                    bare.meet(session=number)
                    bare.say(frames.encode_first_part(1 << 20, bytes(1_000_000)))
                    bare.say(frames.encode_number(frames.PING, 7))
                    bare.until(frames.PONG)  # so all of it has been read
            lost.wait(60)


def test_halves_of_frames_are_left_behind(place: Place) -> None:
    """The same in the middle of a frame: nothing of that is kept, not even by a timer that is still set."""
    with place.serving() as server:
        lost = place.ear(server, EventKind.DISCONNECTED)
        with growing_less_than(10):
            for number in range(60):
                with Bare(place, server.address) as bare:
                    bare.meet(session=number)
                    bare.say(header(frames.DATA, 1 << 20), bytes(1_000_000))
                lost.wait(number + 1)


def test_mailboxes_that_are_full_together(place: Place) -> None:
    """The limit mailbox_total: no peer gets more credit, newcomers none at all; until there is room."""
    limits = Limits(mailbox_total=250_000, mailbox_bytes=100_000)
    with place.serving(limits=limits) as server, ExitStack() as stack:
        peers = [stack.enter_context(Bare(place, server.address)) for _ in range(3)]
        granted = [bare.meet(session=number).credit[0] for number, bare in enumerate(peers)]
        for bare, credit in zip(peers, granted, strict=True):
            bare.say(data(bytes(100_000)))
            assert _credit(bare) == credit
        with Bare(place, server.address) as late:
            late.say(opening(session=9), data(b"early"))
            assert late.refusal().code == "limit"
        for peer in server.peers():
            if peer.name == "bare":
                assert server.link(peer).data_get_all() == [bytes(100_000)]
        wait_until(lambda: _credit(peers[0]) > granted[0], "there is room again")
        with Bare(place, server.address) as late:
            late.meet(session=9)


def _credit(bare: Bare) -> int:
    """Bytes that it may send, in all."""
    bare.say(frames.frame(frames.ACK_NOW))
    limit: int = struct.unpack(">4Q", bare.until(frames.ACK))[2]
    return limit


def test_many_short_lives_fill_the_mailbox(place: Place) -> None:
    """Each push is a conversation of its own, whose first bytes need no credit; all have one bound.

    The well-behaved client talks to another server: this one's mailbox is full.
    """
    limits = Limits(mailbox_total=100_000)
    with (
        place.serving(),
        place.server("P2M", limits=limits) as server,
        place.client("P2M", server.address, reconnect=AT_ONCE) as pusher,
        Threads() as threads,
    ):

        def push() -> None:
            for number in range(40):
                pusher.send(b"%5d" % number + bytes(9_995), timeout=PATIENCE)

        threads.start(push)
        wait_until(lambda: server.statistics().refused > 3, "it has to wait")
        assert server.statistics().waiting_bytes <= 110_000
        assert [int(server.data_get(PATIENCE)[:5]) for _ in range(40)] == list(range(40))


def test_too_many_asks(place: Place) -> None:
    """The limit asks: more of one client fail at once, with that reason; others are not concerned."""
    released = threading.Event()
    late = place.waiting_for(released, b"late")

    def handle(request: Any) -> Any:
        return request.data if request.data.startswith(b"regular") else late(request)

    with (
        place.serving("AR", handler=handle, limits=Limits(asks=5)) as server,
        Bare(place, server.address) as bare,
    ):
        bare.meet(pattern="ar")
        for number in range(1, 8):
            bare.say(frames.encode_ask(number, 0, None, b"?"))
        failed = [frames.decode_fail(bare.until(frames.FAIL)) for _ in range(2)]
        assert [(id, kind) for id, kind, _ in failed] == [(6, "limit"), (7, "limit")]
        released.set()
        assert {frames.decode_answer(bare.until(frames.ANSWER))[0] for _ in range(5)} == {1, 2, 3, 4, 5}


def test_many_busy_peers_do_not_make_others_wait(place: Place) -> None:
    """Welcomed peers that send PINGs as fast as the server reads them, all at once."""
    blob, most = frames.frame(frames.PING, bytes(8)) * 5000, 4_000_000
    with place.serving("AR") as server, ExitStack() as stack:
        busy = {stack.enter_context(Bare(place, server.address)): 0 for _ in range(40)}
        for number, bare in enumerate(busy, 1):
            bare.meet(pattern="ar", session=number)
            bare.sock.settimeout(0.0)
        until = time.monotonic() + PATIENCE
        while busy and time.monotonic() < until:
            for bare, sent in list(busy.items()):
                try:
                    busy[bare] += bare.sock.send(blob[sent % len(blob) :])
                    bare.sock.recv(1 << 20)
                except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    continue
                except OSError:  # It has read too few of the answers.
                    del busy[bare]
                    continue
                if busy[bare] > most:
                    del busy[bare]


def test_a_peer_that_takes_only_small_messages_does_not_end_a_broadcast(place: Place) -> None:
    """What it says in its HELLO is true for it alone: the others get the message, once."""
    with (
        place.server("P2P", max_peers=3) as server,
        place.client("P2P", server.address, name="first") as first,
        Bare(place, server.address) as bare,
    ):
        bare.meet(message=10)
        small = place.peer(server)
        with place.client("P2P", server.address, name="last") as last:
            place.peer(server, "last")
            receipts = server.broadcast(bytes(100))
            assert isinstance(receipts.pop(small).error, TooLarge)
            assert len(receipts) == 2
            assert first.data_get(PATIENCE) == last.data_get(PATIENCE) == bytes(100)

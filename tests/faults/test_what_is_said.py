"""Peers that break the protocol: each is thrown out by itself, at once."""

from __future__ import annotations

import struct

import pytest

from linkbox import EventKind, Limits, ProtocolViolation
from linkbox.core.wire import frames
from tests.faults.bare import Bare, data, header, hello, opening
from tests.faults.place import Place


def _thrown_out(place: Place, *what: bytes, why: str, limits: Limits | None = None) -> None:
    """A welcomed peer that says this is disconnected for breaking the protocol; messages before it count."""
    with place.serving(limits=limits) as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.DISCONNECTED)
        bare.meet()
        view = place.view(server)
        bare.say(data(b"good"), *what)
        bare.ended()
        error = ear.wait(kind=EventKind.DISCONNECTED).error
        assert isinstance(error, ProtocolViolation) and why in str(error)
        assert view.data_get(5) == b"good"
        assert view.data_empty()


def test_an_unknown_version(place: Place) -> None:
    """It is told which versions are spoken here, in a frame that never changes."""
    with place.serving() as server, Bare(place, server.address) as bare:
        bare.say(frames.PREFACE + b"\x63", hello())
        no = bare.refusal()
        assert (no.code, no.supported) == ("version", (frames.VERSION,))
        bare.ended()


def test_an_unknown_frame_below_0x80(place: Place) -> None:
    _thrown_out(place, header(0x7F, 0), why="0x7f")


def test_an_unknown_frame_from_0x80_up(place: Place) -> None:
    """Room for growth: it is skipped, whatever its length."""
    with place.serving() as server, Bare(place, server.address) as bare:
        bare.meet()
        view = place.view(server)
        bare.say(data(b"before"), header(0x80, 3), b"new", header(0xFF, 300_000), bytes(300_000))
        bare.say(data(b"after"))
        assert [view.data_get(5), view.data_get(5)] == [b"before", b"after"]


def test_hello_twice(place: Place) -> None:
    _thrown_out(place, hello(), why="HELLO that is out of place")


def test_messages_before_hello(place: Place) -> None:
    with place.serving() as server, Bare(place, server.address) as bare:
        bare.say(frames.preface(), data(b"who am I?"))
        assert bare.refusal().code == "protocol"
        bare.ended()
        assert [peer.name for peer in server.peers()] == ["regular"]


def test_messages_after_end(place: Place) -> None:
    end = frames.encode_number(frames.END, 1)
    _thrown_out(place, end, data(b"one more thing"), why="messages after END")


def test_an_end_that_miscounts(place: Place) -> None:
    _thrown_out(place, frames.encode_number(frames.END, 7), why="END after unit 7")


def test_an_ack_beyond_what_was_sent(place: Place) -> None:
    _thrown_out(place, frames.encode_ack(5, 5, 1 << 30, 1 << 30), why="acknowledged 5")


def test_a_batch_with_lying_lengths(place: Place) -> None:
    lengths = struct.pack(">III", 2, 10, 10)
    _thrown_out(place, frames.frame(frames.BATCH, lengths + b"too short"), why="BATCH")


def test_a_batch_of_four_billion(place: Place) -> None:
    _thrown_out(place, frames.frame(frames.BATCH, b"\xff\xff\xff\xff" + bytes(20)), why="BATCH")


def test_a_total_of_parts_that_lies(place: Place) -> None:
    _thrown_out(place, frames.encode_first_part(1000, b"x" * 10), data(b"the rest"), why="announced")


def test_an_oversize_length(place: Place) -> None:
    """Refused at its header: not one byte of the payload is waited for."""
    _thrown_out(place, header(frames.DATA, (1 << 24) - 1), why="1048576 allowed")


def test_an_oversize_length_before_the_welcome(place: Place) -> None:
    """A stranger costs 4 KiB at most."""
    with place.serving() as server, Bare(place, server.address) as bare:
        bare.say(frames.preface(), header(frames.HELLO, 5000), bytes(1000))
        assert bare.refusal().code == "protocol"


def test_credit_overrun_in_bytes(place: Place) -> None:
    """The limit mailbox_bytes is what a peer may have waiting; one that does not care is thrown out."""
    _overrun(place, Limits(mailbox_bytes=100_000), bytes(30_000))


def test_credit_overrun_in_messages(place: Place) -> None:
    """The same with mailbox_messages (what may come behind HELLO is always let in: 4096)."""
    _overrun(place, Limits(mailbox_messages=5000), b"")


def _overrun(place: Place, limits: Limits, body: bytes) -> None:
    with place.serving(limits=limits) as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.DISCONNECTED)
        welcome = bare.meet()
        assert welcome.credit[0] == limits.mailbox_bytes
        assert welcome.credit[1] <= limits.mailbox_messages
        view = place.view(server)
        allowed = min(-(-limits.mailbox_bytes // len(body)) if body else 1 << 30, limits.mailbox_messages)
        bare.say(data(body) * allowed)
        assert view.data_get(5) == body
        bare.flood(data(body) * 100, 1000)
        error = ear.wait(kind=EventKind.DISCONNECTED).error
        assert isinstance(error, ProtocolViolation) and "beyond its credit" in str(error)
        assert len(view.data_get_all()) <= allowed + 300


def test_garbage_as_the_first_packet(place: Place) -> None:
    _stranger(place, bytes(range(200, 256)) * 20)


def test_a_preface_that_a_text_transfer_has_damaged(place: Place) -> None:
    _stranger(place, frames.preface().replace(b"\r\n", b"\n") + opening())


def test_an_http_request(place: Place) -> None:
    _stranger(place, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


def test_a_tls_hello_to_a_plain_server(place: Place) -> None:
    if place.transport.name != "tcp":
        pytest.skip("the server is no plain one")
    _stranger(place, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600))


def _stranger(place: Place, first: bytes) -> None:
    """Whoever does not speak our protocol is closed without a word, and has cost nothing."""
    with place.serving() as server:
        for _ in range(20):
            with Bare(place, server.address) as bare:
                bare.say(first)
                assert bare.ended() < 2
        assert [peer.name for peer in server.peers()] == ["regular"]

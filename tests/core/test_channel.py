"""What operations see of the core: a channel for each conversation, and the endpoint as a whole."""

from __future__ import annotations

import pytest

from linkbox import Lines
from linkbox.core.channel import Channel, OutgoingMessage
from linkbox.core.link import WRITE_BUDGET
from linkbox.core.patterns import P2M
from linkbox.errors import ConnectFailed, PeerLost
from linkbox.events import EventKind, Stage
from linkbox.limits import Limits
from tests.core.stored import StoredWire
from tests.core.wire import PEER, Wire, probe_client, probe_server


def test_a_channel_from_the_first_attempt_to_its_end() -> None:
    wire = Wire()
    wire.is_reachable = False
    channel: Channel = wire.client.conversations.current(wire.now)
    wire.settle()
    assert not channel.established and not channel.was_connected()
    assert isinstance(channel.last_failure, ConnectFailed)
    assert channel.latest() is channel and not channel.is_plain
    wire.is_reachable = True
    wire.advance(1.0)
    assert channel.established and channel.was_connected()
    receipt = channel.send(b"x")
    assert channel.in_flight() == 1 and not channel.is_delivered()
    channel.end()
    assert channel.is_ending
    wire.run()
    wire.acks()
    assert channel.is_delivered() and receipt.stage is Stage.RECEIVED


def test_messages_that_are_sent_later_go_out_together() -> None:
    wire = Wire()
    probe = probe_client(wire)
    channel: Channel = wire.client.conversations.current(wire.now)
    probe.kinds()
    receipts = [channel.send_later(payload) for payload in (b"a", b"b", b"c")]
    wire.settle()
    assert probe.kinds() == []
    channel.flush()
    wire.settle()
    assert probe.kinds() == ["BATCH"]
    assert [receipt.number for receipt in receipts] == [1, 2, 3]


def test_the_time_to_connect_may_be_shortened_and_never_lengthened() -> None:
    wire = Wire(connect_timeout=10.0)
    wire.is_reachable = False
    channel: Channel = wire.client.conversations.current(wire.now)
    channel.connect_within(wire.now + 2.0)
    channel.connect_within(wire.now + 5.0)
    wire.advance(1.9)
    assert channel.error is None
    wire.advance(0.3)
    assert isinstance(channel.error, ConnectFailed)


def test_with_a_store_an_earlier_life_does_not_count_as_connected() -> None:
    wire = StoredWire(P2M, stores={"client"})
    first = wire.client.conversations.current(wire.now)
    wire.run()
    assert first.was_connected()
    wire.client.spool(first, [b"1:"], with_receipts=False)
    wire.is_reachable = False
    wire.drop_all()
    wire.settle()
    wire.crash("client")
    channel: Channel = wire.client.conversations.current(wire.now)
    assert channel.established and not channel.was_connected()
    wire.is_reachable = True
    wire.advance(1.0)
    assert channel.was_connected()
    wire.close()


def test_a_message_has_failed_or_not() -> None:
    wire = Wire()
    session = wire.connect()
    receipt = session.send(b"x")
    assert not receipt.failed
    session.close(PeerLost("enough"))
    assert receipt.failed and session.first_failure is receipt.error


@pytest.mark.parametrize("payload", [None, b"", b"abc"])
def test_the_size_of_a_message_is_what_is_in_memory(payload: bytes | None) -> None:
    session = Wire().server.sessions.open(PEER)
    assert OutgoingMessage(session, payload).size() == len(payload or b"")


def test_the_endpoint_as_a_whole() -> None:
    wire = Wire(P2M)
    server, client = wire.server, wire.client
    assert client.is_idle() and server.is_idle() and not client.is_stopping
    session = wire.connect()
    [peer] = server.peers()
    there = server.channel_of(peer)
    assert there is wire.other(session) and list(server.channels.values()) == [there]
    assert server.channel_of(PEER) is None
    assert server.changed is server.sessions.changed
    wire.is_reachable = False
    session.send(b"x")
    assert [each.in_flight() for each in client.channels.values()] == [1] and not client.is_idle()
    assert client.statistics().connections == 1
    assert client.statistics().peers[session.peer].unacknowledged == 1
    client.abort()
    assert client.is_stopping and client.is_idle() and client.undelivered == 1


def test_events_are_taken_one_by_one_and_count_until_their_callbacks_have_returned() -> None:
    wire = Wire()
    wire.calls_back = False
    probe_server(wire)
    events = wire.server.effects.events
    event = events.take()
    assert event.kind is EventKind.CONNECTED and events.pending == 1 and not events.events
    wire.server.events_done(1)
    assert events.pending == 0


def test_over_a_plain_framing_there_are_no_control_frames_and_large_messages_go_one_by_one() -> None:
    wire = Wire(framing=Lines(), limits=Limits(message=1 << 20))
    session = wire.connect()
    link = session.link
    assert session.is_plain and link is not None
    session.request_ack()
    link.send_control(b"nothing")
    large = [b"%d" % number * (WRITE_BUDGET * 2 // 3) for number in range(3)]
    for each in large:
        session.send_later(each)
    assert [len(link.data_to_send(wire.now)[0]) for _ in large] == [len(large[0]) + 1] * 3
    assert link.data_to_send(wire.now) == []


def test_a_link_knows_whether_the_kernel_takes_more() -> None:
    wire = Wire()
    probe = probe_server(wire)
    assert probe.link._stalled_at is None  # type: ignore[attr-defined]
    probe.link.write_stalled(wire.now)
    assert probe.link._stalled_at is not None  # type: ignore[attr-defined]
    probe.link.write_moved()
    assert probe.link._stalled_at is None  # type: ignore[attr-defined]

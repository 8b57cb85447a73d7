"""What a quiet conversation is spared: an acknowledgement for each message, the queue, the decoder."""

from __future__ import annotations

import pytest

from linkbox.core.context import ACK_SPACING, SLOW_ACK_SPACING
from linkbox.core.patterns import AR
from linkbox.core.receive_window import ACK_BYTES
from linkbox.core.send_window import JOINED
from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Decoder
from linkbox.core.wire.frames import ACK, ACK_NOW, DATA
from linkbox.errors import TooLarge
from linkbox.events import Stage
from linkbox.limits import Limits

from .wire import Probe, Wire, probe_client, probe_server

ONE = frames.frame(DATA, b"one")


def talk(wire: Wire, probe: Probe, said: bytes = ONE) -> list[str]:
    """The probe says something, and is answered; what the answer consists of."""
    session = wire.client.conversation
    assert session is not None
    probe.say(said)
    wire.client.mailbox.take_all()
    session.send(b"answer")
    wire.settle()
    return probe.kinds()


def conversation() -> tuple[Wire, Probe]:
    wire = Wire()
    probe = probe_client(wire)
    probe.kinds()
    return wire, probe


def test_an_acknowledgement_rides_once_a_millisecond_and_the_last_comes_by_itself() -> None:
    wire, probe = conversation()
    assert sorted(talk(wire, probe)) == ["ACK", "DATA"]
    for _ in range(3):
        assert talk(wire, probe) == ["DATA"]
    wire.advance(ACK_SPACING)
    assert sorted(talk(wire, probe)) == ["ACK", "DATA"]
    assert talk(wire, probe) == ["DATA"]
    wire.advance(0.1)  # nothing is written: the timer says it
    [(kind, payload)] = probe.heard()
    assert kind == ACK
    assert frames.decode_ack(payload)[:2] == (6, 6)


def test_acknowledgements_ride_less_often_on_requests_than_on_messages() -> None:
    wire = Wire(AR)
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    probe.kinds()

    def ask(id: int) -> list[str]:
        wire.ask(b"x", session)
        kinds = sorted(probe.kinds())
        probe.say(frames.encode_answer(id, 0, b"y"))
        return kinds

    assert ask(1) == ["ASK"]
    assert ask(2) == ["ACK", "ASK"]
    wire.advance(ACK_SPACING)
    assert ask(3) == ["ASK"]
    wire.advance(SLOW_ACK_SPACING)
    assert ask(4) == ["ACK", "ASK"]


def test_a_timer_that_is_due_early_is_not_put_off_by_what_rode_just_before() -> None:
    """Taking owes an acknowledgement too, at a time that the core was last told long ago."""
    wire, probe = conversation()
    talk(wire, probe)
    wire.clock.advance(ACK_SPACING / 2)
    probe.say(ONE)
    wire.client.effects.flush_acks()
    wire.settle()
    assert probe.kinds() == ["ACK"]


def test_many_bytes_are_acknowledged_with_the_next_write() -> None:
    wire, probe = conversation()
    talk(wire, probe)
    large = frames.frame(DATA, bytes(ACK_BYTES - 1))
    assert talk(wire, probe, large) == ["DATA"]
    assert sorted(talk(wire, probe)) == ["ACK", "DATA"]


def test_who_waits_for_a_receipt_is_answered_at_once() -> None:
    wire, probe = conversation()
    talk(wire, probe)
    assert talk(wire, probe) == ["DATA"]
    probe.say(ONE, frames.frame(ACK_NOW))
    assert probe.kinds() == ["ACK"]


def test_a_message_on_a_quiet_link_is_sent_at_once_and_counts_like_any_other() -> None:
    wire, probe = conversation()
    session = wire.client.conversation
    assert session is not None
    first = session.send(b"first")
    assert (first.number, first.stage, list(session.sending.queue)) == (1, Stage.SENT, [])
    second = session.send(b"second")  # the first is not written yet: this one queues behind it
    assert (second.number, list(session.sending.queue)) == (0, [second])
    assert (session.in_flight(), session.sending.held_bytes) == (2, 11)
    wire.settle()
    assert [payload for _, payload in probe.heard()] == [b"first", b"second"]
    assert (session.sending.messages_sent, session.sending.bytes_sent, session.sending.sent_bytes) == (
        2,
        11,
        11,
    )
    probe.say(frames.encode_ack(2, 1, 1 << 30, 1 << 30))
    assert (first.stage, second.stage, session.sending.held_bytes) == (Stage.TAKEN, Stage.RECEIVED, 0)


def test_what_is_sent_at_once_is_one_unit_also_when_it_is_sent_again() -> None:
    assert min(frames.MAX_PIECE, frames.MAX_ASK_PIECE) >= JOINED


def test_what_was_sent_at_once_and_lost_is_sent_again_in_order() -> None:
    wire = Wire()
    session = wire.connect()
    session.send(b"first")
    session.send(b"second")
    wire.drop_all()
    wire.advance(1.0)
    assert wire.server.mailbox.take_all() == [b"first", b"second"]


@pytest.mark.parametrize(
    ("credit", "sizes", "written"),
    [
        ((1 << 30, 1), [1, 1], 1),
        ((10, 100), [10, 1], 1),
        ((1 << 30, 100), [frames.MAX_PIECE + 1], 2),
    ],
    ids=["no more messages", "no more bytes", "a large one"],
)
def test_without_credit_or_too_large_it_queues(
    credit: tuple[int, int], sizes: list[int], written: int
) -> None:
    wire = Wire()
    probe = probe_client(wire, credit=credit)
    probe.kinds()
    session = wire.client.conversation
    assert session is not None
    for size in sizes:
        session.send(bytes(size))
        wire.settle()
    assert len(probe.heard()) == written
    probe.say(frames.encode_ack(session.sending.sent, 0, 1 << 30, 1 << 30))
    probe.heard()
    assert not session.sending.queue


def test_a_message_that_is_too_large_for_the_peer_is_refused_here() -> None:
    wire = Wire()
    probe_client(wire, message=5)
    session = wire.client.conversation
    assert session is not None
    with pytest.raises(TooLarge, match="at most 5"):
        session.send(b"123456")
    assert session.in_flight() == 0


def test_an_ask_that_is_sent_at_once_says_how_long_its_asker_waits_from_now() -> None:
    wire = Wire(AR)
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    probe.kinds()
    wire.clock.advance(60.0)  # nothing happened for long
    assert wire.client.conversations.current(wire.now) is session
    wire.ask(b"x", session, deadline=wire.now + 2.0)
    [(_, payload)] = probe.heard()
    assert frames.decode_ask(payload)[2] == 2000


@pytest.mark.patches
def test_a_read_of_one_frame_is_spared_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    receive = Decoder.receive

    def counted(self: Decoder, data: bytes, most: int) -> list[tuple[int, bytes]]:
        decoded.append(data)
        return receive(self, data, most)

    wire, probe = conversation()
    ping = frames.encode_number(frames.PING, 1)
    monkeypatch.setattr(Decoder, "receive", counted)
    probe.say(ONE)
    probe.say(ping)
    assert not decoded
    for data in (ONE[:3], ONE[3:], ONE + ONE, ONE[:-1], ONE[-1:] + ping, b"\x80\0\0\1x"):
        probe.say(data)
        assert decoded.pop() == data
    probe.say(ONE)
    assert not decoded
    assert wire.client.mailbox.take_all() == [b"one"] * 6
    too_long = bytes((ACK, 0, 0, 33)) + bytes(33)
    probe.say(too_long)
    assert decoded.pop() == too_long
    assert probe.is_closed


def test_bytes_are_stored_when_they_arrive() -> None:
    wire = Wire(is_bytes=True)
    probe = probe_client(wire)
    wire.decodes = False
    probe.say(ONE, ONE)
    assert wire.client.mailbox.take_all() == [b"one", b"one"]
    assert not wire.undecoded
    wire.advance(0.1)
    acks = [frames.decode_ack(payload)[:2] for kind, payload in probe.heard() if kind == ACK]
    assert acks[-1] == (2, 2)


def test_bytes_behind_a_message_that_waits_are_stored_after_it() -> None:
    wire = Wire(is_bytes=True, limits=Limits(message=10))
    probe = probe_client(wire)
    wire.decodes = False
    probe.say(frames.encode_batch([b"1", b"2"]), frames.frame(DATA, b"3"))
    probe.say(frames.frame(DATA, b"too large for it"), frames.frame(DATA, b"5"))
    assert wire.client.mailbox.take_all() == []
    wire.decode_all()
    assert wire.client.mailbox.take_all() == [b"1", b"2", b"3", b"5"]
    probe.say(ONE)
    assert wire.client.mailbox.take_all() == [b"one"]


def test_a_request_and_a_response_of_bytes_are_stored_when_they_arrive() -> None:
    wire = Wire(AR, is_bytes=True)
    session = wire.connect()
    wire.decodes = False
    first, second = wire.ask(b"first", session), wire.ask(b"second", session)
    wire.run()
    for request in wire.requests():
        request.answer(request.data + b"!")
    wire.run()
    assert (first.value, second.value) == (b"first!", b"second!")
    assert not wire.undecoded
    receiving = session.receiving
    assert receiving.processed == receiving.arrived == 2
    assert receiving.processed_bytes == receiving.arrived_bytes == receiving.bytes_received == 13
    received = wire.other(session).receiving
    assert (received.processed, received.messages_received, received.bytes_received) == (2, 2, 11)


def test_pieces_of_a_request_are_counted_as_processed_when_they_arrive() -> None:
    wire = Wire(AR, is_bytes=True, listening=set())
    probe = probe_server(wire)
    wire.decodes = False
    [session] = wire.server.sessions.by_id.values()
    probe.say(frames.encode_ask(1, frames.MORE_OF_MESSAGE, None, b"two "))
    assert (session.receiving.processed, session.receiving.processed_bytes) == (1, 4)
    probe.say(frames.encode_ask(1, frames.MORE_OF_ASK, None, b"pieces"), frames.encode_ask(1, 0, None, b"."))
    [request] = wire.requests()
    assert request.messages == (b"two pieces", b".")
    assert session.receiving.processed == 3


def test_requests_behind_one_that_is_rejected_wait_for_it() -> None:
    wire = Wire(AR, is_bytes=True, limits=Limits(message=10))
    probe = probe_server(wire)
    wire.decodes = False
    probe.say(
        frames.encode_ask(1, 0, None, b"too large for it"),
        frames.encode_ask(2, 0, None, b"2"),
        frames.encode_cancel(2, "enough"),
        frames.encode_ask(3, 0, None, b"3"),
    )
    [session] = wire.server.sessions.by_id.values()
    assert session.receiving.processed == 0 and not wire.server.mailbox.count
    wire.decode_all()
    assert [request.data for request in wire.requests()] == [b"3"]
    assert session.receiving.processed == session.receiving.arrived == 4


def test_responses_behind_one_that_is_too_large_wait_for_it() -> None:
    wire = Wire(AR, is_bytes=True, limits=Limits(message=10))
    session = wire.client.conversation = wire.client.begin(wire.now)
    probe = probe_client(wire, session)
    asks = [wire.ask(b"x", session) for _ in range(3)]
    wire.decodes = False
    large, small = b"too large for it", b"small"
    probe.say(
        frames.encode_answer(1, 0, large),
        frames.encode_answer(2, 0, small),
        frames.encode_fail(3, "Failure", "no"),
    )
    assert session.receiving.processed == 0 and not asks[0].is_done and not asks[1].is_done
    wire.decode_all()
    assert isinstance(asks[0].error, TooLarge) and asks[1].value == small and asks[2].error is not None
    assert session.receiving.processed == session.receiving.arrived == 3

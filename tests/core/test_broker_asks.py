"""Requests over a broker, sans-IO: both links and the fake broker between them."""

from __future__ import annotations

import pytest

from linkbox.core.asks_client import Ask
from linkbox.core.broker import ask_messages
from linkbox.core.broker.ask_link import GONE_TIMES, Verdict
from linkbox.core.broker.ask_messages import Cancel, Probe, Request, split_parts
from linkbox.core.broker.carrying import carry_asks
from linkbox.core.broker.request_link import HERE_AFTER, IDLE, RequestLink
from linkbox.core.patterns import AR
from linkbox.errors import (
    AnswerError,
    AuthenticationFailed,
    ConnectFailed,
    DecodeError,
    EndOfData,
    PeerLost,
    Refused,
    TooLarge,
)
from linkbox.limits import Limits
from tests.core.fake_broker import SERVER, BrokerWire


def test_a_request_is_answered_and_acknowledged() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    ask = wire.begin(link, b"question", deadline=wire.now + 5)
    wire.carry(link)
    [request] = wire.requests()
    assert request.data == b"question"
    assert request.peer.name == "client 1"
    assert request.deadline == pytest.approx(wire.now + 5, abs=0.01)
    request.answer(b"answer")
    wire.reply(link)
    assert (ask.is_done, ask.value) == (True, b"answer")
    assert link.session is not None
    assert link.session.in_flight() == 0
    assert wire.server.peers() == ()


def test_bytes_go_to_the_caller_without_a_decoder_in_order() -> None:
    wire = BrokerWire(AR, is_bytes=True)
    link = wire.asking()
    asks = [wire.begin(link, b"%d" % number) for number in range(3)]
    wire.carry(link)
    for request in wire.requests():
        request.answer(request.data * 2)
    wire.reply(link)
    assert [ask.value for ask in asks] == [b"00", b"11", b"22"]
    assert link.session is not None
    link.session.receiving.arrived += 1  # something before the next one waits for the decoder
    last = wire.begin(link, b"x")
    wire.carry(link)
    [request] = wire.requests()
    request.answer(b"y")
    wire.reply(link)
    assert last.value == b"y"


def test_a_failure_has_type_and_text() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    ask = wire.begin(link, b"x")
    wire.carry(link)
    [request] = wire.requests()
    wire.server.fail(request._incoming, "LookupError", "no pump")
    wire.reply(link)
    assert isinstance(ask.error, AnswerError)
    assert (ask.error.type, ask.error.text) == ("LookupError", "no pump")


def test_requests_of_several_messages_are_one_message_of_the_broker() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    assert link.session is not None
    asks = []
    for bodies in ((b"a", b"", b"bc"), ()):
        ask = Ask(link.session, False)
        for body in bodies:
            wire.client.asks.add(ask, body, True, None)
        wire.client.asks.finish(ask)
        asks.append(ask)
    wire.carry(link)
    first, second = wire.requests()
    assert (first.messages, second.messages) == ((b"a", b"", b"bc"), ())
    first.answer(b"1")
    second.answer(b"2")
    wire.reply(link)
    assert [ask.value for ask in asks] == [b"1", b"2"]


def test_what_the_broker_does_not_take_is_too_large() -> None:
    wire = BrokerWire(AR, most=10)
    link = wire.asking()
    large = wire.begin(link, b"x" * 11)
    assert wire.ask_of(link) == []
    assert isinstance(large.error, TooLarge)
    assert link.session is not None
    parts = Ask(link.session, False)
    for body in (b"x" * 6, b"y" * 6):
        wire.client.asks.add(parts, body, True, None)
    wire.client.asks.finish(parts)
    assert wire.ask_of(link) == []
    assert isinstance(parts.error, TooLarge)
    small = wire.begin(link, b"x")
    wire.carry(link)
    [request] = wire.requests()
    request.answer(b"y" * 11)
    wire.reply(link)
    assert isinstance(small.error, TooLarge)


def test_a_server_names_no_subject_but_its_inbox() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    ask = wire.begin(link, b"x")
    wire.ask_of(link)
    link.on_reply(ask.id, {"Lb-Status": "here", "Lb-Server": "$JS.API.STREAM.DELETE.x"}, b"", wire.now)
    wire.advance(1.0)
    assert wire.ask_of(link) == [Probe(ask.id, "")]


def test_a_request_of_very_many_messages_is_too_large() -> None:
    wire = BrokerWire(AR, client_limits=Limits(window_messages=20_000))
    link = wire.asking()
    assert link.session is not None
    ask = Ask(link.session, False)
    for _ in range(10_001):
        wire.client.asks.add(ask, b"", True, None)
    wire.client.asks.finish(ask)
    assert wire.ask_of(link) == []
    assert isinstance(ask.error, TooLarge)


def test_what_this_end_does_not_take_is_too_large() -> None:
    wire = BrokerWire(AR, limits=Limits(message=5), client_limits=Limits(message=7))
    link = wire.asking()
    first, second = wire.begin(link, b"x" * 6), wire.begin(link, b"x")
    wire.carry(link)
    assert isinstance(first.error, TooLarge)
    [request] = wire.requests()
    request.answer(b"y" * 8)
    wire.reply(link)
    assert isinstance(second.error, TooLarge)


def test_a_request_that_cannot_be_decoded_fails() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    ask = wire.begin(link, b"bad one")
    wire.carry(link)
    assert isinstance(ask.error, DecodeError)


def test_the_server_sends_a_note_when_the_answer_takes_long() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    quick, slow = wire.begin(link, b"quick"), wire.begin(link, b"slow")
    wire.carry(link)
    one, other = wire.requests()
    one.answer(b"1")
    wire.reply(link)
    wire.advance(HERE_AFTER / 2)
    third = wire.begin(link, b"third")
    wire.carry(link)
    wire.advance(HERE_AFTER / 2)
    wire.reply(link)
    assert quick.is_done
    assert link.session is not None
    assert link.session.sending.acked == 2, "the note is an acknowledgement"
    assert not slow.is_done
    wire.advance(1.0)
    wire.carry(link)
    assert Probe(slow.id, SERVER) in wire.notes
    other.answer(b"2")
    wire.reply(link)
    assert slow.is_done
    assert not third.is_done


def test_a_lost_server_is_found_by_probes() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    ask = wire.begin(link, b"x")
    wire.ask_of(link)  # and the server is killed with it
    wire.advance(1.0)
    [probe] = wire.ask_of(link)
    assert probe == Probe(ask.id, "")
    link.on_probed(ask.id, Verdict.SILENT, wire.now)
    assert not ask.is_done
    link.on_probed(ask.id, Verdict.HAS, wire.now)
    wire.advance(0.5)
    assert wire.ask_of(link) == [], "not yet"
    wire.advance(0.5)
    assert len(wire.ask_of(link)) == 1
    link.on_probed(ask.id, Verdict.SILENT, wire.now)
    link.on_probed(ask.id, Verdict.SILENT, wire.now)
    assert isinstance(ask.error, PeerLost)
    link.on_probed(ask.id, Verdict.GONE, wire.now)  # a late one
    other = wire.begin(link, b"y")
    wire.ask_of(link)
    wire.client.asks.settle(other, b"by other means", None)
    link.on_probed(other.id, Verdict.GONE, wire.now)
    assert other.value == b"by other means"
    wire.advance(10)
    assert wire.ask_of(link) == []


def test_nobody_there_and_strange_replies() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    asks = [wire.begin(link, b"x") for _ in range(4)]
    ids = [order.id for order in wire.ask_of(link)]
    link.on_reply(ids[0], {"Status": "503"}, b"", wire.now)
    assert isinstance(asks[0].error, ConnectFailed)
    link.on_reply(ids[1], {"Lb-Status": "what"}, b"", wire.now)
    assert isinstance(asks[1].error, PeerLost)
    link.on_reply(ids[2], {"Lb-Status": "refused"}, b"no", wire.now)
    assert isinstance(asks[2].error, Refused)
    assert asks[2].error.code == "refused"
    link.on_reply(ids[3], {}, b"from a foreign server", wire.now)
    wire.deliver(wire.client)
    assert asks[3].is_done is False
    assert link.on_reply(99, {}, b"", wire.now) is None


def test_a_reply_for_a_caller_that_is_gone_is_dropped() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    asks = [wire.begin(link, b"x") for _ in range(2)]
    wire.ask_of(link)
    for ask in asks:
        wire.client.asks.settle(ask, None, None)
    assert link.on_reply(asks[0].id, {}, b"late", wire.now) is None
    assert link.on_reply(asks[1].id, {"Lb-Status": "fail"}, b"late", wire.now) is None


def test_a_stopping_server_gives_requests_to_the_next() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    wire.responder()
    wire.server.shutdown(wire.now)
    ask = wire.begin(link, b"x")
    wire.carry(link)
    assert not ask.is_done
    wire.server = wire.make_server()
    wire.carry(link)
    [request] = wire.requests()
    request.answer(b"y")
    wire.reply(link)
    assert ask.value == b"y"


def test_a_request_that_every_server_gives_away_fails() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    wire.server.shutdown(wire.now)
    ask = wire.begin(link, b"x")
    for _ in range(GONE_TIMES + 1):
        assert not ask.is_done
        wire.carry(link)
    assert isinstance(ask.error, ConnectFailed)


def test_a_cancelled_request_is_cancelled_at_the_server() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    unsent = wire.begin(link, b"never sent")
    wire.client.asks.cancel(unsent, "no")
    first, second = wire.begin(link, b"1"), wire.begin(link, b"2")
    wire.carry(link)
    wire.client.asks.cancel(first, "no longer")
    wire.carry(link)
    assert wire.notes == [Cancel(first.id, "")]
    cancelled, request = wire.requests()
    assert cancelled.cancelled()
    assert not request.cancelled()
    wire.client.asks.cancel(second, "nor that")
    wire.carry(link)
    assert request.cancelled()
    request.answer(b"too late")
    wire.reply(link)
    wire.responder().on_cancel("r77", wire.now)


def test_a_cancel_that_comes_after_the_answer_changes_nothing() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    ask = wire.begin(link, b"x")
    wire.carry(link)
    [request] = wire.requests()
    request.answer(b"y")
    wire.responder().on_cancel(f"r{ask.id}", wire.now)
    assert not request.cancelled()
    wire.reply(link)
    assert ask.value == b"y"


def test_an_incomplete_request_is_cancelled_without_the_server() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    assert link.session is not None
    ask = Ask(link.session, False)
    wire.client.asks.add(ask, b"part", True, None)
    assert wire.ask_of(link) == []
    wire.client.asks.cancel(ask, "no")
    assert wire.ask_of(link) == []


def test_a_closed_link_cancels_what_is_open() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    ask = wire.begin(link, b"x")
    wire.ask_of(link)
    assert link.session is not None
    link.session.close(None)
    assert wire.ask_of(link) == [Cancel(ask.id, "")]
    assert link.closed
    link.abort(None)
    link.denied(Refused("no", "denied"), wire.now)


def test_a_lost_broker_fails_what_is_open() -> None:
    wire = BrokerWire(AR, resumes=False)
    link = wire.asking()
    ask = wire.begin(link, b"x")
    wire.ask_of(link)
    wire.client.lost(link, ConnectionResetError("cut"), wire.now)
    assert isinstance(ask.error, PeerLost)
    assert link.on_reply(ask.id, {}, b"", wire.now) is None


def test_a_denied_request_fails() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    ask, gone = wire.begin(link, b"x"), wire.begin(link, b"y")
    wire.ask_of(link)
    wire.client.asks.settle(gone, None, None)
    link.denied(Refused("no", "denied"), wire.now)
    assert isinstance(ask.error, Refused)


def test_a_conversation_ends_when_it_has_its_responses() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    session = link.session
    assert session is not None
    wire.begin(link, b"x")
    session.end()
    wire.carry(link)
    assert session.error is None
    [request] = wire.requests()
    request.answer(b"y")
    wire.reply(link)
    link.take_orders(wire.now)
    assert isinstance(session.error, EndOfData)
    assert session.sending.acked == 1


def test_a_session_that_is_over_needs_no_link() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    assert link.session is not None
    assert carry_asks(wire.client, link.session, 10, wire.now) is None
    link.session.close(None)
    assert carry_asks(wire.client, link.session, 10, wire.now) is None


def test_a_refused_dial_is_final() -> None:
    wire = BrokerWire(AR)
    session = wire.client.begin(wire.now)
    error = AuthenticationFailed("wrong password")
    wire.client.connect_refused(session, error, wire.now)
    assert session.error is error
    wire.client.connect_refused(session, Refused("again", "denied"), wire.now)
    assert session.error is error
    assert wire.client.statistics().refused == 1


def test_links_of_a_broker_carry_no_bytes() -> None:
    wire = BrokerWire(AR)
    link = wire.asking()
    link.send_control(b"frame")
    assert (link.data_to_send(wire.now), link.receive(b"x", wire.now), link.receive_eof(wire.now)) == (
        [],
        [],
        [],
    )
    link.close_soon(wire.now)
    assert link.closed


# -- the server ---------------------------------------------------------------------------------------


def ask_as_foreigner(
    wire: BrokerWire, reply_to: str, body: bytes = b"x", **headers: str
) -> RequestLink | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wire.responder().on_request(reply_to, named, body, wire.now)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Lb_Format": "json"}, "format"),
        ({"Lb_Parts": "5"}, "protocol"),
        ({"Lb_Parts": "0"}, "protocol"),
        ({"Lb_Parts": "-1,2"}, "protocol"),
        ({"Lb_Parts": "one"}, "protocol"),
        ({"Lb_Left": "soon"}, "protocol"),
        ({"Lb_Left": "9" * 1000}, "protocol"),
        ({"Lb_Parts": "0," * 10_000}, "protocol"),
    ],
)
def test_requests_that_do_not_fit_are_refused(headers: dict[str, str], code: str) -> None:
    wire = BrokerWire(AR)
    assert ask_as_foreigner(wire, "r1", **headers) is None
    [reply] = wire.responder().take_orders()
    assert reply.headers == {"Lb-Status": "refused", "Lb-Code": code}
    assert wire.server.statistics().refused == 1


def test_requests_without_a_reply_and_twice_are_ignored() -> None:
    wire = BrokerWire(AR)
    assert ask_as_foreigner(wire, "") is None
    link = ask_as_foreigner(wire, "r1")
    assert link is not None
    assert ask_as_foreigner(wire, "r1") is None
    assert ask_as_foreigner(wire, "r2") is link, "clients that are no linkbox share a session"
    wire.deliver(wire.server)
    assert len(wire.requests()) == 2
    assert wire.responder().take_orders() == []


def test_too_many_clients_requests_and_bytes_are_refused() -> None:
    wire = BrokerWire(AR, limits=Limits(connections=1, asks=2, mailbox_total=3000))
    for number in range(3):
        ask_as_foreigner(wire, f"r{number}")
    wire.deliver(wire.server)
    assert ask_as_foreigner(wire, "r9", Lb_Client="1" * 32) is None
    [reply] = wire.responder().take_orders()
    assert reply.headers["Lb-Code"] == "limit"
    [link] = wire.server.links.links
    assert isinstance(link, RequestLink)
    [reply] = link.take_orders(wire.now)
    assert reply.headers == {"Lb-Status": "fail", "Lb-Type": "limit"}
    for request in wire.requests():
        request.answer(b"ok")
    link.take_orders(wire.now)
    ask_as_foreigner(wire, "r10", b"x" * 2500)
    wire.deliver(wire.server)
    ask_as_foreigner(wire, "r11")
    [reply] = link.take_orders(wire.now)
    assert (reply.to, reply.headers["Lb-Type"]) == ("r11", "limit")


def test_a_client_that_is_no_linkbox_gets_its_response_and_nothing_before() -> None:
    wire = BrokerWire(AR)
    link = ask_as_foreigner(wire, "r1")
    assert link is not None
    wire.deliver(wire.server)
    wire.advance(2 * HERE_AFTER)
    assert link.take_orders(wire.now) == []
    [request] = wire.requests()
    request.answer(b"ok")
    assert [order.body for order in link.take_orders(wire.now)] == [b"ok"]


def test_an_idle_client_is_forgotten_and_may_come_back() -> None:
    wire = BrokerWire(AR)
    for reply_to in ("r1", "r2"):
        link = ask_as_foreigner(wire, reply_to)
        assert link is not None
        wire.deliver(wire.server)
        [request] = wire.requests()
        request.answer(b"ok")
        assert [order.to for order in link.take_orders(wire.now)] == [reply_to]
        assert link.take_orders(wire.now) == []
        wire.advance(IDLE / 2)
        assert not link.closed
        wire.advance(IDLE)
        assert link.closed
        assert not wire.server.sessions.by_id


def test_a_stopping_server_answers_first() -> None:
    wire = BrokerWire(AR)
    link = ask_as_foreigner(wire, "r1")
    assert link is not None
    wire.deliver(wire.server)
    wire.server.shutdown(wire.now)
    assert not link.closed
    [request] = wire.requests()
    request.answer(b"ok")
    assert [order.to for order in link.take_orders(wire.now)] == ["r1"]
    assert link.closed
    assert wire.server.is_idle()


def test_a_server_that_is_aborted_forgets_its_requests() -> None:
    wire = BrokerWire(AR)
    link = ask_as_foreigner(wire, "r1")
    assert link is not None
    wire.deliver(wire.server)
    [request] = wire.requests()
    wire.server.abort()
    assert not wire.responder().has("r1")
    request.answer(b"too late")
    assert link.take_orders(wire.now) == []


def test_parts_without_sizes_are_one_message() -> None:
    assert split_parts(b"abc", {}) is None
    assert split_parts(b"abc", {ask_messages.PARTS: "1,2"}) == [b"a", b"bc"]
    assert split_parts(b"", {ask_messages.PARTS: ""}) == []


def test_orders_are_values() -> None:
    assert Request(1, {}, b"") == Request(1, {}, b"")

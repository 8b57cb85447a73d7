"""Tiny frames cost much more than their bytes: links take turns with a bounded number of them."""

from __future__ import annotations

from typing import Any

import pytest

from linkbox.core.endpoint import EndpointCore
from linkbox.core.frame_reader import FEW_FRAMES, LINK_FRAMES
from linkbox.core.link import State
from linkbox.core.patterns import P2M
from linkbox.core.wait_queue import WaitQueue
from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Decoder
from linkbox.core.wire.handshake_messages import refuse
from linkbox.networks.endpoint_driver import EndpointDriver
from linkbox.surviving import LoopErrors
from tests.core.wire import Probe, Wire, probe_client, probe_server

MANY = 1000
PINGS = b"".join(frames.encode_number(frames.PING, number) for number in range(MANY))


def probes(wire: Wire, number: int) -> list[Probe]:
    found = [probe_server(wire, session=f"{each:032x}") for each in range(number)]
    for probe in found:
        probe.kinds()
    wire.server.effects.frames = 0
    return found


def answered(wire: Wire, probe: Probe) -> list[int]:
    """The PINGs that were processed since the last look."""
    found = Decoder().receive(b"".join(bytes(each) for each in probe.link.data_to_send(wire.now)))
    return [frames.decode_number(frames.PONG, payload) for _, payload in found]


def test_one_link_processes_some_frames_and_leaves_the_rest_for_later_turns() -> None:
    wire = Wire(P2M)
    [probe] = probes(wire, 1)
    server, link = wire.server, probe.link
    server.received(link, PINGS[:-1], wire.now)
    heard = answered(wire, probe)
    assert heard == list(range(LINK_FRAMES))
    assert link.is_behind and link in server.effects.to_write
    server.received(link, PINGS[-1:], wire.now)
    assert answered(wire, probe) == []  # new bytes wait behind those before them
    while link.is_behind:
        assert server.effects.to_read.popleft() is link
        server.received(link, b"", wire.now)
        heard += answered(wire, probe)
    assert heard == list(range(MANY))
    assert not server.effects.to_read


def test_after_many_frames_in_one_turn_those_that_come_late_process_few() -> None:
    wire = Wire(P2M)
    links = probes(wire, 6)
    for probe in links:
        wire.server.received(probe.link, PINGS, wire.now)
    assert [len(answered(wire, probe)) for probe in links] == [LINK_FRAMES] * 4 + [FEW_FRAMES] * 2
    assert list(wire.server.effects.to_read) == [probe.link for probe in links]
    wire.settle()
    assert all(not probe.link.is_behind for probe in links)


def test_what_arrived_before_fin_is_processed_before_it() -> None:
    wire = Wire(P2M)
    [probe] = probes(wire, 1)
    wire.server.received(probe.link, frames.frame(frames.DATA, b"x") * MANY, wire.now)
    wire.server.ended(probe.link, wire.now)
    assert not probe.link.eof  # FIN does not hurry the frames before it
    assert [len(arrival.payloads) for arrival in wire.server.arrivals] == [LINK_FRAMES]
    wire.settle()
    assert wire.server.mailbox.count == MANY and probe.link.eof


def test_fin_behind_many_frames_of_a_link_that_is_lost_meanwhile_is_nothing() -> None:
    wire = Wire(P2M)
    [probe] = probes(wire, 1)
    wire.server.received(probe.link, PINGS, wire.now)
    wire.server.ended(probe.link, wire.now)
    wire.server.lost(probe.link, ConnectionResetError("reset"), wire.now)
    wire.settle()
    assert probe.link.closed and not probe.link.eof


def test_a_violation_among_many_frames_comes_after_those_before_it() -> None:
    wire = Wire(P2M)
    [probe] = probes(wire, 1)
    wire.server.received(probe.link, PINGS + frames.frame(frames.WELCOME, b"{}"), wire.now)
    assert not probe.link.closed
    wire.settle()
    assert "out of place" in str(probe.link.error)
    wire.server.received(probe.link, b"", wire.now)  # a turn that was left for the closed link


def test_a_link_that_closes_while_it_is_behind_is_read_to_its_end() -> None:
    wire = Wire(P2M)
    [probe] = probes(wire, 1)
    wire.server.received(probe.link, PINGS, wire.now)
    probe.link.close_soon(wire.now)
    wire.settle()
    assert probe.link.state is State.CLOSING and not probe.link.is_behind
    wire.server.ended(probe.link, wire.now)
    assert probe.link.closed


def test_a_link_that_closes_while_fin_waits_is_closed() -> None:
    wire = Wire(P2M)
    [probe] = probes(wire, 1)
    wire.server.received(probe.link, PINGS, wire.now)
    wire.server.ended(probe.link, wire.now)
    probe.link.close_soon(wire.now)
    wire.settle()
    assert probe.link.closed


def test_frames_that_close_a_link_let_fin_behind_them_close_it() -> None:
    """After END and END_ACK nothing may come but FIN."""
    wire = Wire(P2M)
    [probe] = probes(wire, 1)
    [session] = wire.server.sessions.by_id.values()
    session.end()
    wire.settle()
    assert "END" in probe.kinds()
    ends = frames.encode_number(frames.END, 0) + frames.encode_number(frames.END_ACK, 0)
    wire.server.received(probe.link, PINGS + ends, wire.now)
    wire.server.ended(probe.link, wire.now)
    wire.settle()
    assert probe.link.closed and session.peer.id not in wire.server.sessions.by_id


@pytest.mark.parametrize("last", [frames.encode_number(frames.GOAWAY, 0), refuse("disconnected", "go")])
def test_a_frame_that_closes_a_link_lets_fin_behind_it_close_it(last: bytes) -> None:
    wire = Wire(P2M)
    probe = probe_client(wire)
    wire.client.received(probe.link, PINGS + last, wire.now)
    wire.client.ended(probe.link, wire.now)
    assert probe.link.eof_waits
    wire.settle()
    assert probe.link.closed and not probe.link.eof_waits


class Turns(EndpointDriver):
    """A driver without a network, which counts the turns that it must take."""

    def __init__(self, hub: EndpointCore, reads_on: bool) -> None:
        super().__init__(hub, None, LoopErrors(hub.context.counters))
        self.reads_on = reads_on
        self.soon = 0

    def turn_soon(self) -> None:
        self.soon += 1

    def look_earlier(self) -> None:
        pass

    def ring(self, queue: WaitQueue) -> None:
        pass


@pytest.mark.patches
@pytest.mark.parametrize("reads_on", [True, False])
def test_a_turn_goes_on_with_each_link_and_ends(reads_on: bool) -> None:
    wire = Wire(P2M)
    links = probes(wire, 6)
    driver: Any = Turns(wire.server, reads_on)
    for probe in links:
        probe.link.carrier = None
        wire.server.received(probe.link, PINGS, wire.now)
        answered(wire, probe)
    driver.turn_done(wire.now)
    assert driver.soon == 1
    first = [len(answered(wire, probe)) for probe in links]
    assert first == ([LINK_FRAMES] * 4 + [0] * 2 if reads_on else [0] * 6)
    driver.reads_on = True
    while wire.server.effects.to_read:
        driver.turn_done(wire.now)
    total = [len(answered(wire, probe)) + begun for probe, begun in zip(links, first, strict=True)]
    assert total == [MANY - LINK_FRAMES] * 4 + [MANY - FEW_FRAMES] * 2

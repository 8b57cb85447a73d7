"""The state machines can fail: each of these mistakes in the core, they must find.

A mutant that survives says that the machine, or its invariants, have become too weak.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from linkbox.core.admission import Admission
from linkbox.core.channel import OutgoingMessage
from linkbox.core.client_side import ClientSide
from linkbox.core.durable.entries import Inflow, Restart, Spool
from linkbox.core.durable.inbox import InboxMarks
from linkbox.core.durable.record import Record
from linkbox.core.durable.rows import Row
from linkbox.core.frame_reader import FrameReader
from linkbox.core.mailbox import Mailbox
from linkbox.core.receive_window import ReceiveWindow
from linkbox.core.send_window import SendWindow
from linkbox.core.session import Session
from linkbox.core.source import Source
from linkbox.events import EventKind, Stage
from tests.core.test_any_drops import AnyDrops, small_pieces
from tests.core.test_crashes import AnyCrashes

pytestmark = pytest.mark.patches

__all__ = ["small_pieces"]

SEARCH = settings(
    max_examples=500,
    stateful_step_count=40,
    database=None,
    derandomize=True,  # the same search each time
    deadline=None,
    phases=(Phase.generate,),  # found is enough: nobody reads the smallest example
    suppress_health_check=list(HealthCheck),
)
MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}
STORED_MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}


def mutant(function: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    MUTANTS[function.__name__] = function
    return function


def stored_mutant(function: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    STORED_MUTANTS[function.__name__] = function
    return function


@mutant
def acknowledges_before_it_is_stored(patch: pytest.MonkeyPatch) -> None:
    add = FrameReader._add_messages

    def early(self: FrameReader, payloads: list[Any], may_have_errors: bool) -> None:
        add(self, payloads, may_have_errors)
        session = self._session
        session.receiving.processed = session.receiving.arrived

    patch.setattr(FrameReader, "_add_messages", early)


@mutant
def rings_before_it_is_stored(patch: pytest.MonkeyPatch) -> None:
    add, put = FrameReader._add_messages, ReceiveWindow.store

    def early(self: FrameReader, payloads: list[Any], may_have_errors: bool) -> None:
        add(self, payloads, may_have_errors)
        self._context.effects.emit(EventKind.DATA, self._session.peer, count=len(payloads))

    def silent(self: ReceiveWindow, *args: Any) -> None:
        events = self.context.effects.events
        listening, events.listening = events.listening, set()
        put(self, *args)
        events.listening = listening

    patch.setattr(FrameReader, "_add_messages", early)
    patch.setattr(ReceiveWindow, "store", silent)


@mutant
def sends_again_what_the_peer_has(patch: pytest.MonkeyPatch) -> None:
    """Only once: a session that never agrees would dial for ever."""
    rewind = Session.rewind

    def doubtful(self: Session, arrived: int) -> None:
        once = self.generation.epoch in (2, 3) and self.context.is_client
        rewind(self, max(self.sending.acked, arrived - 1) if once else arrived)

    patch.setattr(Session, "rewind", doubtful)


@mutant
def forgets_what_was_under_way_when_it_dropped(patch: pytest.MonkeyPatch) -> None:
    rewind = Session.rewind

    def forgetful(self: Session, arrived: int) -> None:
        rewind(self, arrived)
        if self.sending.queue and self.sending.sent > 0:
            self.sending.queue.popleft()

    patch.setattr(Session, "rewind", forgetful)


@mutant
def does_not_give_credit_back_on_resume(patch: pytest.MonkeyPatch) -> None:
    rewind = Session.rewind

    def greedy(self: Session, arrived: int) -> None:
        before = self.sending.sent_bytes
        rewind(self, arrived)
        self.sending.sent_bytes = before

    patch.setattr(Session, "rewind", greedy)


@mutant
def sends_again_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    rewind = Session.rewind

    def muddled(self: Session, arrived: int) -> None:
        rewind(self, arrived)
        self.sending.queue.rotate(1)

    patch.setattr(Session, "rewind", muddled)


@mutant
def says_received_when_it_was_sent(patch: pytest.MonkeyPatch) -> None:
    stage = OutgoingMessage.stage

    def boast(self: OutgoingMessage) -> Stage:
        real: Stage = stage.fget(self)  # type: ignore[attr-defined]
        return Stage.RECEIVED if real is Stage.SENT else real

    patch.setattr(OutgoingMessage, "stage", property(boast))


@mutant
def says_taken_when_it_was_received(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Source, "taken", property(lambda self: self.processed))


@mutant
def lets_an_old_connection_go_on(patch: pytest.MonkeyPatch) -> None:
    """A resume with an older epoch is taken for the newest."""
    enter = Admission._enter

    def trusting(self: Admission, link: Any, hello: Any, now: float) -> None:
        session = self._sessions.by_id.get(hello.session)
        if session is not None:
            session.generation.epoch = 0
            session.generation.born = hello.born
            session.receiving.arrived = max(0, session.receiving.arrived - 1)
        enter(self, link, hello, now)

    patch.setattr(Admission, "_enter", trusting)


@mutant
def takes_any_server_for_the_one_it_knew(patch: pytest.MonkeyPatch) -> None:
    """The client goes on with what it has sent, whatever the server says has arrived."""
    welcome = ClientSide._welcomed

    def deaf(self: ClientSide, link: Any, handshake: Any, said: Any, now: float) -> None:
        session = link.session
        if said.resumed and session is not None:
            session.rewind(session.sending.sent)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Session, "rewind", lambda self, arrived: None)
            welcome(self, link, handshake, said, now)

    patch.setattr(ClientSide, "_welcomed", deaf)


@mutant
def loses_a_message_when_a_bundle_is_parted(patch: pytest.MonkeyPatch) -> None:
    unbundled = SendWindow.unbundled

    def careless(self: SendWindow, units: Any, index: int) -> Any:
        parted = unbundled(self, units, index)
        if len(parted) > 1:
            del parted[index]
        return parted

    patch.setattr(SendWindow, "unbundled", careless)


@mutant
def grants_no_more_when_the_mailbox_was_emptied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Session,
        "credit",
        lambda self: (self.receiving.granted_bytes or 150, self.receiving.granted_units or 2),
    )


@mutant
def stores_twice(patch: pytest.MonkeyPatch) -> None:
    put = Mailbox.put

    def twice(self: Mailbox, source: Source, items: Any, last: int, nbytes: int, at: float) -> Any:
        if last % 7 == 0:
            items = [*items, items[-1]]
        return put(self, source, items, last, nbytes, at)

    patch.setattr(Mailbox, "put", twice)


# What only a death shows: these are put into the machine of test_crashes.py.


@stored_mutant
def acknowledges_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    init = Inflow.__init__

    def early(self: Inflow, record: Any, arrival: Any, values: Any, at: float) -> None:
        init(self, record, arrival, values, at)
        arrival.session.receiving.processed = arrival.last
        arrival.session.receiving.request_ack(2)

    patch.setattr(Inflow, "__init__", early)


@stored_mutant
def fills_the_mailbox_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    init = Inflow.__init__

    def early(self: Inflow, record: Any, arrival: Any, values: Any, at: float) -> None:
        init(self, record, arrival, values, at)
        record.journal._owner.store_arrival(arrival, values, at)

    patch.setattr(Inflow, "__init__", early)
    patch.setattr(Inflow, "done", lambda self, owner: None)


@stored_mutant
def accepts_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    init = Spool.__init__

    def early(self: Spool, *args: Any) -> None:
        init(self, *args)
        self.is_settled = True

    patch.setattr(Spool, "__init__", early)


@stored_mutant
def says_taken_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    taken = InboxMarks.on_taken

    def early(self: InboxMarks, given: int, start: int) -> None:
        taken(self, given, start)
        self.schedule.touched.pop(self.record, None)

    patch.setattr(InboxMarks, "on_taken", early)


@stored_mutant
def deletes_what_was_sent_and_not_acknowledged(patch: pytest.MonkeyPatch) -> None:
    row = Record.row

    def hasty(self: Record) -> Row:
        found = row(self)
        if self.session is not None:
            found.acked = max(found.acked, self.session.sending.sent + self.spool.base)
        return found

    patch.setattr(Record, "row", hasty)


@stored_mutant
def forgets_where_the_peer_is(patch: pytest.MonkeyPatch) -> None:
    """A client from disk sends everything again that the disk does not know to be acknowledged."""
    resume = Record.resume

    def forgetful(self: Record, received: int) -> None:
        resume(self, self.spool.acked - self.spool.base if self.spool.is_stub else received)

    patch.setattr(Record, "resume", forgetful)


@stored_mutant
def sends_what_is_in_doubt_again(patch: pytest.MonkeyPatch) -> None:
    init = Restart.__init__

    def careless(self: Restart, record: Any, old: Any, until: int, known: Any) -> None:
        init(self, record, old, record.spool.acked, known)

    patch.setattr(Restart, "__init__", careless)


@stored_mutant
def takes_up_a_session_after_a_volatile_restart(patch: pytest.MonkeyPatch) -> None:
    """A server that has forgotten everything says that it knows the session."""
    welcome = Admission._welcome

    def boast(self: Admission, link: Any, session: Any, hello: Any, resumed: bool, now: float) -> None:
        welcome(self, link, session, hello, True, now)

    patch.setattr(Admission, "_welcome", boast)


@stored_mutant
def is_sure_that_it_never_had_the_session(patch: pytest.MonkeyPatch) -> None:
    """A server that was restarted without a store says that nothing of the session ever arrived."""
    patch.setattr(Admission, "_never_had", lambda *_: True)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_state_machine_as_test(AnyDrops, settings=SEARCH)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", STORED_MUTANTS)
def test_the_machine_with_stores_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    STORED_MUTANTS[name](monkeypatch)
    with pytest.raises(Exception):  # noqa: B017  (any: a mutant may also break the disk's own checks)
        run_state_machine_as_test(AnyCrashes, settings=SEARCH)


@pytest.mark.usefixtures("small_pieces")
def test_the_machine_finds_nothing_where_nothing_is_wrong() -> None:
    run_state_machine_as_test(AnyDrops, settings=SEARCH)


@pytest.mark.usefixtures("small_pieces")
def test_the_machine_with_stores_finds_nothing_where_nothing_is_wrong() -> None:
    run_state_machine_as_test(AnyCrashes, settings=settings(SEARCH, max_examples=150))

"""Each bound has a check that can fail: without it, the fuzzer's oracle finds what a peer does then.

First every limit of `Limits` is lifted, then each bound that is a constant or a rule. The story that is named
beside it reaches the bound; it is one of the seeds, so each campaign begins there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fuzz import bench
from fuzz.targets import TARGETS
from linkbox.core import (
    admission,
    frame_reader,
    frame_writer,
    link,
    places,
    rejections,
    send_window,
    server_side,
)
from linkbox.core.arrival import Assembler
from linkbox.core.asks_server import ServerAsks
from linkbox.core.frame_reader import FrameReader
from linkbox.core.incoming_asks import AskMemory, SessionAsks
from linkbox.core.log_limit import LogLimit
from linkbox.core.paused_links import PausedLinks
from linkbox.core.receive_window import ReceiveWindow
from linkbox.core.resumption import HelloVerdict, on_hello
from linkbox.core.session import Session
from linkbox.core.timers import NEVER
from linkbox.core.wire import decoder
from linkbox.limits import Limits

pytestmark = pytest.mark.patches

LIFTED = {
    "message": ("server", "a message that is too large"),
    "handshake": ("server", "a handshake that takes its time"),
    "unwelcomed": ("full-house", "a crowd that says nothing"),
    "unwelcomed_per_ip": ("full-house", "a crowd from one address"),
    "connections": ("full-house", "a crowd"),
    "heartbeat": ("server", "silence"),
    "peer_timeout": ("server", "silence"),
    "progress": ("server", "a message that dribbles"),
    "stalled_write": ("server", "it does not read"),
    "mailbox_bytes": ("server", "many messages"),
    "mailbox_messages": ("server", "tiny messages"),
    "mailbox_total": ("server", "a full mailbox"),
    "window_bytes": ("server", "it acknowledges no bytes"),
    "window_messages": ("server", "it acknowledges nothing"),
    "control_frames": ("server", "pings, and it does not read"),
    "asks": ("server", "many asks"),
    "session": ("server", "a session is left behind"),
    "sessions": ("secrets", "sessions are left behind"),
    "stored_session": ("stored-server", "a session is left behind"),
    "store_bytes": ("stored-server", "more than the store may hold"),
    "close": ("server", "refused, and stays"),
}
"""The target and the story that find it. Not ``decoded``: the bench decodes without estimates, see
tests/faults/test_costs.py."""
BEHIND = {
    "mailbox_bytes": ("mailbox_total",),
    "mailbox_messages": ("mailbox_bytes", "mailbox_total"),
}
"""Other limits that keep the same in bounds, in these stories: they are lifted before."""
ENDLESS = 1 << 40


def tell(target: str, story: str) -> None:
    TARGETS[target].run(TARGETS[target].stories[story])


@pytest.mark.parametrize("field", [name for name in Limits.__struct_fields__ if name != "decoded"])
def test_a_limit_that_is_not_kept_is_found(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lifted: dict[str, Any] = dict.fromkeys(BEHIND.get(field, ()), ENDLESS)
    monkeypatch.setattr(bench, "given", lambda limits: msgspec.structs.replace(limits, **lifted))
    tell(*LIFTED[field])
    lifted[field] = ENDLESS
    with pytest.raises(AssertionError):
        tell(*LIFTED[field])


# --- bounds that are constants or rules ---------------------------------------------------------------

Mutant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, tuple[Mutant, str, str]] = {}


def found_by(target: str, story: str) -> Callable[[Mutant], Mutant]:
    def keep(function: Mutant) -> Mutant:
        MUTANTS[f"{function.__name__}, {target}: {story}"] = function, target, story
        return function

    return keep


@found_by("accept", "far ahead of accept=")
@found_by("full-house", "far ahead of a slot")
def what_is_said_ahead_is_held_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoder, "MAX_EARLY", ENDLESS)


@found_by("server", "refused, and goes on")
@found_by("tls-server", "no TLS, over lines")
def a_refused_peer_is_read_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(link.Link, "drain", lambda self, data: None)


@found_by("server", "a large frame before HELLO")
def a_frame_of_the_handshake_may_be_large(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoder, "_SMALL_LIMITS", (ENDLESS,) * 256)


@found_by("server", "a large frame")
def a_frame_may_be_large(patch: pytest.MonkeyPatch) -> None:
    for module in (decoder, frame_reader):
        patch.setattr(module, "LIMITS", (ENDLESS,) * 256)


def no_credit(self: ReceiveWindow, *args: Any) -> None:
    """Whatever arrives is within the credit."""


@found_by("server", "many messages")
@found_by("server", "tiny messages")
def more_than_was_granted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReceiveWindow, "_check_overdraft", no_credit)


@found_by("server", "more pieces than were announced")
def a_message_grows_beyond_its_size(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoder.Assembly, "put", lambda self, body: self.add(body))


@found_by("server", "a full mailbox, and more")
def a_full_mailbox_grants_credit(patch: pytest.MonkeyPatch) -> None:
    def credit(self: Session) -> tuple[int, int]:
        self.receiving.grant(0, 0, self.context.limits.mailbox_messages, self.context.limits.mailbox_bytes)
        return self.receiving.granted_bytes, self.receiving.granted_units

    patch.setattr(Session, "credit", credit)


@found_by("server", "bad messages")
def all_rejections_are_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rejections, "KEPT", ENDLESS)


@found_by("server", "many messages are said to be lost")
def any_number_of_ranges_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(send_window, "add_range", lambda ranges, first, last: ranges.append((first, last)))


@found_by("server", "ended, and left behind")
def an_ended_session_is_kept_for_long(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(server_side, "CONFIRM", ENDLESS)


@found_by("client", "much to send before WELCOME")
def a_client_says_more_than_a_server_takes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(frame_writer, "_EARLY_BODIES", ENDLESS)


@found_by("stored-server", "it acknowledges before that is read")
def frames_for_what_is_on_disk_are_kept_without_end(patch: pytest.MonkeyPatch) -> None:
    def is_early(self: FrameReader, session: Session, kind: int, payload: bytes) -> bool:
        is_loading = session.record is not None and session.record.is_loading()
        if is_loading:
            self._late.append((kind, payload))
        return is_loading

    patch.setattr(FrameReader, "_is_early", is_early)


@found_by("server", "nonsense")
def each_stranger_has_a_line_in_the_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LogLimit, "allows", lambda self, now: True)


@found_by("server", "half asks")
def half_asks_are_held_without_end(patch: pytest.MonkeyPatch) -> None:
    hold = AskMemory.hold

    def hold_all(self: AskMemory, asks: SessionAsks, size: int, now: float) -> bool:
        hold(self, asks, size, now)
        return True

    patch.setattr(AskMemory, "hold", hold_all)


@found_by("server", "it takes no responses")
def any_number_of_responses_waits(patch: pytest.MonkeyPatch) -> None:
    keep = AskMemory.keep

    def keep_all(self: AskMemory, asks: SessionAsks) -> bool:
        keep(self, asks)
        return False

    patch.setattr(AskMemory, "keep", keep_all)


@found_by("full-house", "a crowd")
def there_is_always_a_slot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(places.Places, "make_room", lambda self, identity: True)


@found_by("full-house", "the dead make room")
def an_applicant_waits_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(admission.PendingHandshake, "next_timer", lambda self: NEVER)


@found_by("full-house", "the living stay")
def whoever_came_first_makes_room(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(places.Places, "evict_silent", lambda self, since: evict_first(self))


def evict_first(self: places.Places) -> None:
    self._sessions.close_session(next(iter(self._sessions.by_id.values())), None)


@found_by("secrets", "as somebody else")
def a_session_belongs_to_whoever_names_it(patch: pytest.MonkeyPatch) -> None:
    def verdict(**facts: bool) -> HelloVerdict:
        return on_hello(**{**facts, "is_same_identity": True})

    patch.setattr(admission, "on_hello", verdict)


@found_by("server", "a session is left behind")
def a_session_is_kept_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(server_side.ServerSide, "session_due", lambda self, session, now: None)


@found_by("plain-server", "more than the mailbox holds")
def a_full_mailbox_is_filled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PausedLinks, "pause", lambda self, source, route: None)


@found_by("plain-server", "a line without an end")
def a_line_may_have_any_length(patch: pytest.MonkeyPatch) -> None:
    without_limit(patch, "lines")


@found_by("plain-server", "a length of four gigabytes")
def a_prefix_may_promise_anything(patch: pytest.MonkeyPatch) -> None:
    without_limit(patch, "length-prefixed")


def without_limit(patch: pytest.MonkeyPatch, target: str) -> None:
    """The decoder of that framing takes messages of any length."""
    from fuzz.links import PLAIN

    for framing in map(type, PLAIN):
        make = framing.decoder
        patch.setattr(framing, "decoder", lambda self, limit, make=make: make(self, ENDLESS))


@found_by("plain-ar-server", "many asks, one after the other")
def any_number_of_asks_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ServerAsks, "_pause", lambda self, asks: None)


@found_by("plain-ar-server", "an ask without an end")
def an_ask_over_raw_may_have_any_length(patch: pytest.MonkeyPatch) -> None:
    add = Assembler.add
    patch.setattr(Assembler, "add", lambda self, body, limit: add(self, body, ENDLESS))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_bound_that_is_not_kept_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, target, story = MUTANTS[name]
    if target.startswith("tls"):
        pytest.importorskip("cryptography")
    tell(target, story)
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        tell(target, story)


def test_each_story_is_told_as_it_is_meant() -> None:
    """No violation where none is meant; a story that breaks off reaches nothing."""
    for target in TARGETS.values():
        for data in target.stories.values():
            target.run(data)
            assert len(data) <= target.longest

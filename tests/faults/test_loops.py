"""Whatever is raised in a loop that serves everybody: it is logged, counted, and the loop goes on.

`LOOPS` has every such loop of an endpoint. Each gets exceptions of each kind thrown into it: from the code of
the user where the loop calls some (`OF_USERS`), otherwise from inside linkbox.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import linkbox.networks.sockets
from linkbox import AnswerError, Backoff, EventKind, Json, LinkboxError, Refused, StoreError, Typed, aio
from linkbox.core.durable.entries import Spool
from linkbox.core.endpoint_core import ServerCore
from linkbox.core.frame_reader import FrameReader
from linkbox.core.inbox import Inbox
from linkbox.core.linked_link import LinkedLink
from linkbox.core.receive_window import ReceiveWindow
from linkbox.networks import sockets_aio, sockets_threaded
from linkbox.networks.dialer import Dialer
from linkbox.networks.dialer_aio import AioDialer
from linkbox.networks.endpoint_driver import EndpointDriver
from linkbox.networks.sockets_aio import AioSockets
from linkbox.networks.sockets_threaded import ThreadedSockets
from linkbox.operations.callbacks import CallbackLoop
from linkbox.store.sqlite import Store
from linkbox.threaded.engine import Engine
from tests.faults.place import AT_ONCE, PATIENCE, Place
from tests.threaded.helpers import Ear, Process, wait_until


@pytest.fixture
def transport() -> str:
    """What fails is above the transport."""
    return "tcp"


class Unknown(BaseException):
    """One that nobody expects."""


KINDS = (ValueError, SystemExit, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, Unknown)
TIMES = 10
"""More than there are workers."""


class Throwing:
    """A function that raises some times, then does what another one does."""

    def __init__(
        self,
        kind: type[BaseException],
        times: int,
        then: Callable[..., Any],
        when: Callable[..., bool] = lambda *args: True,
    ) -> None:
        self._kind = kind
        self._then = then
        self._when = when
        self._lock = threading.Lock()
        self._left = self.times = times

    def __call__(self, *args: Any) -> Any:
        with self._lock:
            is_due = self._left > 0 and self._when(*args)
            self._left -= is_due
        if is_due:
            raise self._kind("thrown")
        return self._then(*args)

    @property
    def is_spent(self) -> bool:
        return not self._left


class Case:
    """What a loop of the list needs: a place, a kind of exception, a folder, a way to patch."""

    def __init__(
        self, place: Place, kind: type[BaseException], patch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        self.place = place
        self.kind = kind
        self.folder = folder
        self._patch = patch

    def throwing(self, then: Callable[..., Any], times: int = TIMES) -> Throwing:
        return Throwing(self.kind, times, then)

    def patch(
        self, owner: Any, name: str, times: int = 1, when: Callable[..., bool] = lambda *args: True
    ) -> Throwing:
        """Let a function of linkbox raise, when it is called with these arguments."""
        throwing = Throwing(self.kind, times, getattr(owner, name), when)
        # A function, which binds as a method does.
        self._patch.setattr(owner, name, lambda *args: throwing(*args))
        return throwing

    def is_good(self, server: Any, **options: Any) -> None:
        """The server serves as if nothing had happened: a client connects, a message arrives."""
        with self.place.client("P2P", server.address, name="good", **options) as client:
            peer = self.place.peer(server, "good")
            client.send(b"good").wait(timeout=PATIENCE)
            assert server.link(peer).data_get(PATIENCE) == b"good"
            server.send(b"back", to=peer)
            assert client.data_get(PATIENCE) == b"back"


# --- the code of the user ---------------------------------------------------------------------------------


def accept(case: Case) -> Any:
    throwing = case.throwing(lambda info: True)
    with case.place.server("P2P", max_peers=10, accept=throwing) as server:
        for _ in range(TIMES):
            with pytest.raises(Refused):
                case.place.client("P2P", server.address, name="bad").start()
        case.is_good(server)
        return server.statistics()


def accept_over_a_plain_framing(case: Case) -> Any:
    throwing = case.throwing(lambda info: True)
    with case.place.server("P2P", framing=linkbox.Lines(), max_peers=10, accept=throwing) as server:
        with case.place.client("P2M", server.address, framing=linkbox.Lines(), linger=60) as client:
            # With a plain framing nobody says that a connection is rejected: it only closes.
            wait_until(lambda: _sends(client) and server.statistics().messages_received)
        return server.statistics()


def _sends(client: Any) -> bool:
    try:
        client.send(b"x", timeout=PATIENCE)
    except LinkboxError:
        return False
    return True


def secret(case: Case) -> Any:
    throwing = case.throwing(lambda name: b"secret")
    with case.place.server("P2P", max_peers=10, secret=throwing) as server:
        for _ in range(TIMES):
            with pytest.raises(LinkboxError):
                case.place.client("P2P", server.address, name="bad", secret=b"secret").start()
        case.is_good(server, secret=b"secret")
        return server.statistics()


def callbacks(case: Case) -> Any:
    ear = Ear()
    throwing = case.throwing(ear)
    with case.place.server("P2P", max_peers=10) as server:
        server.add_callback(throwing)
        with case.place.client("P2P", server.address) as client:
            for _ in range(TIMES + 3):
                client.send(b"x")
            ear.wait(3)
        assert server.statistics().callback_errors == TIMES
        return server.statistics()


def handlers(case: Case) -> Any:
    throwing = case.throwing(lambda request: request.data)
    with case.place.server("AR", handler=throwing, workers=2) as server:
        with case.place.client("AR", server.address, keep_alive=True) as client:
            for _ in range(TIMES):
                with pytest.raises(AnswerError, match=f"{case.kind.__name__}: thrown"):
                    client.ask(b"bad", timeout=PATIENCE)
            assert client.ask(b"good", timeout=PATIENCE) == b"good"
        return server.statistics()


class OfUser:
    """A format of the user."""

    name = "of-user"

    def __init__(
        self, decode: Callable[[bytes], Any] = bytes, encode: Callable[[Any], bytes] = bytes
    ) -> None:
        self.decode = decode
        self.encode = encode


def encoding_of_responses(case: Case) -> Any:
    throwing = case.throwing(bytes)
    format = OfUser(encode=throwing)
    with case.place.server("AR", format, handler=lambda request: request.data, workers=2) as server:
        with case.place.client("AR", server.address, OfUser(), keep_alive=True) as client:
            for _ in range(TIMES):
                with pytest.raises(AnswerError, match=f"{case.kind.__name__}: thrown"):
                    client.ask(b"bad", timeout=PATIENCE)
            assert client.ask(b"good", timeout=PATIENCE) == b"good"
        return server.statistics()


def decoding(case: Case) -> Any:
    throwing = case.throwing(bytes)
    with case.place.server("P2P", OfUser(throwing), max_peers=10) as server:
        return _decodes(case, server, OfUser(), b"bad", b"good")


class Picky(msgspec.Struct):
    """Our own formats call code of the user, too."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise _raised.pop(0)("thrown")


_raised: list[type[BaseException]] = []


def decoding_inside_our_formats(case: Case) -> Any:
    _raised[:] = [case.kind] * TIMES
    with case.place.server("P2P", Typed(Picky), max_peers=10) as server:
        return _decodes(case, server, Named("typed"), {"number": -1}, {"number": 1})


class Named:
    """Json by another name."""

    def __init__(self, name: str) -> None:
        self.name = Typed(Picky).name if name == "typed" else name
        self.encode = Json().encode
        self.decode = Json().decode


def _decodes(case: Case, server: Any, format: Any, bad: Any, good: Any) -> Any:
    errors = Ear()
    server.add_callback(errors, EventKind.ERROR)
    with case.place.client("P2P", server.address, format, name="bare") as client:
        for _ in range(TIMES):
            with pytest.raises(linkbox.DecodeError):
                client.send(bad).wait(timeout=PATIENCE)
        client.send(good).wait(timeout=PATIENCE)
        assert case.place.view(server).data_get(PATIENCE)
    errors.wait(TIMES)
    assert server.statistics().rejected == TIMES
    return None  # these are counted as rejected, and logged as such


# --- linkbox itself ---------------------------------------------------------------------------------------


def disk_writer(case: Case) -> Any:
    throwing = case.patch(Store, "apply", TIMES)
    options: dict[str, Any] = {"store": case.folder / "client"}
    with case.place.server("P2P", max_peers=10) as server:
        client = case.place.client("P2P", server.address, name="bare", **options)
        wait_until(lambda: _is_accepted(client.start, case.kind) and throwing.is_spent, "it starts")
        wait_until(lambda: _is_accepted(lambda: client.send(b"good"), case.kind), "it is on disk")
        assert case.place.view(server).data_get(PATIENCE) == b"good"
        statistics = client.statistics()
        assert client.stop()
        return statistics


def _is_accepted(call: Callable[[], Any], kind: type[BaseException]) -> bool:
    try:
        call()
    except StoreError as error:
        return kind.__name__ not in str(error)
    return True


def entries_of_the_journal(case: Case) -> Any:
    options: dict[str, Any] = {"store": case.folder / "client"}
    with (
        case.place.server("P2P", max_peers=10) as server,
        case.place.client("P2P", server.address, **options) as client,
    ):
        throwing = case.patch(Spool, "done")
        with pytest.raises(StoreError, match=case.kind.__name__):
            client.send(b"bad")
        assert throwing.is_spent
        client.send(b"good").wait(timeout=PATIENCE)
        return client.statistics()


def reaper(case: Case) -> Any:
    throwing = case.patch(Inbox, "fail_abandoned")
    with (
        case.place.server("AR") as server,
        case.place.client("AR", server.address, keep_alive=True) as client,
    ):
        receipt = client.send(b"who reads this?")
        server.data_get(PATIENCE)  # and forgets it
        with pytest.raises(AnswerError, match="unanswered"):
            client.data_get(PATIENCE)
        assert throwing.is_spent and receipt is not None
        return server.statistics()


def turns(case: Case) -> Any:
    with case.place.server("P2P", max_peers=10) as server:
        with case.place.client("P2P", server.address, name="bare") as client:
            view = case.place.view(server)
            throwing = case.patch(ServerCore, "handle_timers", 3)

            def exchange() -> bool:
                client.send(b"x")  # an acknowledgement is due soon: that is a timer
                assert view.data_get(PATIENCE) == b"x"
                return throwing.is_spent

            wait_until(exchange)
            client.send(b"x").wait(timeout=PATIENCE)
        return server.statistics()


def reader(case: Case) -> Any:
    with case.place.server("P2P", max_peers=10) as server:
        with case.place.client("P2P", server.address, name="bare", reconnect=AT_ONCE) as client:
            view = case.place.view(server)
            throwing = case.patch(FrameReader, "receive")
            resumed = Ear()
            server.add_callback(resumed, EventKind.RESUMED)
            client.send(b"hit").wait(timeout=PATIENCE)  # its connection breaks, and is resumed
            assert view.data_get(PATIENCE) == b"hit"
            assert throwing.is_spent
        return _both(server, client)


def writer(case: Case) -> Any:
    with case.place.server("P2P", max_peers=10) as server:
        with case.place.client("P2P", server.address, name="bare", reconnect=AT_ONCE) as client:
            view = case.place.view(server)
            throwing = case.patch(LinkedLink, "data_to_send")
            client.send(b"hit").wait(timeout=PATIENCE)
            assert view.data_get(PATIENCE) == b"hit"
            assert throwing.is_spent
        return _both(server, client)


def storing(case: Case) -> Any:
    return _hits_storing(case, Inbox, "deliver", OfUser())


def storing_of_our_formats(case: Case) -> Any:
    return _hits_storing(case, Inbox, "deliver", Json())


def storing_where_it_is_read(case: Case) -> Any:
    return _hits_storing(case, ReceiveWindow, "store", linkbox.Bytes())


def _hits_storing(case: Case, owner: Any, name: str, format: Any, **options: Any) -> Any:
    """The message is lost, and its sender must get to know: the next one does not acknowledge it."""
    hit, good = ("hit", "good") if isinstance(format, Json) else (b"hit", b"good")
    with case.place.server("P2P", format, max_peers=10, **options) as server:
        with case.place.client("P2P", server.address, format, name="bad", reconnect=AT_ONCE) as client:
            throwing = case.patch(owner, name)
            with pytest.raises(LinkboxError):
                client.send(hit).wait(timeout=PATIENCE)
            assert throwing.is_spent
        with case.place.client("P2P", server.address, format, name="good") as other:
            other.send(good).wait(timeout=PATIENCE)
            assert server.link(case.place.peer(server, "good")).data_get(PATIENCE) == good
        return _both(server, client)


def storing_what_is_on_disk(case: Case) -> Any:
    return _hits_storing(case, Inbox, "store", linkbox.Bytes(), store=case.folder / "server")


def _both(*endpoints: Any) -> Any:
    """The statistics of the one that was hit."""
    return max((each.statistics() for each in endpoints), key=lambda found: found.errors)


def listener(case: Case) -> Any:
    with case.place.server("P2P", max_peers=10) as server:
        throwing = case.patch(ServerCore, "accept", 3)
        case.is_good(server, reconnect=AT_ONCE)
        assert throwing.is_spent
        return server.statistics()


def listening_socket(case: Case) -> Any:
    module = sockets_threaded if case.place.front == "threaded" else sockets_aio
    with case.place.server("P2P", max_peers=10) as server:
        throwing = case.patch(module, "accept_some", 3)
        case.is_good(server, reconnect=AT_ONCE)
        assert throwing.is_spent
        return server.statistics()


def leader(case: Case) -> Any:
    """Of threads; with asyncio the event loop is the leader, and calls what `reader` and others hit."""
    with case.place.server("P2P", max_peers=10) as server:
        if case.place.front == "threaded":
            reads = case.patch(ThreadedSockets, "read", 3, when=_is_of_server)
            reports = case.patch(ThreadedSockets, "report", 3, when=_is_of_server)
            case.is_good(server)
            assert reads.is_spent and reports.is_spent
        else:
            opens = case.patch(AioSockets, "opened", when=_is_of_server)
            case.is_good(server, reconnect=AT_ONCE)
            assert opens.is_spent
        return server.statistics()


def _is_of_server(network: Any, *_: Any) -> bool:
    """Its client has a network of its own."""
    return network._listener is not None


def decisions(case: Case) -> Any:
    with case.place.server("P2P", max_peers=10, accept=lambda info: True) as server:
        throwing = case.patch(ServerCore, "decide", 3)
        case.is_good(server, reconnect=AT_ONCE)
        assert throwing.is_spent
        return server.statistics()


def dialer(case: Case) -> Any:
    owner, name = (Dialer, "try_next") if case.place.front == "threaded" else (AioDialer, "_connect")
    return _connects(case, case.patch(owner, name, 3))


def resolver(case: Case) -> Any:
    if case.place.front == "threaded":
        return _connects(case, case.patch(linkbox.networks.sockets, "resolve", 3))
    return _connects(case, case.patch(AioDialer, "_resolve", 3))


def _connects(case: Case, throwing: Throwing) -> Any:
    with case.place.server("P2P", max_peers=10) as server:
        address = (
            server.address
            if case.place.transport.name == "tls"
            else server.address.replace("127.0.0.1", "localhost")
        )
        patient = Backoff(initial=0.01, maximum=0.05)
        with case.place.client("P2P", address, name="good", reconnect=patient) as client:
            client.send(b"good").wait(timeout=PATIENCE)
            assert throwing.is_spent
            return client.statistics()


def services(case: Case) -> Any:
    ear = Ear()
    throwing = case.patch(CallbackLoop, "run", 2)
    with case.place.server("P2P", max_peers=10) as server:
        server.add_callback(ear)
        with case.place.client("P2P", server.address) as client:
            client.send(b"x")
            ear.wait()
            assert throwing.is_spent
        return server.statistics()


def background(case: Case) -> Any:
    is_threaded = case.place.front == "threaded"
    owner, name = (Engine, "_sleep_and_turn") if is_threaded else (EndpointDriver, "deliver")
    throwing = case.patch(owner, name, 3)
    with (
        case.place.server("P2P", OfUser(), max_peers=10) as server,
        case.place.client("P2P", server.address, OfUser()) as client,
    ):
        for _ in range(3):
            client.send(b"x").wait(timeout=PATIENCE)
        wait_until(lambda: throwing.is_spent)
        return _both(server, client)


OF_USERS = (
    accept, accept_over_a_plain_framing, secret, callbacks, handlers, encoding_of_responses, decoding,
    decoding_inside_our_formats,
)  # fmt: skip
LOOPS = (
    disk_writer, entries_of_the_journal, reaper, turns, reader, writer, storing, storing_of_our_formats,
    storing_where_it_is_read, storing_what_is_on_disk, listener, listening_socket, leader, decisions,
    dialer, resolver, services, background,
)  # fmt: skip


class Log(logging.Handler):
    """Keeps the records of linkbox."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def has(self, kind: type[BaseException]) -> bool:
        """Is there a line with such an exception, by its name or by its text?"""
        shown = [logging.Formatter().format(each) for each in self.records]
        return any(kind.__name__ in each or "thrown" in each for each in shown)


@pytest.fixture
def log() -> Iterator[Log]:
    handler = Log()
    logging.getLogger("linkbox").addHandler(handler)
    yield handler
    logging.getLogger("linkbox").removeHandler(handler)


def _play(loop: Callable[[Case], Any], case: Case, log: Log) -> None:
    statistics = loop(case)
    if statistics is not None:
        assert statistics.errors >= 1
    wait_until(lambda: log.has(case.kind), "it is in the log")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loop", OF_USERS, ids=lambda loop: loop.__name__)
def test_code_of_users_raises(
    place: Place,
    loop: Callable[[Case], Any],
    kind: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    log: Log,
    may_log_errors: None,
) -> None:
    _play(loop, Case(place, kind, monkeypatch, tmp_path), log)


@pytest.mark.patches
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_something_of_ours_raises(
    place: Place,
    loop: Callable[[Case], Any],
    kind: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    log: Log,
    may_log_errors: None,
) -> None:
    _play(loop, Case(place, kind, monkeypatch, tmp_path), log)


# --- what must pass -----------------------------------------------------------------------------------------


SPINS = """
import asyncio, os, signal, sys
from linkbox import aio

def spin(event):
    print("spinning", flush=True)
    while True:
        pass

async def main():
    async with aio.ServerP2P("tcp://127.0.0.1:0") as server, aio.ClientP2P(server.address) as client:
        server.add_callback(spin)
        await client.send(b"x")
        await asyncio.Event().wait()
"""
LOOP = "loop = asyncio.new_event_loop()\nloop.run_until_complete(main())\n"
HANDLER = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"


@pytest.mark.parametrize(
    ("rest", "number", "status"),
    [
        (LOOP, signal.SIGINT, "KeyboardInterrupt"),
        (HANDLER + LOOP, signal.SIGTERM, 3),
        (HANDLER + "asyncio.run(main())", signal.SIGTERM, 3),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM under asyncio.run"],
)
def test_a_signal_in_a_callback_ends_the_program(rest: str, number: int, status: object) -> None:
    """Exceptions of signal handlers are not those of the callback that they interrupt: they pass."""
    with Process(SPINS + rest) as process:
        assert process.line() == "spinning"
        process.signal(number)
        ended = process.wait()
        assert ended == status or (ended and str(status) in process.stderr)


def test_a_keyboard_interrupt_of_a_handler_in_the_main_thread(caplog: pytest.LogCaptureFixture) -> None:
    """`raise KeyboardInterrupt` is no Ctrl-C, also where one could arrive."""

    async def handle(request: Any) -> bytes:
        if request.data == b"bad":
            raise KeyboardInterrupt
        return bytes(request.data)

    async def main() -> None:
        server = aio.ServerAR("tcp://127.0.0.1:0", handler=handle, workers=2)
        async with server, aio.ClientAR((await server.start()).address, keep_alive=True) as client:
            for _ in range(TIMES):
                with pytest.raises(AnswerError, match="KeyboardInterrupt"):
                    await client.ask(b"bad")
            assert await client.ask(b"good") == b"good"

    asyncio.run(main())
    assert "the handler of" in caplog.text


@pytest.mark.parametrize("kind", [ValueError, Unknown])
def test_a_handler_of_the_log_raises(place: Place, kind: type[BaseException], capsys: Any) -> None:
    """It is code of the application, called in the middle of our loops."""

    class Bad(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise kind("no room for log lines")

    handler = Bad()
    logging.getLogger("linkbox").addHandler(handler)
    try:
        with (
            place.server("P2P", OfUser(lambda payload: 1 // 0), max_peers=10) as server,
            place.client("P2P", server.address, OfUser()) as client,
        ):
            for _ in range(3):
                with pytest.raises(linkbox.DecodeError):
                    client.send(b"bad").wait(timeout=PATIENCE)
    finally:
        logging.getLogger("linkbox").removeHandler(handler)
    assert "no room for log lines" in capsys.readouterr().err

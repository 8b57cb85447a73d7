"""Ask - response: both kinds of client, both kinds of server, deadlines, failures, many at once."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest

from linkbox import (
    AnswerError,
    Bytes,
    ClientAR,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    EndOfData,
    EventKind,
    FormatError,
    Json,
    Limits,
    MailboxEmpty,
    PeerLost,
    Request,
    ServerAR,
    Stage,
    StateError,
    TooLarge,
    Typed,
)
from tests.threaded.helpers import PROMPT, Ear, Threads, free_port, wait_until

both = pytest.mark.parametrize("keep_alive", [False, True], ids=["each its own connection", "keep_alive"])


def _double(request: Request[Any]) -> Any:
    return request.data * 2


@both
def test_an_ask_is_answered(keep_alive: bool) -> None:
    with ServerAR("tcp://127.0.0.1:0", Json, handler=_double) as server:
        with ClientAR(server.address, Json, keep_alive=keep_alive) as client:
            for value in (1, "ab", [1, 2], 1.5):
                assert client.ask(value) == value * 2
            assert client.data_empty()
        client.stop()
        expected = 1 if keep_alive else 4
        assert server.statistics().connections_total == expected


def test_a_client_needs_no_start_and_starts_again_by_itself() -> None:
    with ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data) as server:
        client = ClientAR(server.address)
        assert client.ask(b"1") == b"1"
        assert client.stop()
        assert client.start().ask(b"2") == b"2"
        assert client.stop()


def test_the_handler_as_a_decorator_and_what_a_request_says() -> None:
    server = ServerAR("tcp://127.0.0.1:0")
    seen: list[Any] = []

    @server.handler
    def answer(request: Request[bytes]) -> bytes:
        seen.append((request.data, request.messages, request.peer.name, request.cancelled()))
        assert request.deadline is not None
        assert 4 < request.deadline - time.monotonic() <= 5
        return b"ok"

    with server, ClientAR(server.address, name="asker") as client:
        assert client.ask(b"q", timeout=5) == b"ok"
        assert seen == [(b"q", (b"q",), "asker", False)]
        with pytest.raises(StateError):
            server.handler(answer)


@both
def test_64_threads_at_once(keep_alive: bool) -> None:
    """Each thread gets the answers to its own asks."""
    with ServerAR("tcp://127.0.0.1:0", Json, handler=_double, workers=4) as server:
        with ClientAR(server.address, Json, keep_alive=keep_alive) as client:
            barrier = threading.Barrier(64)

            def ask(thread: int) -> None:
                barrier.wait(20)
                for number in range(20):
                    assert client.ask([thread, number]) == [thread, number] * 2

            with Threads(50) as threads:
                for thread in range(64):
                    threads.start(ask, thread)
        assert server.statistics().messages_received == 64 * 20


def test_ten_thousand_one_after_another() -> None:
    with ServerAR("tcp://127.0.0.1:0", Json, handler=_double) as server:
        with ClientAR(server.address, Json, keep_alive=True) as client:
            for number in range(8000):
                assert client.ask(number) == number * 2
        with ClientAR(server.address, Json) as client:
            for number in range(2000):
                assert client.ask(number) == number * 2


def test_mailbox_mode_and_answers_from_other_threads_in_any_order() -> None:
    with (
        ServerAR("tcp://127.0.0.1:0", Json) as server,
        ClientAR(server.address, Json, keep_alive=True) as client,
    ):
        answers: dict[int, int] = {}

        def ask(number: int) -> None:
            answers[number] = client.ask(number)

        with Threads() as threads:
            for number in range(10):
                threads.start(ask, number)
            requests = server.data_get_count(10, 10)
            assert sorted(request.data for request in requests) == list(range(10))
            for request in sorted(requests, key=lambda request: -request.data):
                threads.start(request.answer, request.data + 100)
        assert answers == {number: number + 100 for number in range(10)}


@both
def test_answers_through_the_mailbox_and_the_bell(keep_alive: bool) -> None:
    ear = Ear()
    with ServerAR("tcp://127.0.0.1:0", Json, handler=_double) as server:
        with ClientAR(server.address, Json, keep_alive=keep_alive) as client:
            client.add_callback(ear)
            receipts = {client.send(number): number for number in range(50)}
            ear.wait(50)
            assert client.data_count() == 50
            for _ in range(50):
                message = client.message_get(5)
                assert message.data == receipts.pop(message.receipt) * 2
            assert not receipts
            with pytest.raises(MailboxEmpty):
                client.data_get(0)
        with pytest.raises(EndOfData):
            client.data_get(0)


@both
def test_a_failure_takes_the_place_of_the_answer(keep_alive: bool, may_log_errors: None) -> None:
    def handler(request: Request[Any]) -> Any:
        if request.data == "bad":
            raise KeyError("no such thing")
        return request.data

    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=handler, workers=1) as server,
        ClientAR(server.address, Json, keep_alive=keep_alive) as client,
    ):
        client.send("bad")
        wait_until(lambda: client.data_count() == 1)
        with pytest.raises(AnswerError, match="no such thing") as caught:
            client.data_get(5)
        assert caught.value.type == "KeyError"
        good = client.send("good")
        message = client.message_get(5)
        assert (message.data, message.receipt) == ("good", good)


def test_an_ask_that_finds_nobody_lands_in_the_mailbox_too() -> None:
    with ClientAR(("127.0.0.1", free_port()), connect_timeout=0.2) as client:
        receipt = client.send(b"?")
        with pytest.raises(ConnectFailed):
            client.data_get(5)
        assert receipt.stage is Stage.FAILED


@both
def test_remote_failures(keep_alive: bool, may_log_errors: None) -> None:
    class OddError(Exception):
        pass

    def handler(request: Request[Any]) -> Any:
        match request.data:
            case "raise":
                raise OddError("with text")
            case "bare":
                raise OddError
            case "unanswerable":
                return {1, object}
            case "fail":
                request.fail("because")
            case "answer itself":
                request.answer("itself")
        return "returned"

    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=handler, workers=1) as server,
        ClientAR(server.address, Json, keep_alive=keep_alive) as client,
    ):
        for ask, type_, text in (
            ("raise", "OddError", "with text"),
            ("bare", "OddError", ""),
            ("fail", "RequestFailed", "because"),
        ):
            with pytest.raises(AnswerError) as caught:
                client.ask(ask)
            assert (caught.value.type, caught.value.text) == (type_, text)
        with pytest.raises(AnswerError, match="FormatError"):
            client.ask("unanswerable")
        assert client.ask("answer itself") == "itself"
        assert client.ask("after all that") == "returned"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_handler_that_wants_to_exit_does_not_take_its_worker_along(
    error: BaseException, may_log_errors: None
) -> None:
    def handler(request: Request[Any]) -> Any:
        if request.data == "exit":
            raise error
        return request.data

    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=handler, workers=1) as server,
        ClientAR(server.address, Json, keep_alive=True) as client,
    ):
        for number in range(3):
            with pytest.raises(AnswerError, match=type(error).__name__):
                client.ask("exit", timeout=5)
            assert client.ask(number, timeout=5) == number


def test_a_request_is_answered_once() -> None:
    with ServerAR("tcp://127.0.0.1:0", Json) as server, ClientAR(server.address, Json) as client:
        client.send("q")
        request = server.data_get(5)
        with pytest.raises(FormatError):
            request.answer(object)  # Nothing was sent: another answer is possible.
        request.answer("a")
        with pytest.raises(StateError, match="answered already"):
            request.answer("b")
        with pytest.raises(StateError, match="answered already"):
            request.fail("c")
        assert client.data_get(5) == "a"
        client.send("q")
        request = server.data_get(5)
        request.fail("no")
        with pytest.raises(StateError):
            request.answer("a")
        with pytest.raises(AnswerError, match="no"):
            client.data_get(5)


def test_racing_answers_are_one_answer() -> None:
    with ServerAR("tcp://127.0.0.1:0", Json) as server, ClientAR(server.address, Json) as client:
        for _ in range(50):
            client.send("q")
            request = server.data_get(5)
            refused: list[int] = []
            barrier = threading.Barrier(4)

            def answer(
                number: int, request: Any = request, refused: list[int] = refused, barrier: Any = barrier
            ) -> None:
                barrier.wait(5)
                try:
                    request.answer(number)
                except StateError:
                    refused.append(number)

            with Threads() as threads:
                for number in range(4):
                    threads.start(answer, number)
            assert len(refused) == 3
            assert client.data_get(5) not in refused


def test_a_dropped_request_is_failed_not_forgotten() -> None:
    with ServerAR("tcp://127.0.0.1:0", Json) as server, ClientAR(server.address, Json) as client:
        client.send("q")
        request = server.data_get(5)
        del request
        gc.collect()
        began = time.monotonic()
        with pytest.raises(AnswerError, match="unanswered"):
            client.data_get(10)
        assert time.monotonic() - began < PROMPT


@both
def test_a_deadline(keep_alive: bool) -> None:
    release, cancelled = threading.Event(), threading.Event()

    def handler(request: Request[Any]) -> Any:
        if request.data == "slow":
            wait_until(request.cancelled, "the asker has gone", 10)
            cancelled.set()
            release.wait(10)
        return request.data

    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=handler) as server,
        ClientAR(server.address, Json, keep_alive=keep_alive) as client,
    ):
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.ask("slow", timeout=0.2)
        assert 0.15 < time.monotonic() - began < PROMPT
        assert cancelled.wait(5)
        assert client.ask("quick") == "quick"
        release.set()  # The late answer is dropped, and disturbs nobody.
        assert [client.ask(number) for number in range(20)] == list(range(20))
        assert client.data_empty()


def test_a_server_does_not_start_on_an_ask_whose_deadline_is_over() -> None:
    executed: list[str] = []
    release, entered = threading.Event(), threading.Event()

    def handler(request: Request[Any]) -> Any:
        executed.append(request.data)
        entered.set()
        release.wait(10)
        return "done"

    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=handler, workers=1) as server,
        ClientAR(server.address, Json, keep_alive=True) as client,
        Threads() as threads,
    ):
        threads.start(client.ask, "first", 20)
        assert entered.wait(5)
        for number in range(5):
            with pytest.raises(DeadlineExceeded):
                client.ask(f"late {number}", timeout=0.05)
        client.send("last")  # Behind the last CANCEL: when it is there, that is too.
        wait_until(lambda: server.statistics().messages_received == 7)
        release.set()
        assert client.data_get(5) == "done"
    assert executed == ["first", "last"]


def test_mailbox_mode_skips_what_nobody_waits_for() -> None:
    with (
        ServerAR("tcp://127.0.0.1:0", Json) as server,
        ClientAR(server.address, Json, keep_alive=True) as client,
    ):
        with pytest.raises(DeadlineExceeded):
            client.ask("late", timeout=0.1)
        client.send("fresh")  # Behind the CANCEL: when it is there, that is too.
        wait_until(lambda: server.statistics().messages_received == 2)
        request = server.data_get(5)
        assert request.data == "fresh"
        request.answer("ok")
        assert client.data_get(5) == "ok"


def test_answering_somebody_who_has_gone_raises_nothing() -> None:
    with ServerAR("tcp://127.0.0.1:0", Json) as server:
        with ClientAR(server.address, Json) as client:
            client.send("q")
            request = server.data_get(5)
            client.stop(0)
        wait_until(request.cancelled, "it is noticed")
        request.answer("into the void")
        with ClientAR(server.address, Json) as client:
            client.send("q")
            server.data_get(5).answer("fine")
            assert client.data_get(5) == "fine"


@both
def test_ask_many_with_parts(keep_alive: bool) -> None:
    ear = Ear()
    with ServerAR("tcp://127.0.0.1:0", Bytes) as server:
        server.add_callback(ear, EventKind.PART, EventKind.DATA)
        with ClientAR(server.address, keep_alive=keep_alive) as client, Threads() as threads:
            parts = [b"a" * 10, b"", b"b" * 200_000, b"c"]
            results: list[bytes] = []
            threads.start(lambda: results.append(client.ask_many(iter(parts))))
            request = server.data_get(5)
            assert request.messages == tuple(parts)
            assert request.data == b"".join(parts)
            request.answer(b"got it")
        assert results == [b"got it"]
        ear.wait(1, EventKind.DATA)
        assert ear.kinds() == [EventKind.PART] * 4 + [EventKind.DATA]


def test_parts_ring_while_the_ask_is_still_being_made() -> None:
    ear = Ear()
    with ServerAR("tcp://127.0.0.1:0", Json, handler=lambda request: len(request.messages)) as server:
        server.add_callback(ear, EventKind.PART)
        with ClientAR(server.address, Json, keep_alive=True) as client:

            def parts() -> Any:
                for number in range(5):
                    yield number
                    ear.wait(number + 1)
                    # Others are served meanwhile, on the same connection.
                    assert client.ask("between") == 1

            assert client.ask_many(parts()) == 5


def test_an_iterable_that_raises_gives_up_the_ask() -> None:
    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=lambda request: len(request.messages)) as server,
        ClientAR(server.address, Json, keep_alive=True) as client,
    ):

        def parts() -> Any:
            yield 1
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            client.ask_many(parts())
        assert client.ask_many([1, 2, 3]) == 3
        with pytest.raises(FormatError):
            client.ask_many([1, object, 3])
        assert client.ask_many([1] * 5000) == 5000


@both
def test_large_asks_and_answers(keep_alive: bool) -> None:
    limits = Limits(message=30 << 20)
    with (
        ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data[::-1], limits=limits) as server,
        ClientAR(server.address, keep_alive=keep_alive, limits=limits) as client,
    ):
        data = bytes(range(256)) * 80_000
        assert client.ask(data) == data[::-1]
        assert client.ask(b"") == b""


@both
def test_too_large(keep_alive: bool) -> None:
    small = Limits(message=1000)
    with ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data * 2, limits=small) as server:
        with (
            ClientAR(server.address, keep_alive=keep_alive, limits=small) as client,
            pytest.raises(TooLarge),
        ):
            client.ask(b"x" * 1001)
        with ClientAR(server.address, keep_alive=keep_alive) as client:
            with pytest.raises(TooLarge):
                client.ask(b"x" * 200_000)
            assert client.ask(b"x") == b"xx"


def test_an_answer_that_is_too_large_fails_there_and_here(may_log_errors: None) -> None:
    with (
        ServerAR("tcp://127.0.0.1:0", handler=lambda request: b"x" * int(request.data)) as server,
        ClientAR(server.address, keep_alive=True, limits=Limits(message=1000)) as client,
    ):
        assert client.ask(b"1000") == b"x" * 1000
        for size in (b"1001", b"300000"):
            with pytest.raises((TooLarge, AnswerError)):
                client.ask(size, timeout=5)
        assert client.ask(b"5") == b"xxxxx"


@both
def test_asks_that_cannot_be_decoded(keep_alive: bool) -> None:
    with ServerAR("tcp://127.0.0.1:0", Typed(int), handler=lambda request: request.data + 1) as server:
        with ClientAR(server.address, Json, keep_alive=keep_alive) as client:
            with pytest.raises(DecodeError):
                client.ask("no int")
            assert client.ask(1) == 2
        with ClientAR(server.address, Typed(str), keep_alive=keep_alive) as client:
            with pytest.raises(DecodeError):
                client.ask("x")
            assert server.statistics().rejected == 2


def test_a_handler_that_sleeps_hinders_nobody_and_stop_keeps_its_time() -> None:
    release, entered = threading.Event(), threading.Event()

    def handler(request: Request[Any]) -> Any:
        if request.data == "sleep":
            entered.set()
            release.wait(30)
        return request.data

    errors: list[BaseException] = []
    server = ServerAR("tcp://127.0.0.1:0", Json, handler=handler, workers=2).start()
    client = ClientAR(server.address, Json)

    def ask() -> None:
        try:
            client.ask("sleep")
        except PeerLost as error:
            errors.append(error)

    with Threads() as threads:
        threads.start(ask)
        assert entered.wait(5)
        for number in range(500):
            assert client.ask(number, timeout=5) == number
        began = time.monotonic()
        server.stop(1.0)
        assert time.monotonic() - began < PROMPT
    assert len(errors) == 1
    release.set()
    client.stop()


def test_more_handlers_sleep_than_there_are_workers() -> None:
    release = threading.Event()

    def handler(request: Request[Any]) -> Any:
        release.wait(20)
        return request.data

    with ServerAR("tcp://127.0.0.1:0", Json, handler=handler, workers=2) as server:
        with ClientAR(server.address, Json, keep_alive=True) as client, Threads() as threads:
            answers: list[int] = []
            for number in range(10):
                threads.start(lambda number=number: answers.append(client.ask(number)))
            wait_until(lambda: server.data_count() == 8, "eight wait their turn")
            with pytest.raises(DeadlineExceeded):
                client.ask(99, timeout=0.1)
            release.set()
        assert sorted(answers) == list(range(10))


def test_an_ask_inside_a_handler_and_inside_a_callback() -> None:
    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=_double) as inner,
        ClientAR(inner.address, Json) as hop,
        ServerAR("tcp://127.0.0.1:0", Json, handler=lambda request: hop.ask(request.data) + 1) as outer,
        ClientAR(outer.address, Json, keep_alive=True) as client,
    ):
        assert client.ask(20) == 41
        ear = Ear(lambda event: client.ask(1, timeout=5))
        client.add_callback(ear)
        client.send(5)
        ear.wait()
        assert ear.results == [3]
        assert client.data_get(5) == 11


def test_too_many_asks_at_once_are_refused_not_piled_up() -> None:
    from linkbox import MailboxFull

    with (
        ServerAR("tcp://127.0.0.1:0", Json) as server,
        ClientAR(server.address, Json, keep_alive=True, limits=Limits(asks=10)) as client,
    ):
        for number in range(10):
            client.send(number)
        with pytest.raises(MailboxFull):
            client.send(10)
        for request in server.data_get_count(10, 5):
            request.answer("ok")
        wait_until(lambda: client.data_count() == 10)
        assert client.data_get_all() == ["ok"] * 10
        client.send(11)
        server.data_get(5).answer("fine")
        assert client.data_get(5) == "fine"

"""``ask`` and ``listen ar``; ``chat``."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from linkbox import AnswerError, ClientAR, Json, Lines, ServerP2P

LOCAL = "tcp://127.0.0.1:0"


def python(code: str) -> str:
    """A command for --exec."""
    return shlex.join([sys.executable, "-c", code])


@pytest.mark.parametrize("framing", ["linked", "lines", "raw", "length-prefixed"])
def test_echo(start, run, framing: str) -> None:
    listener = start("listen", "ar", LOCAL, "--echo", "--count", 1, "--framing", framing)
    answer = run("ask", listener.address, "hello, 世界", "--framing", framing)
    assert answer.status == 0, answer.err
    assert answer.out.removesuffix(b"\n").decode() == "hello, 世界"
    heard = listener.done()
    assert heard.status == 0
    assert heard.out.removesuffix(b"\n").decode() == "hello, 世界"


def test_text_file_and_stdin(start, run, tmp_path: Path) -> None:
    (tmp_path / "question").write_bytes(b"from a file\n")
    listener = start("listen", "ar", LOCAL, "--echo", "--count", 3)
    from_file = run("ask", listener.address, "question", "--no-newline")
    assert from_file.out == b"from a file\n"
    assert "sending the content of the file question" in from_file.err
    assert run("ask", listener.address, "question", "--text").out == b"question\n"
    assert run("ask", listener.address, "-", "-n", stdin=b"from stdin").out == b"from stdin"
    assert listener.done().out == b"from a file\n\nquestion\nfrom stdin\n"


def test_a_command_answers(start, run) -> None:
    command = python("import sys; print(sys.stdin.read()[::-1])")
    listener = start("listen", "ar", LOCAL, "--exec", command, "--count", 1)
    assert run("ask", listener.address, "stressed").out == b"desserts\n"
    assert listener.done().status == 0


def test_a_command_answers_json(start, run) -> None:
    command = python("import json, sys; print(json.dumps({'sum': sum(json.load(sys.stdin))}))")
    listener = start("listen", "ar", LOCAL, "--exec", command, "--count", 1, "--format", "json")
    assert run("ask", listener.address, "[1, 2, 3]", "-f", "json").out == b'{"sum":6}\n'
    assert listener.done().out == b"[1,2,3]\n"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "exited with status 3"),
        ("print('no json')", "is not JSON"),
        ("import time; time.sleep(60)", "no response|takes longer|deadline"),
    ],
)
def test_a_command_that_fails_is_a_failed_ask(start, run, code: str, words: str) -> None:
    listener = start("listen", "ar", LOCAL, "--exec", python(code), "--count", 1, "--format", "json")
    answer = run("ask", listener.address, "1", "-f", "json", "--timeout", 2)
    assert answer.status == 1
    assert any(word in answer.err for word in words.split("|")), answer.err
    assert answer.out == b""
    assert listener.done().status == 0


def test_answers_by_hand(start, run) -> None:
    listener = start("listen", "ar", LOCAL, stdin=subprocess.PIPE)
    asker = start("ask", listener.address, "how are you?")
    assert listener.read_line() == b"how are you?\n"
    listener.type(b"fine\n")
    assert asker.done().out == b"fine\n"
    assert listener.process.stdin is not None
    listener.process.stdin.close()
    late = run("ask", listener.address, "and now?")
    assert late.status == 1
    assert "no more responses" in late.err
    assert listener.done().status == 0


def test_each_line_is_an_ask(start, run, tmp_path: Path) -> None:
    events = [
        {"id": number, "payload": {"commits": [None, {"message": "é\n" * 10}]}} for number in range(200)
    ]
    (tmp_path / "events").write_text("\n".join(map(json.dumps, events)))
    listener = start("listen", "ar", LOCAL, "--echo", "--count", 200, "--format", "json")
    answers = run("ask", listener.address, "events", "--lines", "--format", "json")
    assert answers.status == 0, answers.err
    assert [json.loads(line) for line in answers.out.splitlines()] == events
    assert listener.done().status == 0


@pytest.mark.parametrize("framing", ["linked", "lines"])
def test_chat(start, framing: str) -> None:
    server = start("chat", "--listen", LOCAL, "--framing", framing, stdin=subprocess.PIPE)
    client = start("chat", server.address, "--framing", framing, stdin=subprocess.PIPE)
    client.type(b"hello\n")
    assert server.read_line() == b"hello\n"
    server.type(b"hello yourself\nand more\n")
    assert client.read_line() == b"hello yourself\n"
    assert client.read_line() == b"and more\n"
    client.type(b"good bye\n")
    ended = client.done()
    assert (ended.status, ended.out) == (0, b"")
    ended = server.done()
    assert (ended.status, ended.out) == (0, b"good bye\n")


def test_chat_may_stay_to_listen(start) -> None:
    server = start("chat", "--listen", LOCAL, "-f", "json", stdin=subprocess.PIPE)
    client = start("chat", server.address, "--stay", "-f", "json", stdin=subprocess.PIPE)
    client.type(b'{"say": "hello"}\n')
    assert server.read_line() == b'{"say":"hello"}\n'
    assert client.process.stdin is not None
    client.process.stdin.close()
    server.type(b"[1, 2]\n")
    assert client.read_line() == b"[1,2]\n"
    assert server.done().status == 0
    assert client.done().status == 0


def test_chat_says_what_is_no_json(start) -> None:
    server = start("chat", "--listen", LOCAL, "-f", "json", stdin=subprocess.PIPE)
    client = start("chat", server.address, "-f", "json", stdin=subprocess.PIPE)
    client.type(b"[1]\nnonsense\n")
    ended = client.done()
    assert ended.status == 2
    assert "line 2 of stdin is not JSON" in ended.err
    assert server.done().out == b"[1]\n"


def test_a_server_that_dies_is_told_at_once(start) -> None:
    listener = start("listen", "ar", LOCAL, stdin=subprocess.PIPE)
    asker = start("ask", listener.address, "anybody?")
    assert listener.read_line() == b"anybody?\n"
    listener.process.kill()
    done = asker.done()
    assert done.status == 1
    assert done.err.startswith("linkbox: ")
    assert "Traceback" not in done.err


def test_lines_of_a_text_and_of_stdin(start, run) -> None:
    listener = start("listen", "ar", LOCAL, "--echo", "--count", 4)
    assert run("ask", listener.address, "one\ntwo", "--lines").out == b"one\ntwo\n"
    assert run("ask", listener.address, "--lines", stdin=b"three\nfour").out == b"three\nfour\n"
    assert listener.done().status == 0


def test_a_newline_at_the_end_is_no_part_of_a_plain_ask(start, run) -> None:
    listener = start("listen", "ar", LOCAL, "--echo", "--count", 1, "--framing", "lines")
    assert run("ask", listener.address, "--framing", "lines", stdin=b"one\r\n").out == b"one\n"
    assert listener.done().status == 0


def test_an_answer_that_is_mistyped_may_be_typed_again(start) -> None:
    listener = start("listen", "ar", LOCAL, "-f", "json", "--count", 1, stdin=subprocess.PIPE)
    asker = start("ask", listener.address, "[1]", "-f", "json")
    assert listener.read_line() == b"[1]\n"
    listener.type(b"nonsense\n")
    listener.wait_said("line 1 of stdin is not JSON")
    listener.type(b"[2]\n")
    assert asker.done().out == b"[2]\n"
    assert listener.done().status == 0


def test_an_ask_of_several_messages_has_no_one_echo(start) -> None:
    listener = start("listen", "ar", LOCAL, "-f", "json", "--count", 1, "--echo")
    with ClientAR(listener.address, Json()) as client, pytest.raises(AnswerError, match="2 messages"):
        client.ask_many([1, 2])
    heard = listener.done()
    assert (heard.status, heard.out) == (0, b"1\n2\n")


def test_a_chat_ends_as_the_other_side_wants(start) -> None:
    with ServerP2P(LOCAL, framing=Lines()) as device:
        chat = start("chat", device.address, "--framing", "lines", stdin=subprocess.PIPE)
        chat.type(b"hello\n")
        assert device.data_get(timeout=20) == b"hello"
    # The device has closed in order: that is an end, not a failure.
    assert chat.done().status == 0

    with ServerP2P(LOCAL, Json()) as server:
        chat = start("chat", server.address, "-f", "json", stdin=subprocess.PIPE)
        chat.type(b"1\n")
        assert server.data_get(timeout=20) == 1
        server.disconnect(server.peers()[0], "enough")
        done = chat.done()
    assert done.status == 1
    assert "enough" in done.err

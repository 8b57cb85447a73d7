"""What a person at a shell expects: no traceback, no silent wait, hints to follow, help that fits."""

from __future__ import annotations

import itertools
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from linkbox import ClientAR, ClientP2M, ClientP2P, Framing, Lines, Linked, ServerAR, ServerP2M, ServerP2P
from linkbox.cli.hints import for_shell
from linkbox.cli.options import reporting_wait
from tests.cli.conftest import COMMAND, TIMEOUT, Done
from tests.threaded.helpers import wait_until

LOCAL = "tcp://127.0.0.1:0"
COMMANDS = (
    "", "demo", "listen", "send", "ask", "chat", "proxy", "record", "replay", "spool", "spool status",
    "spool flush", "spool export", "cert", "cert init", "cert issue",
)  # fmt: skip


def shell(words: str, cwd: Path, **variables: str) -> Done:
    """Run a command line in a shell."""
    command = f"{' '.join(COMMAND)} {words}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        cwd=cwd,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "80"} | variables,
        timeout=TIMEOUT,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


# -- standard streams that are closed or full ------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("send {nobody} <&-", 2, "stdin or stdout is closed"),
        ("ask {nobody} <&-", 2, "stdin or stdout is closed"),
        ("chat {server} <&-", 2, "stdin or stdout is closed"),
        ("ask {nobody} hello <&-", 1, "nobody listens"),
        ("--version >&-", 2, "stdin or stdout is closed"),
        ("--help >&-", 2, "stdin or stdout is closed"),
        ("--version > /dev/full", 2, "No space left"),
        ("send --help > /dev/full", 2, "No space left"),
        ("spool export there.db >&-", 2, "there.db"),
        ("listen p2m {local} --timeout 0.01 >&-", 1, "no message arrived"),
        ("listen p2m nonsense 2>&-", 2, ""),
        ("send {nobody} no-such-file 2>&-", 2, ""),
        ("listen --no-such-option <&- >&- 2>&-", 2, ""),
        ("--version 2>&-", 0, ""),
        ("replay no-such-file {local} <&- >&-", 2, "no-such-file"),
    ],
)
def test_closed_streams_are_no_traceback(
    tmp_path: Path, nobody: str, words: str, status: int, said: str
) -> None:
    with ServerP2P(LOCAL) as server:
        done = shell(words.format(nobody=nobody, local=LOCAL, server=server.address), tmp_path)
    assert done.status == status, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err


@pytest.mark.parametrize("full", [">&-", "> /dev/full"])
def test_a_response_that_cannot_be_written_is_an_error(tmp_path: Path, full: str) -> None:
    with ServerAR(LOCAL, handler=lambda request: request.data) as server:
        done = shell(f"ask {server.address} hello {full}", tmp_path)
    assert done.status == 2
    assert "closed" in done.err or "No space left" in done.err
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err


def test_a_socket_does_not_get_the_number_of_a_stream(tmp_path: Path) -> None:
    """Without stdin, stdout and stderr, the first sockets would be 0, 1 and 2."""
    with ServerAR(LOCAL, handler=lambda request: b"x" * 1000) as server:
        assert shell(f"ask {server.address} hello <&- >&- 2>&-", tmp_path).status == 2
        assert server.statistics().errors == 0


@pytest.mark.parametrize("words", ["cert init", "cert issue pump"])
def test_cert_without_its_extra(tmp_path: Path, words: str) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None; from linkbox.cli import main; "
        f"sys.argv = ['linkbox', *{words.split()!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert b"pip install '.[cli,tls]'" in done.stderr
    assert b"Traceback" not in done.stderr


# -- waiting for a server --------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["linked", "lines"])
@pytest.mark.parametrize("command", ["send", "ask", "chat"])
def test_nobody_listens_is_known_at_once(run, nobody: str, command: str, framing: str) -> None:
    """Not after the timeout, which is longer than this test may take."""
    done = run(command, nobody, "--framing", framing, "--timeout", 3600, stdin=b"hello\n")
    assert done.status == 1
    assert "nobody listens there" in done.err


@pytest.mark.parametrize(("command", "pattern"), [("send", "p2m"), ("ask", "ar"), ("chat", "p2p")])
def test_a_client_waits_and_says_so(start, nobody: str, command: str, pattern: str) -> None:
    client = start(command, nobody, "--wait", 60, stdin=subprocess.PIPE)
    client.type(b"hello")
    client.process.stdin.close()
    client.process.stdin = None
    client.wait_said(f"waiting up to 60 s for a server at {nobody}")
    options = {"p2m": ["--once"], "p2p": ["--once"], "ar": ["--echo", "--count", 1]}[pattern]
    server = start("listen", pattern, nobody, *options)
    assert client.done().status == 0
    assert server.done().out == b"hello\n"


@pytest.mark.parametrize("framing", [Linked(), Lines()], ids=lambda framing: framing.name)
@pytest.mark.parametrize("pattern", ["p2p", "p2m", "ar"])
def test_a_client_that_is_connected_does_not_say_that_it_waits(pattern: str, framing: Framing) -> None:
    servers: dict[str, Any] = {"p2p": ServerP2P, "p2m": ServerP2M, "ar": ServerAR}
    clients: dict[str, Any] = {"p2p": ClientP2P, "p2m": ClientP2M, "ar": ClientAR}
    options = {"handler": lambda request: request.data} if pattern == "ar" else {}
    with servers[pattern](LOCAL, framing=framing, **options) as server:
        client = clients[pattern](server.address, framing=framing)
        before = set(threading.enumerate())
        with reporting_wait(client, server.address, 3600, quiet=True), client:
            timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
            ours = [each for each in timers if each not in before]
            (client.ask if pattern == "ar" else client.send)(b"hello")
            wait_until(lambda: all(each.finished.is_set() for each in ours), "it is cancelled")


def test_wait_is_for_clients(run) -> None:
    done = run("chat", "--listen", LOCAL, "--wait", 1)
    assert done.status == 2
    assert "--wait is for the client" in done.err


# -- ask @file -------------------------------------------------------------------------------------------


def test_ask_takes_a_file(run, tmp_path: Path) -> None:
    (tmp_path / "request").write_bytes(b"from a file")
    with ServerAR(LOCAL, handler=lambda request: request.data) as server:
        assert run("ask", server.address, "@request", "-q").out == b"from a file\n"
        assert run("ask", server.address, "@-", "-q", stdin=b"from stdin").out == b"from stdin\n"
        assert run("ask", server.address, "@request", "--text").out == b"@request\n"
        done = run("ask", server.address, "@no-such-file")
        assert (done.status, done.out) == (2, b"")
        assert "no-such-file: No such file" in done.err


# -- hints -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at most 5 are allowed; raise Limits(message=...) on both sides", "at most 5 are allowed"),
        (
            "as two; use framing=LengthPrefixed() or Linked()",
            "as two; use --framing length-prefixed or linked",
        ),
        (r"use Lines(newline=b'\r\n'), or framing=Linked()", r"use lines:\r\n, or --framing linked"),
        ("framing=FixedSize(8) carries exactly 8", "--framing fixed-size:8 carries exactly 8"),
        ("send None, or use format=MsgPack()", "send None, or use --format msgpack"),
        ("did you mean framing=Lines()? (it begins", "did you mean --framing lines? (it begins"),
        ("nothing to change (here)", "nothing to change (here)"),
    ],
)
def test_hints_are_for_the_shell(text: str, shown: str) -> None:
    assert for_shell(text) == shown


def test_a_message_that_is_too_long(run, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 17_000_000)
    with ServerP2M(LOCAL) as server, ServerAR(LOCAL, handler=lambda request: b"") as answering:
        sent = run("send", server.address, "long")
        asked = run("ask", answering.address, "@long", "-q")
    for done in (sent, asked):
        assert done.status == 2
        assert "Limits" not in done.err
        assert "17000000 bytes" in done.err
    assert "use --chunks N" in sent.err


# -- help and completion ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns(run, command: str) -> None:
    lines = run(*command.split(), "--help", columns=80).out.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if re.search(r"[^ ]…( +│)?$", line)], "cut off"
    above = [line.rstrip() for line in lines[: next(n for n, line in enumerate(lines) if "╭" in line)]]
    early = [
        line
        for line, following in itertools.pairwise(above)
        if line and following and len(line) + 1 + len(following.split()[0]) < 79
    ]
    assert not early, "a line ends before the terminal does"


def test_completion(tmp_path: Path) -> None:
    done = shell("", tmp_path, _LINKBOX_COMPLETE="complete_bash", COMP_WORDS="linkbox re", COMP_CWORD="1")
    assert done.out.split() == [b"record", b"replay"]
    words = "linkbox listen p2m tcp://127.0.0.1:9000 --framing len"
    done = shell("", tmp_path, _LINKBOX_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="5")
    assert done.out.split() == [b"length-prefixed"]
    script = shell("", tmp_path, _LINKBOX_COMPLETE="source_bash").out
    assert b"_LINKBOX_COMPLETE=complete_bash" in script


# -- chat at a terminal ----------------------------------------------------------------------------------


def test_chat_shows_whose_message_it_is_and_no_escape_reaches_the_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with ServerP2P(LOCAL) as server:
        process = subprocess.Popen(
            [*COMMAND, "chat", server.address], stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE
        )
        os.close(theirs)
        server.wait_connected(timeout=TIMEOUT)
        server.send(b"hello")
        server.send("\x1b[2Jgr\u00fc\u00dfe".encode() + b"\xff")
        found = b""
        while found.count(b"\n") < 2:
            found += os.read(ours, 1000)
        assert process.communicate()[1].count(b"received messages begin with <") == 1
        assert process.returncode == 0
    os.close(ours)
    assert found.decode().splitlines() == ["< hello", r"< \x1b[2Jgrüße\xff"]


def test_python_m_linkbox(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "linkbox", "--version"], capture_output=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout[:8], done.stderr) == (0, b"linkbox ", b"")

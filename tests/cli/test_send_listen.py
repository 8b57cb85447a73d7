"""``send`` into ``listen``: what comes out is what went in."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from linkbox import ClientP2M

LOCAL = "tcp://127.0.0.1:0"


def products(count: int = 800) -> bytes:
    """Records like those of a shop, one JSON array a line."""
    chance = random.Random(1)
    rows: list[object] = [["asin", "brand", "title", "rating", "prices"]]
    for number in range(count - 1):
        title = (
            f'"{chance.choice(["Telefon", "电话", "téléphone"])} {number}" \\ 6.5\u2033\n\t{chance.random()}'
        )
        rows.append([f"B{number:09}", None, title, chance.choice([3, 4.5, 1e-7, 10**18]), {"old": "$49.95"}])
    return b"".join(
        json.dumps(row, ensure_ascii=number % 2 == 0).encode() + b"\n" for number, row in enumerate(rows)
    )


# MessagePack may hold any byte, a delimiter too: it needs a framing that counts.
COUNTING = ["linked", "length-prefixed:2:little"]


@pytest.mark.parametrize(
    ("framing", "format"),
    [(framing, "json") for framing in (*COUNTING, "lines", r"delimited:\0")]
    + [(framing, "msgpack") for framing in COUNTING],
)
def test_ndjson_comes_out_equal(start, run, tmp_path: Path, framing: str, format: str) -> None:
    text = products()
    (tmp_path / "products.ndjson").write_bytes(text)
    options = ("--format", format, "--framing", framing)
    listener = start("listen", "p2m", LOCAL, "--once", *options)
    sent = run("send", listener.address, "products.ndjson", *options)
    assert sent.status == 0, sent.err
    assert "800 messages" in sent.err
    assert sent.out == b""
    heard = listener.done()
    assert heard.status == 0, heard.err
    assert [json.loads(line) for line in heard.out.splitlines()] == [
        json.loads(line) for line in text.splitlines()
    ]


@pytest.mark.parametrize(
    ("send", "listen"),
    [
        ((), ()),
        (("--chunks", "1000"), ("--no-newline",)),
        (("--whole",), ("-n",)),
        (("--framing", "raw"), ("--framing", "raw")),
        (("--framing", "fixed-size:10"), ("--framing", "fixed-size:10", "-n")),
        (("--framing", "delimited:\\n"), ("--framing", "delimited:\\n")),
    ],
)
def test_bytes_come_out_equal(start, run, tmp_path: Path, send, listen) -> None:
    text = b"".join(b"%07d\r\n\n" % number for number in range(5000))
    (tmp_path / "text").write_bytes(text)
    listener = start("listen", "p2m", LOCAL, "--once", *listen)
    assert run("send", listener.address, "text", *send).status == 0
    assert listener.done().out == text


def test_lines_of_a_file_with_crlf_fit_the_framing_lines(start, run, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"one\r\ntwo\r\n\r\nlast")
    listener = start("listen", "p2m", LOCAL, "--once", "--framing", "lines")
    assert run("send", listener.address, "text", "--framing", "lines").status == 0
    assert listener.done().out == b"one\ntwo\n\nlast\n"


def test_a_stream_goes_line_by_line(start) -> None:
    listener = start("listen", "p2m", LOCAL, "--count", 3)
    sender = start("send", listener.address, stdin=subprocess.PIPE)
    for line in (b"one\n", b"two\n", b"three\n"):
        sender.type(line)
        assert listener.read_line() == line  # before stdin ends
    assert listener.done().status == 0
    done = sender.done()
    assert done.status == 0
    assert "3 messages acknowledged" in done.err


def test_a_server_may_start_a_moment_later(start, run, nobody: str) -> None:
    sender = start("send", nobody, "--wait", 20, stdin=subprocess.PIPE)
    sender.type(b"early\n")
    listener = start("listen", "p2m", nobody, "--once")
    assert listener.address
    assert sender.done().status == 0
    assert listener.done().out == b"early\n"


@pytest.mark.parametrize("pattern", ["p2p", "p2m"])
def test_netcat_reaches_a_listener(start, pattern: str) -> None:
    netcat = shutil.which("nc")
    if netcat is None:
        pytest.skip("nc is not installed here")
    listener = start("listen", pattern, LOCAL, "--framing", "lines", "--count", 1)
    sender = subprocess.Popen([netcat, "127.0.0.1", str(listener.port)], stdin=subprocess.PIPE)
    sender.communicate(b"hello\n", timeout=20)  # printf 'hello\n' | nc 127.0.0.1 PORT
    heard = listener.done()
    assert (heard.status, heard.out) == (0, b"hello\n")


def test_a_device_is_heard_whole(start) -> None:
    text = b"".join(b"$GPGGA,%06d,5222.3215,N,00454.5778,E*00\r\n" % number for number in range(5000))
    listener = start("listen", "p2p", LOCAL, "--framing", "lines", "--once")
    with socket.create_connection(("127.0.0.1", listener.port)) as sock:
        sock.sendall(text)
    assert listener.done().out == text.replace(b"\r\n", b"\n")


def test_many_senders_one_listener(start, run) -> None:
    listener = start("listen", "p2m", LOCAL, "--count", 300)
    senders = [start("send", listener.address, "-q", stdin=subprocess.PIPE) for _ in range(3)]
    for number, sender in enumerate(senders):
        sender.type(b"".join(b"%d %d\n" % (number, line) for line in range(100)))
    assert [sender.done()[:2] for sender in senders] == [(0, b"")] * 3
    lines = listener.done().out.splitlines()
    for number in range(3):
        own = [line for line in lines if line.startswith(b"%d " % number)]
        assert own == [b"%d %d" % (number, line) for line in range(100)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_listener_in_order(start, run, number: signal.Signals) -> None:
    listener = start("listen", "p2m", LOCAL)
    assert run("send", listener.address, stdin=b"kept\n").status == 0
    listener.process.send_signal(number)
    heard = listener.done()
    assert (heard.status, heard.out) == (0, b"kept\n")
    assert "1 message" in heard.err
    assert "Traceback" not in heard.err


def test_a_reader_that_has_had_enough_ends_a_listener(start) -> None:
    listener = start("listen", "p2m", LOCAL, "--framing", "lines")
    assert listener.process.stdout is not None
    with socket.create_connection(("127.0.0.1", listener.port)) as sock:
        sock.sendall(b"one\n")
        assert listener.read_line() == b"one\n"
        listener.process.stdout.close()
        sock.sendall(b"two\n")
        assert listener.process.wait(20) == 0


def test_nothing_came(start) -> None:
    heard = start("listen", "p2m", LOCAL, "--timeout", "0.2").done()
    assert heard.status == 1
    assert "no message arrived within 0.2 s" in heard.err


def test_quiet(start, run) -> None:
    listener = start("listen", "p2m", LOCAL, "--once")
    assert run("send", listener.address, "--quiet", stdin=b"x\n") == (0, b"", "")
    assert listener.done().out == b"x\n"


def test_what_is_no_json_is_named_and_all_before_it_sent(start, run) -> None:
    listener = start("listen", "p2m", LOCAL, "--once", "--format", "json")
    sent = run("send", listener.address, "--format", "json", stdin=b"[1]\n\n{2\n[3]\n")
    assert sent.status == 2
    assert "line 3 of stdin is not JSON" in sent.err
    assert listener.done().out == b"[1]\n"


def test_other_formats_are_refused(start, run) -> None:
    listener = start("listen", "p2m", LOCAL, "--count", 1)
    sent = run("send", listener.address, "--format", "json", stdin=b"1\n")
    assert sent.status == 1
    assert "bytes" in sent.err
    assert run("ask", listener.address, "hello").status == 1
    assert run("send", listener.address, stdin=b"x\n").status == 0
    assert listener.done().out == b"x\n"


def test_a_peer_that_is_lost_is_no_end(start) -> None:
    listener = start("listen", "p2m", LOCAL, "--once")
    sender = start("send", listener.address, stdin=subprocess.PIPE)
    sender.type(b"unfinished\n")
    assert listener.read_line() == b"unfinished\n"
    sender.process.kill()
    heard = listener.done()
    assert heard.status == 1
    assert "lost" in heard.err


def test_a_secret_from_a_file_and_from_the_environment(
    start, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("known to both\n")
    listener = start("listen", "p2m", LOCAL, "--once", "--secret-file", "secret")
    refused = run("send", listener.address, stdin=b"no\n")
    assert refused.status == 1
    assert "secret" in refused.err
    monkeypatch.setenv("LINKBOX_SECRET", "wrong")
    assert run("send", listener.address, stdin=b"no\n").status == 1
    monkeypatch.setenv("LINKBOX_SECRET", "known to both")
    assert run("send", listener.address, stdin=b"yes\n").status == 0
    heard = listener.done()
    assert (heard.status, heard.out) == (0, b"yes\n")
    assert "known to both" not in heard.err


def test_an_empty_secret_in_the_environment_opens_nothing(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINKBOX_SECRET", "")
    for command in (("listen", "p2m"), ("send",), ("ask",), ("chat",)):
        done = run(*command, "tcp://127.0.0.1:1", stdin=b"")
        assert done.status == 2
        assert "LINKBOX_SECRET is empty" in done.err


def test_a_secret_file_that_cannot_serve(run, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    for options in (
        ("--secret-file", "missing"),
        ("--secret-file", "empty"),
        ("--secret-file", "empty", "--framing", "lines"),
    ):
        done = run("send", "tcp://127.0.0.1:1", *options, stdin=b"x\n")
        assert done.status == 2, done.err


def test_a_peers_name_cannot_forge_a_line(start) -> None:
    listener = start("listen", "p2m", LOCAL, "--count", "1")
    with ClientP2M(listener.address, name="x\nlinkbox: forged \x1b[31mred") as client:
        client.send(b"hello")
    heard = listener.done()
    assert heard.out == b"hello\n"
    assert r"x\nlinkbox: forged \x1b[31mred (tcp://" in heard.err
    assert "\x1b" not in heard.err
    assert not any(line.startswith("linkbox: forged") for line in heard.err.splitlines())

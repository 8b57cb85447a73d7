"""``--store`` and ``linkbox spool``: what is on disk outlives the commands, and is told."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from linkbox import ClientP2M, ClientP2P, ServerP2M
from linkbox.store.checks import checksum

LOCAL = "tcp://127.0.0.1:0"


@pytest.fixture
def status(run) -> Callable[[str], dict]:
    def status(path: str) -> dict:
        done = run("spool", "status", path, "--json")
        assert done.status == 0, done.err
        return json.loads(done.out)

    return status


@pytest.fixture
def keep(run, nobody: str) -> Callable[..., None]:
    """Have lines kept in a store."""

    def keep(path: str, text: bytes, *options: object) -> None:
        done = run("send", nobody, "--store", path, "--timeout", "0.2", *options, stdin=text)
        assert done.status == 1, done.err

    return keep


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as store:
        for statement in statements:
            store.execute(statement)
        store.commit()


# -- send ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_file", [False, True])
def test_what_nobody_takes_is_kept_and_flushed_later(
    start, run, status, tmp_path: Path, nobody: str, from_file: bool
) -> None:
    text = b"".join(b"%d\n" % number for number in range(30_000))
    (tmp_path / "file").write_bytes(text)
    source = ("file",) if from_file else ()
    sent = run("send", "--store", "out.db", "--timeout", "0.3", nobody, *source, stdin=text)
    assert sent.status == 1
    assert "30000 messages kept in out.db: no server answered" in sent.err
    assert "`linkbox spool flush out.db`" in sent.err
    found = status("out.db")
    assert (found["pattern"], found["side"], found["format"]) == ("p2m", "client", "bytes")
    assert found["address"] == nobody
    assert (found["spool"]["messages"], found["spool"]["bytes"]) == (30_000, len(text) - 30_000)

    missed = run("spool", "flush", "out.db", "--timeout", "0.3")
    assert missed.status == 1
    assert "30000 messages kept" in missed.err

    listener = start("listen", "p2m", nobody, "--count", 30_000)
    assert listener.address
    flushed = run("spool", "flush", "out.db")
    assert flushed.status == 0, flushed.err
    assert f"30000 messages acknowledged by {nobody}" in flushed.err
    assert listener.done().out == text
    assert status("out.db")["spool"]["messages"] == 0
    again = run("spool", "flush", "out.db")
    assert again.status == 0
    assert "nothing is waiting" in again.err


def test_a_server_that_is_there_gets_it_all_at_once(start, run, status) -> None:
    listener = start("listen", "p2m", LOCAL, "--once")
    sent = run("send", "--store", "out.db", listener.address, stdin=b"one\ntwo\n")
    assert sent.status == 0, sent.err
    assert "2 messages acknowledged" in sent.err
    assert listener.done().out == b"one\ntwo\n"
    assert status("out.db")["spool"]["messages"] == 0


def test_the_next_send_takes_along_what_was_kept(start, run, keep) -> None:
    keep("out.db", b"one\n")
    listener = start("listen", "p2m", LOCAL, "--count", 2)
    assert run("send", listener.address, "--store", "out.db", stdin=b"two\n").status == 0
    assert listener.done().out == b"one\ntwo\n"


def test_a_killed_sender_leaves_its_lines(start, run, status, nobody: str) -> None:
    sender = start("send", nobody, "--store", "out.db", stdin=subprocess.PIPE)
    sender.type(b"one\ntwo\n")
    while True:
        done = run("spool", "status", "out.db", "--json")  # the store may not be there yet
        if done.status == 0 and json.loads(done.out)["spool"]["messages"] == 2:
            break
    sender.process.kill()
    sender.done()
    listener = start("listen", "p2m", LOCAL, "--count", 2)
    assert run("spool", "flush", "out.db", listener.address).status == 0
    assert listener.done().out == b"one\ntwo\n"
    assert status("out.db")["address"] == listener.address


def test_a_refusal_is_no_loss(start, run, keep, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("known to both\n")
    listener = start("listen", "p2m", LOCAL, "--count", 1, "--secret-file", "secret")
    sent = run("send", listener.address, "--store", "out.db", stdin=b"x\n")
    assert sent.status == 1
    assert "1 message kept in out.db" in sent.err
    assert "secret" in sent.err
    flushed = run("spool", "flush", "out.db", "--secret-file", "secret")
    assert flushed.status == 0, flushed.err
    assert listener.done().out == b"x\n"


def test_what_is_no_json_is_named_and_all_before_it_kept(run, status, nobody: str) -> None:
    sent = run("send", nobody, "--store", "s", "-f", "json", "--timeout", "0.2", stdin=b"[1]\n{2\n[3]\n")
    assert sent.status == 2
    assert "line 2 of stdin is not JSON" in sent.err
    assert "1 message kept in s" in sent.err
    assert status("s")["spool"]["messages"] == 1


# -- listen -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["p2m", "p2p"])
def test_a_killed_listener_loses_nothing(start, run, nobody: str, tmp_path: Path, pattern: str) -> None:
    text = b"".join(b"%d\n" % number for number in range(20_000))
    heard = []
    listener = start("listen", pattern, nobody, "--store", "in.db")
    assert listener.address
    sender = start("chat" if pattern == "p2p" else "send", nobody, stdin=subprocess.PIPE)
    sender.type(text)
    heard += [listener.read_line() for _ in range(1000)]
    listener.process.kill()
    heard += [line for line in listener.done().out.splitlines(True) if line.endswith(b"\n")]
    listener = start("listen", pattern, nobody, "--store", "in.db", "--once")
    assert listener.address
    assert sender.done().status == 0
    again = listener.done()
    assert again.status == 0, again.err
    lines = again.out.splitlines(True)
    first = int(lines[0])
    assert b"".join(lines) == b"".join(text.splitlines(True)[first:])
    assert heard[:first] == text.splitlines(True)[:first]  # and the rest of it, if any, came twice


def test_what_is_not_wanted_yet_stays(tmp_path: Path, start, run, status) -> None:
    with (
        ServerP2M("tcp://127.0.0.1:0", store=tmp_path / "in.db") as server,
        ClientP2M(server.address) as client,
    ):
        client.send_many([b"one", b"two", b"three"])
        client.flush()
    heard = start("listen", "p2m", LOCAL, "--count", 1, "--store", "in.db").done()
    assert heard.out == b"one\n"
    assert "2 more messages kept in in.db" in heard.err
    found = status("in.db")
    assert (found["side"], found["inbox"]["messages"], found["inbox"]["bytes"]) == ("server", 2, 8)
    assert run("spool", "export", "in.db", "--inbox")[:2] == (0, b"two\nthree\n")
    assert run("spool", "flush", "in.db").status == 2
    assert start("listen", "p2m", LOCAL, "--count", 2, "--store", "in.db").done().out == b"two\nthree\n"
    assert status("in.db")["inbox"]["messages"] == 0


def test_a_listener_with_a_store_has_timeouts_too(start) -> None:
    for options in ((), ("--once",)):
        heard = start("listen", "p2m", LOCAL, "--timeout", "0.3", "--store", "in.db", *options).done()
        assert heard.status == 1
        assert "no message arrived within 0.3 s" in heard.err


# -- status -------------------------------------------------------------------------------------------


def test_status_while_somebody_uses_it(tmp_path: Path, run, status, nobody: str) -> None:
    with ClientP2M(nobody, store=tmp_path / "out.db", name="pump") as client:
        client.send(b"12345")
        found = status("out.db")
        assert (found["name"], found["spool"]["messages"], found["spool"]["bytes"]) == ("pump", 1, 5)
        text = run("spool", "status", "out.db").out.decode()
        assert "spool    1 message, 5 bytes, not acknowledged" in text
        assert run("spool", "export", "out.db")[:2] == (0, b"12345\n")
        taken = run("spool", "flush", "out.db")
        assert taken.status == 1
        assert "in use" in taken.err
        client.send(b"6")


# -- flush --------------------------------------------------------------------------------------------


class Custom:
    """A format that only its own program knows."""

    name = "custom"

    def encode(self, value: int) -> bytes:
        return b"%d" % value

    def decode(self, payload: bytes) -> int:
        return int(payload)


def test_flush_does_not_need_to_know_the_format(tmp_path: Path, run, nobody: str) -> None:
    from linkbox import ServerP2M

    with ClientP2M(nobody, Custom(), store=tmp_path / "out.db") as client:
        client.send_many(range(10))
    with ServerP2M(nobody, Custom()) as server:
        assert run("spool", "flush", "out.db").status == 0
        assert [server.data_get(5) for _ in range(10)] == list(range(10))


def test_flush_of_p2p(tmp_path: Path, run, status, nobody: str) -> None:
    from linkbox import ServerP2P

    client = ClientP2P(nobody, store=tmp_path / "out.db").start(wait=False)
    client.send(b"up")
    client.stop()
    assert run("spool", "flush", "out.db", "--timeout", "0.3").status == 1
    with ServerP2P(nobody) as server:
        flushed = run("spool", "flush", "out.db")
        assert flushed.status == 0, flushed.err
        assert server.data_get(5) == b"up"
    assert status("out.db")["spool"]["messages"] == 0


def test_a_relative_unix_socket_is_found_from_elsewhere(
    tmp_path: Path, run, status, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("send", "unix:x.sock", "--store", "out.db", "--timeout", "0.2", stdin=b"x\n")
    assert status("out.db")["address"] == f"unix://{tmp_path}/x.sock"


# -- export -------------------------------------------------------------------------------------------


def test_export_of_bytes(run, keep) -> None:
    keep("out.db", b"one\ntwo\n")
    keep("out.db", b"a\nb", "--whole")
    plain = run("spool", "export", "out.db")
    assert plain[:2] == (0, b"one\ntwo\na\nb\n")
    assert "1 of them contain newlines" in plain.err
    counted = run("spool", "export", "out.db", "--framing", "length-prefixed:2")
    assert counted[:2] == (0, b"\0\3one\0\3two\0\3a\nb")
    assert run("spool", "export", "out.db", "-F", r"delimited:\0")[:2] == (0, b"one\0two\0a\nb\0")
    lines = run("spool", "export", "out.db", "-F", "lines")
    assert lines[:2] == (1, b"one\ntwo\n")
    assert "message 3 of session 1 in the spool cannot be written" in lines.err


def test_export_of_json_and_msgpack(run, keep) -> None:
    for format in ("json", "msgpack"):
        keep(format, b'{"a": 1}\n[2, null]\n', "-f", format)
        assert run("spool", "export", format)[:2] == (0, b'{"a":1}\n[2,null]\n')


def test_what_is_in_doubt_is_exported(run, keep, status, tmp_path: Path) -> None:
    keep("out.db", b"one\ntwo\n")
    with closing(sqlite3.connect(tmp_path / "out.db", isolation_level=None)) as store:
        for (payload,) in store.execute("SELECT payload FROM spool ORDER BY id").fetchall():
            row = (1.0, checksum(payload, 0, 0, 1.0), payload)
            store.execute("INSERT INTO doubt (at, crc, payload) VALUES (?, ?, ?)", row)
    assert status("out.db")["doubt"] == {"messages": 2, "bytes": 6, "since": 1.0}
    assert b"may or may not have arrived, the oldest" in run("spool", "status", "out.db").out
    assert run("spool", "export", "out.db", "--doubt")[:2] == (0, b"one\ntwo\n")


def test_a_damaged_message_is_named_and_the_others_are_saved(run, keep, tmp_path: Path) -> None:
    keep("out.db", b"one\ntwo\nthree\n")
    change(tmp_path / "out.db", "UPDATE spool SET payload=x'00' WHERE id % 256 = 2")
    done = run("spool", "export", "out.db")
    assert done[:2] == (1, b"one\nthree\n")
    assert "message 2 of session 1 in the spool is damaged (wrong checksum)" in done.err
    change(tmp_path / "out.db", "DELETE FROM spool WHERE id % 256 = 2")
    done = run("spool", "export", "out.db")
    assert done[:2] == (1, b"one\nthree\n")
    assert "the messages before message 3 of session 1 in the spool are missing" in done.err
    change(tmp_path / "out.db", "DELETE FROM spool WHERE id % 256 = 3")
    done = run("spool", "export", "out.db")
    assert done[:2] == (1, b"one\n")
    assert "the messages after message 1 of session 1 in the spool are missing" in done.err


@pytest.mark.parametrize("count", [1, 3])
def test_pages_that_cannot_be_read_do_not_hide_the_rest(run, keep, tmp_path: Path, count: int) -> None:
    text = b"".join(b"%06d\n" % number for number in range(20_000))
    keep("out.db", text)
    path = tmp_path / "out.db"
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    for part in range(1, count + 1):
        page = len(content) // size * part // (count + 1) * size
        content[page : page + size] = b"\xff" * size
    path.write_bytes(content)
    refused = run("spool", "flush", "out.db")
    assert refused.status == 1
    assert "`linkbox spool export" in refused.err
    done = run("spool", "export", "out.db")
    assert done.status == 1
    assert done.err.count("cannot be read") == count, done.err
    lines = done.out.splitlines(True)
    assert 20_000 - 300 * count < len(lines) < 20_000
    assert set(lines) < set(text.splitlines(True))
    assert lines == sorted(lines)
    assert lines[-1] == b"019999\n"


def test_a_store_without_its_first_page(run, keep, tmp_path: Path) -> None:
    keep("out.db", b"one\n")
    path = tmp_path / "out.db"
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    path.write_bytes(b"\xff" * 100 + content[100:])
    for command in ("export", "status", "flush"):
        done = run("spool", command, "out.db")
        assert done.status == 1
        assert "out.db cannot be read" in done.err
        assert "Traceback" not in done.err


def test_a_damaged_label_needs_only_the_format(run, keep, tmp_path: Path) -> None:
    keep("out.db", b"[1]\n", "-f", "json")
    change(tmp_path / "out.db", "DELETE FROM about")
    guessed = run("spool", "export", "out.db")
    assert guessed[:2] == (0, b"[1]\n")
    assert "--format" in guessed.err
    assert run("spool", "export", "out.db", "-f", "json", "-q") == (0, b"[1]\n", "")


def test_listen_keeps_what_devices_have_sent(start, run, status) -> None:
    listening = start("listen", "p2m", LOCAL, "--store", "in.db", "--framing", "lines", "--count", "1")
    with socket.create_connection(("127.0.0.1", listening.port), 10) as device:
        device.sendall(b"one\ntwo\n")
        device.shutdown(socket.SHUT_WR)
        assert device.recv(1) == b""  # Both are on disk.
    assert listening.done().out == b"one\n"
    assert status("in.db")["inbox"]["messages"] == 1
    again = start("listen", "p2m", LOCAL, "--store", "in.db", "--framing", "lines", "--count", "1")
    assert again.done().out == b"two\n"


# -- wrong use ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("spool status missing.db", 2, "missing.db: No such file"),
        ("spool flush missing.db", 2, "missing.db: No such file"),
        ("spool status empty", 1, "is not a store"),
        ("spool status other.db", 1, "is not a store"),
        ("spool export other.db --inbox --doubt", 2, "cannot be combined"),
        ("spool export out.db -F linked", 2, "length-prefixed"),
        ("spool export out.db -F lines -f json", 2, "one message per line"),
        ("send tcp://127.0.0.1:1 --store s --framing lines", 2, "--store needs --framing linked"),
        (f"listen ar {LOCAL} --store s", 2, "for p2p and p2m"),
        (f"listen p2m {LOCAL} --store out.db", 1, "belongs to an endpoint"),
    ],
)
def test_wrong_use(run, keep, tmp_path: Path, arguments: str, status: int, words: str) -> None:
    (tmp_path / "empty").touch()
    change(tmp_path / "other.db", "CREATE TABLE t (x)")
    if "out.db" in arguments:
        keep("out.db", b"one\n")
    done = run(*arguments.split(" "))
    assert done.status == status, done.err
    assert words in done.err
    assert done.out == b""
    assert "Traceback" not in done.err

"""`linkbox doctor` against every kind of wrong server: each has its exit status and its advice."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer", reason="the extra cli is not installed")

from linkbox import ClientP2P, Json, Limits, ServerAR, ServerP2M, ServerP2P, tls
from linkbox.core.wire import frames
from tests.threaded.helpers import Relay, free_port, wait_until
from tests.tls.certificates import Authority

ANY = "tcp://127.0.0.1:0"
OK, UNREACHABLE, WRONG_USE, SILENT, OTHER, CERTIFICATE, MISMATCH, SECRET, REJECTED = range(9)


class Report:
    """What the command has written."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    def __repr__(self) -> str:
        return f"{self.status}\n{self.out}\n{self.err}"


def doctor(*arguments: object, secret: str | None = None, **more: str) -> Report:
    environment = os.environ | more | {"PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"}
    if secret is not None:
        environment["LINKBOX_SECRET"] = secret
    timeout = () if "--timeout" in arguments else ("--timeout", "20")
    return Report(
        subprocess.run(
            [sys.executable, "-m", "linkbox.cli", "doctor", *map(str, arguments), *timeout],
            capture_output=True,
            text=True,
            env=environment,
            timeout=90,
            check=False,
        )
    )


@contextmanager
def imposter(talk: Callable[[socket.socket], object], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server of another kind: calls ``talk`` for each connection. Gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def serve(sock: socket.socket) -> None:
        try:
            talk(context.wrap_socket(sock, server_side=True) if context else sock)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            open_ones.append(sock)
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for sock in open_ones:
            sock.close()


def http(sock: socket.socket) -> None:
    """Answers as a web server does."""
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    sock.close()


def patient_http(sock: socket.socket) -> None:
    """Waits for the end of a header, as many do."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = sock.recv(4096)
        if not got:
            return
        data += got
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    sock.close()


def silence(sock: socket.socket) -> None:
    """Reads, and says nothing."""
    while sock.recv(4096):
        pass


# -- servers that work ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ServerP2P, ServerP2M, ServerAR])
def test_a_server_that_works(kind: Any) -> None:
    pattern = kind.__name__.removeprefix("Server").lower()
    with kind(ANY, Json(), name="the server") as server:
        found = doctor(server.address)
        assert found.status == OK, found
        assert f"a server for {pattern}" in found.out
        assert "json" in found.out
        assert "welcomed by the server" in found.out
        assert "round trip" in found.out
        assert doctor(server.address, "--pattern", pattern, "--format", "json").status == OK
        wait_until(lambda: not server.peers())
        assert server.statistics().messages_received == 0


def test_a_server_with_a_secret() -> None:
    with ServerP2P(ANY, secret="the secret", limits=Limits(message=1000)) as server:
        found = doctor(server.address, secret="the secret")
        assert found.status == OK, found
        assert "both sides know it" in found.out
        assert "takes messages of 1000 bytes" in found.out
        assert "the secret" not in found.out + found.err


def test_over_a_unix_socket(tmp_path: Path) -> None:
    with ServerP2P(f"unix://{tmp_path}/s") as server:
        assert doctor(server.address).status == OK
    found = doctor(f"unix://{tmp_path}/s")
    assert found.status == UNREACHABLE
    assert "correct the path" in found.out


def test_as_json() -> None:
    with ServerP2P(ANY) as server:
        found = json.loads(doctor(server.address, "--json").out)
        assert (found["status"], found["advice"]) == (OK, "")
        assert {each["mark"] for each in found["steps"]} == {"ok"}
        failed = json.loads(doctor(server.address, "--json", "--pattern", "ar").out)
    assert failed["status"] == MISMATCH
    assert "ClientP2P" in failed["advice"]


# -- no server ------------------------------------------------------------------------------------------


def test_nothing_listens() -> None:
    found = doctor(f"tcp://127.0.0.1:{free_port()}")
    assert found.status == UNREACHABLE
    assert "nothing listens there" in found.out
    assert "start the server" in found.out


def test_a_name_that_does_not_exist() -> None:
    found = doctor("tcp://does-not-exist.invalid:9000")
    assert found.status == UNREACHABLE
    assert "check the spelling" in found.out


def test_a_firewall_that_drops_packets() -> None:
    """A full queue of connections drops packets as a firewall does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        found = doctor(f"tcp://127.0.0.1:{address[1]}", "--timeout", "0.5")
        for each in waiting:
            each.close()
    assert found.status == UNREACHABLE, found
    assert "a firewall drops the packets" in found.out


def test_silence() -> None:
    with imposter(silence) as address:
        found = doctor(address, "--timeout", "0.3")
    assert found.status == SILENT, found
    assert "plain framing" in found.out


def test_a_server_that_closes_at_once() -> None:
    with imposter(lambda sock: sock.close()) as address:
        found = doctor(address)
    assert found.status == SILENT, found
    assert "closes the connection at once" in found.out


# -- another protocol -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("talk", "patience"), [(http, 20), (patient_http, 4)])
def test_a_web_server(talk: Any, patience: int) -> None:
    with imposter(talk) as address:
        found = doctor(address, "--timeout", patience)
    assert found.status == OTHER, found
    assert "speaks HTTP" in found.out
    assert "check the port" in found.out


def test_a_text_protocol_whose_greeting_is_escaped() -> None:
    def talk(sock: socket.socket) -> None:
        sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        silence(sock)

    with imposter(talk) as address:
        found = doctor(address)
    assert found.status == OTHER, found
    assert "SSH-2.0-OpenSSH_9.2" in found.out

    def attack(sock: socket.socket) -> None:
        sock.sendall(b"\x1b[2J\x1b[31mforged\r\n")
        silence(sock)

    with imposter(attack) as address:
        found = doctor(address)
    assert found.status == OTHER, found
    assert "\x1b" not in found.out
    assert "binary protocol" in found.out


def test_a_nats_server() -> None:
    with imposter(lambda sock: (sock.sendall(b'INFO {"server_id":"x"}\r\n'), silence(sock))) as address:
        found = doctor(address)
    assert found.status == OTHER
    assert "NATS" in found.out


def test_a_linkbox_of_another_version() -> None:
    with imposter(lambda sock: (sock.sendall(frames.PREFACE + b"\x09"), silence(sock))) as address:
        found = doctor(address)
    assert found.status == MISMATCH
    assert "version 9" in found.out


@pytest.mark.parametrize("garbage", [frames.preface() + b"\xff" * 5000, frames.preface() + b"\x02\0\0\x01x"])
def test_a_server_that_breaks_the_protocol(garbage: bytes) -> None:
    with imposter(lambda sock: (sock.sendall(garbage), silence(sock))) as address:
        found = doctor(address)
    assert found.status in (SILENT, OTHER), found
    assert not found.err


def test_a_tls_server_behind_a_tcp_address(authority: Authority) -> None:
    with ServerP2P("tls://127.0.0.1:0", ssl=authority.server()) as server:
        found = doctor(server.address.replace("tls", "tcp"))
    assert found.status == OTHER, found
    assert "use a tls:// address" in found.out


def test_no_tls_behind_a_tls_address() -> None:
    with ServerP2P(ANY) as server:
        found = doctor(server.address.replace("tcp", "tls"))
    assert found.status == OTHER, found
    assert "speaks linkbox, without TLS: use a tcp:// address" in found.out
    with imposter(http) as address:
        found = doctor(address.replace("tcp", "tls"))
    assert found.status == OTHER
    assert "speaks HTTP, without TLS" in found.out


# -- certificates ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


def test_a_good_certificate(authority: Authority) -> None:
    with ServerP2P("tls://127.0.0.1:0", ssl=authority.server(), secret="s") as server:
        found = doctor(server.address, "--tls-ca", authority.ca, secret="s")
        assert found.status == OK, found
        assert "a certificate for" in found.out
        assert "renew the certificate soon" in found.out, "it is valid for one day"


def test_an_unknown_authority(authority: Authority, stranger: Authority) -> None:
    with ServerP2P("tls://127.0.0.1:0", ssl=authority.server()) as server:
        for arguments in ((), ("--tls-ca", stranger.ca)):
            found = doctor(server.address, *arguments)
            assert found.status == CERTIFICATE, found
            assert "unknown authority" in found.out
            assert "--tls-ca" in found.out


@pytest.mark.parametrize(
    ("hosts", "begins", "words"),
    [
        (["127.0.0.1"], -10, "has expired"),
        (["127.0.0.1"], 10, "not valid yet"),
        (["other.example"], 0, "not for 127.0.0.1"),
    ],
)
def test_a_bad_certificate(authority: Authority, hosts: list[str], begins: float, words: str) -> None:
    issued = authority.issue("server", *hosts, begins=begins)
    context = tls.server_context(issued.cert, issued.key)
    with ServerP2P("tls://127.0.0.1:0", ssl=context) as server:
        found = doctor(server.address, "--tls-ca", authority.ca)
    assert found.status == CERTIFICATE, found
    assert words in found.out


def test_a_certificate_of_the_client_is_missing(authority: Authority) -> None:
    issued = authority.issue("server", "127.0.0.1")
    context = tls.server_context(issued.cert, issued.key, authority.ca)
    with ServerP2P("tls://127.0.0.1:0", ssl=context) as server:
        found = doctor(server.address, "--tls-ca", authority.ca)
        assert found.status == CERTIFICATE, found
        assert "--tls-cert" in found.out
        mine = authority.issue("client")
        arguments = ("--tls-ca", authority.ca, "--tls-cert", mine.cert, "--tls-key", mine.key)
        assert doctor(server.address, *arguments).status == OK


# -- linkbox, but not for this client -------------------------------------------------------------------


def test_another_pattern() -> None:
    with ServerAR(ANY, handler=lambda request: request.data) as server:
        found = doctor(server.address, "--pattern", "p2p")
    assert found.status == MISMATCH
    assert "the server is for ar, the client for p2p" in found.out
    assert "ClientAR" in found.out


def test_another_format() -> None:
    with ServerP2P(ANY, Json()) as server:
        found = doctor(server.address, "--format", "msgpack")
    assert found.status == MISMATCH
    assert "the server uses json, the client msgpack" in found.out


def test_a_secret_that_is_wrong_or_missing_or_not_wanted() -> None:
    with ServerP2P(ANY, secret="right", name="guarded") as server:
        found = doctor(server.address)
        assert found.status == SECRET
        assert "the server guarded wants a secret" in found.out
        assert "--secret-file" in found.out
        found = doctor(server.address, secret="wrong")
        assert found.status == SECRET
        assert "the secret is wrong" in found.out
    with ServerP2P(ANY) as server:
        assert doctor(server.address, secret="unwanted").status == SECRET


def test_a_server_that_admits_no_more() -> None:
    with ServerP2P(ANY) as server, ClientP2P(server.address):
        found = doctor(server.address)
        assert found.status == REJECTED, found
        assert "max_peers" in found.out
    with ServerP2P(ANY, accept=lambda info: False) as server:
        found = doctor(server.address)
        assert found.status == REJECTED, found
        assert "accept=" in found.out


# -- plain framings -------------------------------------------------------------------------------------


def test_a_plain_framing() -> None:
    with imposter(lambda sock: (sock.sendall(b"220 ready\r\n"), silence(sock))) as address:
        found = doctor(address, "--framing", "lines")
    assert found.status == OK, found
    assert "220 ready" in found.out
    with imposter(lambda sock: sock.close()) as address:
        assert doctor(address, "--framing", "lines").status == SILENT
    with imposter(lambda sock: (sock.sendall(frames.preface()), silence(sock))) as address:
        assert doctor(address, "--framing", "lines").status == OTHER


# -- wrong use, and stores ------------------------------------------------------------------------------


def test_wrong_use(tmp_path: Path) -> None:
    assert doctor().status == WRONG_USE
    assert doctor("tcp://127.0.0.1:1", "--store", tmp_path / "x").status == WRONG_USE
    assert doctor("tcp://127.0.0.1").status == WRONG_USE
    assert doctor("tcp://127.0.0.1:1", "--framing", "none").status == WRONG_USE


def filled(path: Path) -> None:
    """A store with three messages in its spool."""
    with ServerP2P(ANY) as server:
        address = server.address
    client = ClientP2P(address, store=path).start(wait=False)
    for _ in range(3):
        client.send(b"message" * 100)
    client.stop(0.0)


def test_a_store_that_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path)
    found = doctor("--store", path)
    assert found.status == OK, found
    assert "3 messages" in found.out
    assert f"`linkbox spool flush {path}` sends them" in " ".join(found.out.split())
    path.chmod(0o644)
    assert "chmod 600" in doctor("--store", path).out


def test_a_store_that_is_missing_or_no_store(tmp_path: Path) -> None:
    found = doctor("--store", tmp_path / "missing")
    assert found.status == UNREACHABLE
    assert "check the path" in found.out
    (tmp_path / "text").write_text("this is no store" * 1000)
    found = doctor("--store", tmp_path / "text")
    assert found.status == UNREACHABLE
    assert "is it the right file?" in found.out


def test_a_store_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path)
    data = path.read_bytes()
    at = data.rindex(b"messagemessage")
    path.write_bytes(data[:at] + b"MESSAGE" + data[at + 7 :])
    found = doctor("--store", path)
    assert found.status == UNREACHABLE, found
    assert "cannot be read" in found.out
    assert "linkbox spool export" in found.out


def test_messages_in_doubt_need_a_decision(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with (
        ServerP2P(ANY, store=path) as server,
        Relay(server.address) as relay,
        ClientP2P(relay.address),
    ):
        server.wait_connected()
        (peer,) = server.peers()
        relay.hold()
        server.send(b"in doubt")
        wait_until(lambda: server.statistics().messages_sent)
        server.disconnect(peer, "for good")
    found = doctor("--store", path)
    assert found.status == SILENT, found
    assert "may have arrived or not" in found.out

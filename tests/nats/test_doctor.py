"""`linkbox doctor nats://…`: a broker that works, and every kind of one that does not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer", reason="the extra cli is not installed")

from linkbox import ClientP2M, Json, ServerAR, ServerP2M, ServerP2P
from tests.nats.servers import MISSING, NatsServer, binary, needs_server
from tests.observe.test_doctor import (
    CERTIFICATE,
    MISMATCH,
    OK,
    OTHER,
    REJECTED,
    SECRET,
    SILENT,
    UNREACHABLE,
    WRONG_USE,
    doctor,
    http,
    imposter,
    silence,
)
from tests.threaded.helpers import free_port
from tests.tls.certificates import Authority

PASSWORD = "s3cret-word"
ACCOUNT = f'authorization {{ users: [{{ user: joe, password: "{PASSWORD}" }}] }}\n'


# -- a name that can be used ----------------------------------------------------------------------------


def test_servers_of_a_name(url: str) -> None:
    with ServerAR(url, Json(), handler=lambda request: request.data, name="the server"):
        found = doctor(url)
        assert found.status == OK, found
        for words in (
            "NATS: nats-server 2.",
            "none are wanted",
            "this account: streams:",
            "max_payload:  1 MiB",
            "round trip:",
            "for ar, named the server",
            "format:       json",
            "PeerLost within about 3 s",
            f"a client as described can use {url}",
        ):
            assert words in found.out, words
        assert "sync_interval" not in found.out, "nothing is stored"
        assert doctor(url, "--pattern", "ar", "--format", "json").status == OK
        wrong = doctor(url, "--pattern", "p2p")
        assert wrong.status == MISMATCH, wrong
        assert "the server is for ar, the client for p2p" in wrong.out
        wrong = doctor(url, "--format", "msgpack")
        assert wrong.status == MISMATCH, wrong
        assert "the server uses json, the client msgpack" in wrong.out


def test_p2p(url: str) -> None:
    with ServerP2P(url) as server:
        found = doctor(url, "--pattern", "p2p")
        assert found.status == OK, found
        assert "the conversation resumes" in found.out
        assert "whether the server wants a secret=" in found.out
        assert not server.peers(), "it has only looked"


def test_the_stream_of_a_name(url: str) -> None:
    found = doctor(url, "--pattern", "p2m")
    assert found.status == OK, found
    assert "does not exist yet" in found.out
    with ClientP2M(url) as client:
        for each in (client.send(b"one"), client.send(b"two")):
            each.wait()
    found = doctor(url)
    assert found.status == OK, found
    for words in (
        "nobody serves this name now",
        "format bytes, kept in a file, replicas: 1",
        "2 messages (",
        "marked redelivered",
        "only with `always` is a message on disk",
    ):
        assert words in found.out, words
    wrong = doctor(url, "--pattern", "p2m", "--format", "json")
    assert wrong.status == MISMATCH, wrong
    assert "the stream uses bytes, the client json" in wrong.out
    assert doctor(url, "--pattern", "ar").status == SILENT
    with ServerP2M(url) as server:
        found = doctor(url)
        assert found.status == OK, found
        assert "with servers, not yet acknowledged" in found.out
        assert sorted(server.message_get(10).data for _ in range(2)) == [b"one", b"two"], "none is lost"


def test_as_json(url: str) -> None:
    found = json.loads(doctor(url, "--pattern", "p2m", "--json").out)
    assert (found["status"], found["advice"]) == (OK, "")
    assert {each["mark"] for each in found["steps"]} == {"ok", "note"}
    assert {"guarantee", "not seen"} <= {each["name"] for each in found["steps"]}


def test_nobody_serves_the_name(url: str) -> None:
    found = doctor(url)
    assert found.status == SILENT, found
    assert "nobody serves the name" in found.out
    assert "try --pattern p2m" in found.out


def test_the_first_host_is_down(url: str) -> None:
    hosts, _, name = url.removeprefix("nats://").partition("/")
    both = f"nats://127.0.0.1:{free_port()},{hosts}/{name}"
    found = doctor(both, "--pattern", "p2m")
    assert found.status == OK, found
    assert "nothing listens there" in found.out
    assert "1 of 2 work" in found.out


# -- credentials ----------------------------------------------------------------------------------------


@needs_server
def test_credentials() -> None:
    with NatsServer(ACCOUNT) as server:
        missing = doctor(server.url())
        assert missing.status == SECRET, missing
        assert "NATS_USER and NATS_PASSWORD" in missing.out
        wrong = doctor(server.url(credentials="joe:w0rse@"))
        assert wrong.status == SECRET, wrong
        assert "the user joe, in the address" in wrong.out
        assert "w0rse" not in wrong.out + wrong.err
        right = doctor(server.url(credentials=f"joe:{PASSWORD}@"), "--pattern", "p2m")
        assert right.status == OK, right
        account = {"NATS_USER": "joe", "NATS_PASSWORD": PASSWORD}
        right_too = doctor(server.url(), "--pattern", "p2m", **account)
        assert right_too.status == OK, right_too
        assert "accepted: the user joe, in the environment" in right_too.out
        here = f"nats://joe:{PASSWORD}@{server.host}"
        from_url = doctor("nats:///x", "--pattern", "p2m", NATS_URL=here)
        assert from_url.status == OK, from_url
        unused = doctor(here + "/x", "--tls-ca", "ca.pem")
        assert unused.status == WRONG_USE
        for each in (right, right_too, from_url, unused):
            assert PASSWORD not in each.out + each.err


def test_credentials_that_nobody_wants(url: str) -> None:
    found = doctor(url, "--pattern", "p2m", NATS_TOKEN=PASSWORD)
    assert found.status == OK, found
    assert "the broker wants none; not checked: a token, in the environment" in found.out
    assert PASSWORD not in found.out


@needs_server
def test_permissions() -> None:
    denied = 'permissions: { publish: { deny: ["lb.x.hello"] } }'
    users = f'authorization {{ users: [{{ user: joe, password: "{PASSWORD}", {denied} }}] }}\n'
    with NatsServer(users) as server:
        found = doctor(server.url(credentials=f"joe:{PASSWORD}@"))
        assert found.status == REJECTED, found
        assert "denies to publish on lb.x.hello" in found.out
        assert "permissions" in found.out


# -- a broker that cannot carry P2M ---------------------------------------------------------------------


@needs_server
def test_no_jetstream() -> None:
    with NatsServer(jetstream=False) as server:
        found = doctor(server.url(), "--pattern", "p2m")
        assert found.status == MISMATCH, found
        assert "linkbox nats-config" in found.out
        with ServerAR(server.url(), handler=lambda request: request.data):
            found = doctor(server.url())
            assert found.status == OK, found
            assert "P2M is not possible" in found.out


def old_server(sock: socket.socket) -> None:
    """A nats-server 2.9 where nobody subscribes."""
    sock.sendall(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1000,"headers":true}\r\n')
    file = sock.makefile("rwb")
    number = b""
    for line in file:
        words = line.split()
        if words[0] == b"PING":
            file.write(b"PONG\r\n")
        elif words[0] == b"SUB":
            number = words[-1]
        elif words[0] == b"PUB":
            file.read(int(words[-1]) + 2)
            file.write(b"HMSG %s %s 16 16\r\nNATS/1.0 503\r\n\r\n\r\n" % (words[2], number))
        file.flush()


def test_an_old_nats_server() -> None:
    with imposter(old_server) as address:
        url = f"{address.replace('tcp', 'nats')}/x"
        found = doctor(url, "--pattern", "p2m")
        assert found.status == MISMATCH, found
        assert "2.9.10 is too old for P2M" in found.out
        found = doctor(url)
        assert found.status == SILENT, found
        assert "P2P and AR work" in found.out


@needs_server
def test_the_stream_of_another_program(broker: NatsServer) -> None:
    def request(subject: str, body: dict[str, Any]) -> None:
        """Create a stream without linkbox, over a socket."""
        data = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", broker.port)) as sock, sock.makefile("rwb") as file:
            file.readline()
            file.write(b'CONNECT {"verbose":false}\r\nSUB reply 1\r\n')
            file.write(b"PUB %s reply %d\r\n%s\r\n" % (subject.encode(), len(data), data))
            file.flush()
            assert file.readline().startswith(b"MSG reply")

    limits = {"max_msgs": 7, "storage": "memory", "num_replicas": 1}
    request("$JS.API.STREAM.CREATE.LB_x", {"name": "LB_x", "subjects": ["lb.x.p2m.>"], **limits})
    found = doctor(broker.url(), "--pattern", "p2m")
    assert found.status == OTHER, found
    assert "LB_x exists, and is none of linkbox" in found.out
    ours = {"linkbox": "1", "linkbox.pattern": "p2m", "linkbox.format": "bytes"}
    made = {"name": "LB_y", "subjects": ["lb.y.p2m.>"], **limits, "metadata": ours}
    request("$JS.API.STREAM.CREATE.LB_y", made)
    found = doctor(broker.url("y"))
    assert found.status == OK, found
    assert "7 messages" in found.out
    assert "lost when nats-server stops" in found.out


# -- no broker ------------------------------------------------------------------------------------------


def test_nothing_listens() -> None:
    found = doctor(f"nats://127.0.0.1:{free_port()}/x")
    assert found.status == UNREACHABLE, found
    assert "nothing listens there" in found.out
    assert "correct the port" in found.out
    found = doctor("nats://does-not-exist.invalid/x")
    assert found.status == UNREACHABLE, found
    assert "check the spelling of does-not-exist.invalid" in found.out


def closed(sock: socket.socket) -> None:
    sock.close()


def broken(sock: socket.socket) -> None:
    sock.sendall(b"INFO {no json\r\n")
    silence(sock)


def stuck(sock: socket.socket) -> None:
    """Greets, and then says nothing."""
    sock.sendall(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1000,"headers":true}\r\n')
    silence(sock)


@pytest.mark.parametrize(
    ("serve", "status", "words"),
    [
        (silence, SILENT, "silence: no greeting of NATS"),
        (closed, SILENT, "closes the connection at once"),
        (stuck, SILENT, "look into the log of nats-server"),
        (http, OTHER, "speaks HTTP, not NATS"),
        (broken, OTHER, "its greeting makes no sense"),
    ],
)
def test_what_is_no_broker(serve: Callable[[socket.socket], None], status: int, words: str) -> None:
    patience = "0.5" if status == SILENT else "3"
    with imposter(serve) as address:
        found = doctor(f"{address.replace('tcp', 'nats')}/x", "--timeout", patience)
    assert found.status == status, found
    assert words in found.out
    assert not found.err


def test_a_linkbox_server_that_listens_itself() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        found = doctor(f"{server.address.replace('tcp', 'nats')}/x", "--timeout", "1")
        assert found.status == OTHER, found
        assert f"use {server.address}" in found.out


# -- TLS ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def serve_tls(authority: Authority) -> Iterator[Callable[[str], str]]:
    """Start a broker with TLS and more settings of it; gives its address."""
    if binary() is None:
        pytest.skip(MISSING)
    issued = authority.issue("broker", "127.0.0.1")
    servers: list[NatsServer] = []

    def start(more: str) -> str:
        config = f'tls {{ cert_file: "{issued.cert}", key_file: "{issued.key}", {more} }}\n'
        servers.append(NatsServer(config).start())
        return servers[-1].url()

    yield start
    for each in servers:
        each.close()


def test_tls(serve_tls: Callable[[str], str], authority: Authority) -> None:
    plain = serve_tls("handshake_first: true")
    secure = plain.replace("nats:", "nats+tls:")
    found = doctor(secure, "--tls-ca", authority.ca, "--pattern", "p2m")
    assert found.status == OK, found
    assert "a certificate for" in found.out
    found = doctor(secure)
    assert found.status == CERTIFICATE, found
    assert "--tls-ca" in found.out
    found = doctor(plain, "--timeout", "1")
    assert found.status == OTHER, found
    assert f"use {secure}" in found.out


def test_tls_after_the_greeting(serve_tls: Callable[[str], str], authority: Authority) -> None:
    plain = serve_tls("timeout: 5")
    secure = plain.replace("nats:", "nats+tls:")
    found = doctor(secure, "--tls-ca", authority.ca)
    assert found.status == OTHER, found
    assert "handshake_first: auto" in found.out
    found = doctor(plain)
    assert found.status == OTHER, found
    assert f"use {secure}" in found.out


def test_the_broker_wants_a_certificate(serve_tls: Callable[[str], str], authority: Authority) -> None:
    plain = serve_tls(f'handshake_first: true, verify: true, ca_file: "{authority.ca}"')
    secure = plain.replace("nats:", "nats+tls:")
    found = doctor(secure, "--tls-ca", authority.ca)
    assert found.status == CERTIFICATE, found
    assert "--tls-cert" in found.out
    mine = authority.issue("client")
    arguments = ("--tls-ca", authority.ca, "--tls-cert", mine.cert, "--tls-key", mine.key)
    assert doctor(secure, *arguments, "--pattern", "p2m").status == OK


def test_no_tls(url: str) -> None:
    found = doctor(url.replace("nats:", "nats+tls:"))
    assert found.status == OTHER, found
    assert f"use {url}" in found.out


# -- wrong use ------------------------------------------------------------------------------------------


def test_wrong_use(tmp_path: Path) -> None:
    found = doctor("nats://127.0.0.1/x", "--framing", "lines")
    assert found.status == WRONG_USE
    assert "plain framing" in found.err
    assert doctor("nats:///x", NATS_URL="").status == WRONG_USE
    found = doctor(f"nats://joe:{PASSWORD}@127.0.0.1")
    assert found.status == WRONG_USE
    assert PASSWORD not in found.out + found.err


def test_without_the_extra() -> None:
    code = (
        "import sys; sys.modules['nats'] = None; sys.argv = ['linkbox', 'doctor', 'nats://127.0.0.1/x']; "
        "from linkbox.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == WRONG_USE, done.stderr
    assert "pip install '.[cli,nats]'" in done.stderr

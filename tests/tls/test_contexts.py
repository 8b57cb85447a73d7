"""What is refused before anything is opened: addresses and contexts that protect nobody, missing files."""

from __future__ import annotations

import socket
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest

import linkbox
from linkbox import AddressError, ClientP2P, Lines, PeerInfo, ServerP2P, aio, tls
from tests.tls.certificates import Authority

SERVERS = [linkbox.ServerP2P, linkbox.ServerP2M, linkbox.ServerAR, aio.ServerP2P, aio.ServerP2M, aio.ServerAR]
CLIENTS = [linkbox.ClientP2P, linkbox.ClientP2M, linkbox.ClientAR, aio.ClientP2P, aio.ClientP2M, aio.ClientAR]


# --- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_needs_a_certificate(kind: Any) -> None:
    with pytest.raises(AddressError, match="server_context"):
        kind("tls://127.0.0.1:0")


@pytest.mark.parametrize("kind", [*SERVERS, *CLIENTS])
def test_ssl_belongs_to_tls(kind: Any, authority: Authority) -> None:
    context = authority.server() if kind in SERVERS else authority.client()
    with pytest.raises(AddressError, match=r"write tls://127\.0\.0\.1:9000"):
        kind("tcp://127.0.0.1:9000", ssl=context)
    with pytest.raises(AddressError, match="takes no ssl="):
        kind("unix:///tmp/x.sock", ssl=context)
    assert kind(("127.0.0.1", 9000), ssl=context).address == "tls://127.0.0.1:9000"
    assert kind("tls://127.0.0.1:9000", ssl=context).address == "tls://127.0.0.1:9000"


def test_a_socket_that_was_handed_in(authority: Authority) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = ServerP2P(listener, ssl=authority.server())
    assert server.address == f"tls://127.0.0.1:{listener.getsockname()[1]}"
    with listener, server, ClientP2P(server.address, ssl=authority.client()) as client:
        client.send(b"x")
        assert server.data_get(10) == b"x"


@pytest.mark.parametrize("kind", SERVERS)
def test_beyond_this_machine_both_are_needed(kind: Any, authority: Authority) -> None:
    """TLS, and something that says who comes in."""
    for settings in ({}, {"secret": "s"}):
        with pytest.raises(AddressError, match="nothing protects it: use a tls:// address"):
            kind("tcp://0.0.0.0:0", **settings)
    with pytest.raises(AddressError, match=r"anyone who can reach it may use it: .*secret="):
        kind("tls://0.0.0.0:0", ssl=authority.server())
    kind("tls://0.0.0.0:0", ssl=authority.server(), secret="s")
    kind("tls://0.0.0.0:0", ssl=authority.server(clients=True))
    kind("tls://0.0.0.0:0", ssl=authority.server(clients=True), framing=Lines())
    kind("tls://0.0.0.0:0", ssl=authority.server(), insecure=True)


def test_certificates_that_are_only_wished_for_do_not_protect(authority: Authority) -> None:
    context = authority.server(clients=True)
    context.verify_mode = ssl.CERT_OPTIONAL
    with pytest.raises(AddressError, match="anyone who can reach it"):
        ServerP2P("tls://0.0.0.0:0", ssl=context)


# --- contexts --------------------------------------------------------------------------------------


def test_the_wrong_side() -> None:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ValueError, match=r"not for a server.*server_context"):
        ServerP2P("tls://127.0.0.1:0", ssl=client)
    with pytest.raises(ValueError, match=r"not for a client.*client_context"):
        ClientP2P("tls://127.0.0.1:1", ssl=server)
    wrong: Any = True
    for make in (ServerP2P, ClientP2P):
        with pytest.raises(TypeError, match=r"ssl\.SSLContext, .*not bool"):
            make("tls://127.0.0.1:1", ssl=wrong)


def test_a_client_that_checks_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        careless = ssl.SSLContext()
    with pytest.raises(ValueError, match="anybody could be the server"):
        ClientP2P("tls://127.0.0.1:1", ssl=careless)
    ClientP2P(
        "tls://127.0.0.1:1", ssl=careless, secret="which the server must know, bound to its certificate"
    )


def test_a_client_without_ssl_trusts_whom_this_machine_trusts(authority: Authority) -> None:
    server = ServerP2P("tls://127.0.0.1:0", ssl=authority.server())
    with server, pytest.raises(linkbox.AuthenticationFailed, match="not trusted"):
        ClientP2P(server.address).start()


def test_a_secret_needs_to_know_the_certificate(authority: Authority) -> None:
    made = authority.issue("server", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    with pytest.raises(ValueError, match=r"remember\(context, 'cert\.pem'\)"):
        ServerP2P("tls://127.0.0.1:0", ssl=context, secret="s")
    tls.remember(context, made.cert)
    server = ServerP2P("tls://127.0.0.1:0", ssl=context, secret="s").start()
    with server, ClientP2P(server.address, ssl=authority.client(), secret="s") as client:
        client.send(b"x")
        assert server.data_get(10) == b"x"


def test_what_is_remembered() -> None:
    assert tls.certificate_of(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) is None


def test_contexts_take_nothing_old(authority: Authority) -> None:
    for context in (authority.server(), authority.client(), tls.client_context()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_COMPRESSION
    assert authority.client().check_hostname


# --- files -----------------------------------------------------------------------------------------


def test_files_that_are_missing_are_named(authority: Authority, tmp_path: Path) -> None:
    made, missing = authority.issue("server", "127.0.0.1"), tmp_path / "missing.pem"
    for make in (
        lambda: tls.server_context(missing, made.key),
        lambda: tls.server_context(made.cert, missing),
        lambda: tls.server_context(made.cert, made.key, client_ca=missing),
        lambda: tls.client_context(missing),
        lambda: tls.client_context(authority.ca, missing, made.key),
        lambda: tls.remember(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), missing),
    ):
        with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
            make()


def test_files_that_hold_something_else(authority: Authority, tmp_path: Path) -> None:
    made, other = authority.issue("server", "127.0.0.1"), authority.issue("other")
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    for make in (
        lambda: tls.server_context(made.cert, other.key),
        lambda: tls.server_context(empty, made.key),
        lambda: tls.server_context(made.key, made.cert),
        lambda: tls.server_context(made.cert, made.key, client_ca=empty),
        lambda: tls.client_context(empty),
        lambda: tls.client_context(made.key),
        lambda: tls.remember(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), made.key),
    ):
        with pytest.raises(ValueError, match=rf"{authority.ca.stem}-|empty\.pem"):
            make()
    with pytest.raises(ValueError, match="must be given together"):
        tls.client_context(authority.ca, made.cert)


def test_an_encrypted_key_does_not_ask_at_the_terminal(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    made = authority.issue("server", "127.0.0.1")
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    with pytest.raises(ValueError, match=r"locked\.key is encrypted"):
        tls.server_context(made.cert, locked)


# --- accept= -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SERVERS)
def test_accept_must_be_callable(kind: Any) -> None:
    with pytest.raises(TypeError, match="PeerInfo"):
        kind("tcp://127.0.0.1:0", accept=["127.0.0.1"])


def test_peer_info_is_a_small_frozen_thing() -> None:
    info = PeerInfo("tls://192.0.2.1:5", "pump")
    assert info == PeerInfo("tls://192.0.2.1:5", "pump", None)
    with pytest.raises(AttributeError):
        info.name = "valve"  # type: ignore[misc]

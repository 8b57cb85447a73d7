"""``linkbox cert``, and the commands over TLS with what it makes."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, TIMEOUT

x509 = pytest.importorskip("cryptography.x509", reason="the extra tls is not installed")

TRUST = ["--tls-ca", "lab/ca.pem"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate and a client's."""
    folder = tmp_path_factory.mktemp("cert")
    for arguments in (["init"], ["issue", "127.0.0.1", "--san", "localhost"], ["issue", "pump"]):
        subprocess.run(
            [*COMMAND, "cert", *arguments, "--folder", "lab"], cwd=folder, check=True, timeout=TIMEOUT
        )
    return folder / "lab"


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    """A copy of that, where commands run."""
    return Path(shutil.copytree(made, tmp_path / "lab"))


def own(name: str) -> list[str]:
    return ["--tls-cert", f"lab/{name}.pem", "--tls-key", f"lab/{name}.key"]


def test_what_is_made(lab: Path) -> None:
    assert sorted(each.name for each in lab.iterdir()) == sorted(
        ["ca.key", "ca.pem", "127.0.0.1.key", "127.0.0.1.pem", "pump.key", "pump.pem"]
    )
    for key in lab.glob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600
    found = x509.load_pem_x509_certificate((lab / "127.0.0.1.pem").read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["127.0.0.1", "localhost"]
    assert found.not_valid_before_utc < datetime.now(UTC)
    assert timedelta(396) < found.not_valid_after_utc - datetime.now(UTC) < timedelta(398)


def test_nothing_is_overwritten(run, lab: Path) -> None:
    before = {each: each.read_bytes() for each in lab.iterdir()}
    for arguments in (["init"], ["issue", "pump"]):
        done = run("cert", *arguments, "--folder", "lab")
        assert done.status == 2
        assert "already exists" in done.err
    assert {each: each.read_bytes() for each in lab.iterdir()} == before


def test_what_an_authority_cannot_give(run, lab: Path) -> None:
    done = run("cert", "issue", "late", "--folder", "lab", "--days", "4000")
    assert done.status == 2
    assert "itself is valid for" in done.err
    (lab / "ca.key").write_bytes((lab / "pump.key").read_bytes())
    done = run("cert", "issue", "late", "--folder", "lab")
    assert done.status == 2
    assert "is not the key of" in done.err
    (lab / "ca.key").write_bytes(b"nonsense")
    done = run("cert", "issue", "late", "--folder", "lab")
    assert done.status == 2
    assert "damaged" in done.err
    assert not (lab / "late.key").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_finds_nothing_wrong(lab: Path) -> None:
    for purpose, name in (("sslserver", "127.0.0.1"), ("sslclient", "pump")):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", lab / "ca.pem"]
        subprocess.run([*command, lab / f"{name}.pem"], check=True, capture_output=True, timeout=20)


def test_the_strictest_context_takes_them(lab: Path) -> None:
    context = ssl.create_default_context(cafile=str(lab / "ca.pem"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(lab / "127.0.0.1.pem", lab / "127.0.0.1.key")
    ways = [ssl.MemoryBIO(), ssl.MemoryBIO()]
    ends = [
        context.wrap_bio(ways[0], ways[1], server_hostname="127.0.0.1"),
        server.wrap_bio(ways[1], ways[0], server_side=True),
    ]
    for end in ends * 2:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
    assert ends[0].getpeercert()


def test_send_over_tls(run, start, lab: Path) -> None:
    listener = start("listen", "p2m", "tls://127.0.0.1:0", *own("127.0.0.1"), "--count", 2)
    assert listener.address.startswith("tls://")
    done = run("send", listener.address, *TRUST, stdin=b"one\ntwo\n")
    assert done.status == 0, done.err
    assert listener.done().out == b"one\ntwo\n"


def test_ask_with_a_client_certificate(run, start, lab: Path) -> None:
    server = start("listen", "ar", "tls://127.0.0.1:0", *own("127.0.0.1"), *TRUST, "--echo", "--count", 1)
    refused = run("ask", server.address, "--text", "hello", *TRUST)
    assert refused.status == 1
    assert "wants one" in refused.err
    done = run("ask", server.address, "--text", "hello", *TRUST, *own("pump"))
    assert (done.status, done.out) == (0, b"hello\n"), done.err
    assert server.done().status == 0


def test_chat_over_tls(start, lab: Path) -> None:
    server = start("chat", "--listen", "tls://127.0.0.1:0", *own("127.0.0.1"), stdin=subprocess.PIPE)
    client = start("chat", server.address, *TRUST, stdin=subprocess.PIPE)
    client.type(b"hello\n")
    assert server.read_line() == b"hello\n"
    server.type(b"hello yourself\n")
    assert client.read_line() == b"hello yourself\n"
    assert client.done().status == 0
    assert server.done().status == 0


def test_whom_nobody_trusts(run, start, lab: Path) -> None:
    server = start("listen", "p2m", "tls://127.0.0.1:0", *own("127.0.0.1"))
    done = run("send", server.address, stdin=b"secret\n")
    assert done.status == 1
    assert "is not trusted" in done.err


def test_beyond_this_machine(run, start, lab: Path, tmp_path: Path) -> None:
    done = run("listen", "p2m", "tls://0.0.0.0:0", *own("127.0.0.1"))
    assert done.status == 2
    assert "--secret-file (or --tls-ca" in done.err
    (tmp_path / "secret").write_text("a long text that nobody guesses")
    secret = ["--secret-file", "secret"]
    listener = start("listen", "p2m", "tls://0.0.0.0:0", *own("127.0.0.1"), *secret, "--count", 1)
    done = run("send", f"tls://localhost:{listener.port}", *TRUST, *secret, stdin=b"one\n")
    assert done.status == 0, done.err
    assert listener.done().out == b"one\n"


NO_HOSTS = (
    "",
    " ",
    "a b,DNS:evil",
    "a,DNS:evil",
    "x\ny",
    "-a",
    "a-",
    "a..b",
    ".a",
    "a.",
    "*",
    "a.*.b",
    "x" * 64,
)


@pytest.mark.parametrize("host", [*NO_HOSTS, "fe80::1%eth0"])
def test_a_san_that_is_no_host_is_not_signed(run, lab: Path, host: str) -> None:
    done = run("cert", "issue", "gauge", "--folder", "lab", f"--san={host}")
    assert done.status == 2
    assert "is neither a host name" in done.err
    assert not (lab / "gauge.pem").exists()


@pytest.mark.parametrize(
    "host", ["localhost", "pump_7.lab", "*.example.com", "grüße.example", "::1", "10.0.0.7"]
)
def test_a_san_that_is_a_host_is_signed(run, lab: Path, host: str) -> None:
    done = run("cert", "issue", "gauge", "--folder", "lab", "--san", host)
    assert done.status == 0, done.err
    assert (lab / "gauge.pem").exists()


@pytest.mark.parametrize("days", ["36501", "10000000", "999999999999999999999"])
def test_a_certificate_is_not_valid_for_ever(run, tmp_path: Path, days: str) -> None:
    done = run("cert", "init", "--folder", "lab", "--days", days)
    assert done.status == 2
    assert "36500" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "lab").exists()


def test_the_longest_time(run, lab: Path) -> None:
    assert run("cert", "init", "--folder", "other", "--days", "36500").status == 0
    done = run("cert", "issue", "late", "--folder", "other", "--days", "36501")
    assert done.status == 2

"""The command line over a broker, `linkbox nats-config`, and the demo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")

from linkbox import AddressError, Nats
from linkbox.cli.broker import broker_of, with_nats_url
from linkbox.cli.status import WrongUse
from tests.nats.servers import NatsServer, binary, needs_server


def linkbox(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "linkbox.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=os.environ | environment,
    )


def test_messages_wait_for_the_next_listener(url: str, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("one\ntwo\n")
    sent = linkbox("send", url, str(file))
    assert sent.returncode == 0, sent.stderr
    heard = linkbox("listen", "p2m", url, "--count", "2", "--timeout", "20")
    assert (heard.returncode, heard.stdout) == (0, "one\ntwo\n"), heard.stderr


def test_the_host_is_in_the_environment(url: str) -> None:
    host, _, name = url.removeprefix("nats://").partition("/")
    done = linkbox("ask", f"nats:///{name}", "x", "--timeout", "0.5", NATS_URL=f"nats://{host}")
    assert done.returncode == 1
    assert "no server serves" in done.stderr
    done = linkbox("ask", f"nats:///{name}", "x", NATS_URL="")
    assert done.returncode == 2
    assert "NATS_URL" in done.stderr


def test_addresses_and_credentials_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "CREDS", "NKEY", "TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"NATS_{name}", raising=False)
    assert with_nats_url(None) is None
    assert with_nats_url("tcp://h:1") == "tcp://h:1"
    assert broker_of("nats://h/x") is None
    monkeypatch.setenv("NATS_URL", "tls://a,b:5/")
    assert with_nats_url("nats:///x") == "nats+tls://a,b:5/x"
    monkeypatch.setenv("NATS_USER", "joe")
    with pytest.raises(WrongUse, match="belong together"):
        broker_of("nats://h/x")
    monkeypatch.setenv("NATS_PASSWORD", "secret")
    assert broker_of("nats://h/x") == Nats(user="joe", password="secret")
    assert broker_of("nats://token@h/x") is None, "the address has its own"
    assert broker_of("tcp://h:1") is None
    with pytest.raises(AddressError):
        broker_of("nats://h")


@needs_server
def test_nats_config_makes_a_broker_that_runs(tmp_path: Path) -> None:
    made = linkbox("nats-config", "--store", str(tmp_path / "js"), "--user", "joe")
    assert made.returncode == 0, made.stderr
    assert "sync_interval: always" in made.stdout
    found = re.search(r'user: "joe", password: "([^"]+)"', made.stdout)
    assert found is not None
    assert f"NATS_PASSWORD={found[1]}" in made.stderr
    config = re.sub(r'listen: "[^"]+"\n', "", made.stdout)
    config = re.sub(r"jetstream \{.*?\n\}\n", "", config, flags=re.DOTALL)
    with NatsServer(config) as server:
        wrong = linkbox("send", server.url(), "-", stdin="hello\n", NATS_USER="joe", NATS_PASSWORD="no")
        assert wrong.returncode == 1
        assert "does not accept the credentials" in wrong.stderr
        right = linkbox("send", server.url(), "-", stdin="hello\n", NATS_USER="joe", NATS_PASSWORD=found[1])
        assert right.returncode == 0, right.stderr


@needs_server
def test_nats_config_for_a_cluster_and_for_tls(tmp_path: Path) -> None:
    routes = ["--route", "127.0.0.1:6223", "--route", "127.0.0.1:6224"]
    made = linkbox("nats-config", "--node", "n1", *routes)
    file = tmp_path / "nats.conf"
    file.write_text(made.stdout, encoding="utf-8")
    command = [str(binary()), "-t", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "is valid" in done.stdout + done.stderr, done.stdout + done.stderr
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    assert "handshake_first: auto" in linkbox("nats-config", "--tls-cert", cert, "--tls-key", key).stdout
    assert linkbox("nats-config", "--tls-cert", cert).returncode == 2
    assert linkbox("nats-config", "--route", "h:1").returncode == 2


@needs_server
def test_the_demo_loses_nothing() -> None:
    command = [sys.executable, "-m", "linkbox.cli.demo.broker", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bob is killed" in done.stdout
    assert re.search(r"lost 0, taken again \d+, of these not marked 0", done.stdout)

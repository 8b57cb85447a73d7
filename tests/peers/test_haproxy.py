"""haproxy between clients and two servers: connections are spread, a server that is away is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linkbox import Lines, Text
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Program, Programs, free_port, needs

pytestmark = needs("haproxy")


def haproxy(run: Programs, folder: Path, *servers: str) -> tuple[Program, int]:
    port = free_port()
    backends = "\n    ".join(f"server s{n} {each}" for n, each in enumerate(servers))
    (folder / "haproxy.cfg").write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch
listen box
    bind 127.0.0.1:{port}
    balance roundrobin
    {backends}
""")
    program = run.start("haproxy", "-db", "-f", folder / "haproxy.cfg")
    program.listens(port)
    return program, port


def backend(server: Any) -> str:
    return str(server.address.removeprefix("tcp://"))


def test_requests_are_spread(place: Place, run: Programs, tmp_path: Path) -> None:
    def named(name: str) -> Any:
        handler = lambda request: f"{name} {request.data}"  # noqa: E731
        return place.server("AR", Text(), framing=Lines(), handler=handler)

    with named("a") as first, named("b") as second:
        _, port = haproxy(run, tmp_path, backend(first), backend(second))
        with place.client("AR", ("127.0.0.1", port), Text(), framing=Lines()) as client:
            answers = [client.ask(str(n), PATIENCE) for n in range(20)]
            assert sorted(answers) == sorted(f"{'ab'[n % 2]} {n}" for n in range(20))
            first.stop()
            for n in range(10):
                assert client.ask(str(n), PATIENCE) == f"b {n}"


def test_linked_endpoints_through_haproxy(place: Place, run: Programs, tmp_path: Path) -> None:
    """Our own protocol resumes its session when haproxy is killed and comes back."""
    with place.server("P2P", Text()) as server:
        program, port = haproxy(run, tmp_path, backend(server))
        with place.client("P2P", ("127.0.0.1", port), Text()) as client:
            receipts = [client.send(f"before {n}") for n in range(100)]
            program.kill()
            receipts += [client.send(f"meanwhile {n}") for n in range(100)]
            again = run.start(*program.command)
            again.listens(port)
            receipts += [client.send(f"after {n}") for n in range(100)]
            for receipt in receipts:
                receipt.wait(timeout=PATIENCE)
            words = [f"{word} {n}" for word in ("before", "meanwhile", "after") for n in range(100)]
            assert server.data_get_count(300, PATIENCE) == words


@needs("socat")
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("framing", ["plain", "linked"])
def test_the_address_behind_haproxy(
    place: Place, run: Programs, tmp_path: Path, option: str, framing: str
) -> None:
    """haproxy also checks the health of the server: these connections name no client, and disturb nothing."""
    admitted: list[str] = []

    def accept(info: Any) -> bool:
        admitted.append(info.address)
        return True

    framings: dict[str, Any] = {"framing": Lines()} if framing == "plain" else {}
    proxies = {"proxy_protocol": ["127.0.0.1"]}
    with place.server("P2M", Text(), accept=accept, **proxies, **framings) as server:
        _, port = haproxy(run, tmp_path, f"{backend(server)} {option} check inter 50")
        hop = ("TCP-LISTEN:PORT,bind=127.0.0.1,fork", f"TCP:127.0.0.1:{port},bind=127.0.0.9")
        _, port = run.server("socat", *hop)
        with place.client("P2M", ("127.0.0.1", port), Text(), **framings) as client:
            client.send("hello")
        message = server.message_get(PATIENCE)
        assert message.data == "hello"
        assert message.peer.address.startswith("tcp://127.0.0.9:")
        assert message.peer.address in admitted
        assert server.statistics().refused == 0


@needs("nc")
def test_a_server_that_expects_no_proxy_protocol(
    place: Place, run: Programs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with place.server("P2M", Text(), framing=Lines()) as server:
        _, port = haproxy(run, tmp_path, f"{backend(server)} send-proxy")
        run.start("nc", "-N", "127.0.0.1", port).write(b"hello\n", end=True)
        assert server.data_get(PATIENCE).startswith("PROXY TCP4 127.0.0.1 127.0.0.1 ")
        assert server.data_get(PATIENCE) == "hello"
    assert "proxy_protocol" in caplog.text

"""rsyslog with octet counting (RFC 6587): it forwards to us, then we send to it."""

from __future__ import annotations

from pathlib import Path

from linkbox import DecimalPrefixed, Lines, Text
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Programs, free_port, needs, port_of, until
from tests.peers.starters import forwarder, rsyslog

pytestmark = needs("rsyslogd")
SYSLOG = DecimalPrefixed(b" ")


def test_it_forwards_what_it_reads(place: Place, run: Programs, tmp_path: Path) -> None:
    """A port of rsyslog takes lines; it forwards them as counted octets, one with a newline inside."""
    with place.server("P2M", Text(), framing=SYSLOG) as server:
        port = forwarder(run, tmp_path, port_of(server.address))
        with place.client("P2M", ("127.0.0.1", port), Text(), framing=Lines()) as source:
            source.send_many([f"<165>Jan  1 00:00:00 host app: größe {n} " + "x" * n for n in range(500)])
        for n in range(500):
            assert server.data_get(PATIENCE) == f"<165>app: größe {n} " + "x" * n + "\n."


def test_it_writes_what_we_send(place: Place, run: Programs, tmp_path: Path) -> None:
    port = free_port()
    daemon = rsyslog(
        run,
        tmp_path,
        f"""
        module(load="imtcp")
        input(type="imtcp" port="{port}" address="127.0.0.1")
        template(name="form" type="string" string="%pri% %app-name% %msg%\\n")
        action(type="omfile" file="{tmp_path}/out" template="form")
        """,
    )
    daemon.listens(port)
    sent = [f"<34>1 2026-01-01T00:00:00Z host app{n} - - - größe {'y' * n}" for n in range(500)]
    sent.append("<34>1 2026-01-01T00:00:00Z host last - - - two\nlines")
    with place.client("P2M", ("127.0.0.1", port), Text(), framing=SYSLOG) as client:
        assert client.send_many(sent) == 501
    out = tmp_path / "out"
    until(lambda: out.exists() and b"two" in out.read_bytes(), "the last message is in the file", daemon)
    *lines, last = out.read_text().splitlines()
    assert lines == [f"34 app{n} größe {'y' * n}" for n in range(500)]
    assert last == "34 last two#012lines"

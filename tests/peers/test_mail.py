"""SMTP with aiosmtpd: a greeting, responses of several lines, and lines without a response (the text)."""

from __future__ import annotations

import pytest

from linkbox import Dialogue, Lines, Text
from tests.faults.place import Place
from tests.peers.processes import PATIENCE, Programs, needs_package, until

pytestmark = needs_package("aiosmtpd")
MAIL = Dialogue(greeting=lambda line: line.startswith("220 "), answer=lambda line: line[3:4] != "-")


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_mail(place: Place, run: Programs, keep_alive: bool) -> None:
    server, port = run.simulator("mail_server.py")
    options = {"framing": Lines(b"\r\n"), "dialogue": MAIL, "keep_alive": keep_alive}
    with place.client("AR", ("127.0.0.1", port), Text(), **options) as client:
        hello = client.ask("EHLO me", PATIENCE)
        assert hello[0] == "250-mail.example" and hello[-1].startswith("250 ")
        assert {line[3] for line in hello[:-1]} == {"-"}
        if not keep_alive:
            assert client.ask("QUIT", PATIENCE) == ["221 Bye"]
            return  # Each request has a connection of its own.
        assert client.ask("VRFY nobody@example.org", PATIENCE)[0].startswith("252 ")
        assert client.ask("RCPT TO:<you@example.org>", PATIENCE) == ["503 Error: need MAIL command"]
        for n in (1, 2, 3):
            assert client.ask(f"MAIL FROM:<me{n}@example.org>", PATIENCE) == ["250 OK"]
            assert client.ask("RCPT TO:<you@example.org>", PATIENCE) == ["250 OK"]
            assert client.ask("DATA", PATIENCE)[0].startswith("354 ")
            for line in ("Subject: hello", "", *(f"line {each}" for each in range(100 * n))):
                client.tell(line)
            assert client.ask(".", PATIENCE) == ["250 kept"]
            server.expect(rf"^received me{n}@example.org you@example.org {100 * n + 2}$")
        assert client.ask("QUIT", PATIENCE) == ["221 Bye"]
        until(lambda: not client.peers(), "the server closes the connection")
        assert client.ask("MAIL FROM:<me@example.org>", PATIENCE) == [
            "503 Error: send HELO first"
        ]  # on the next one

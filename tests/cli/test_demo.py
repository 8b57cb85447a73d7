"""The demo ends well only if everything that was sent has arrived."""

from __future__ import annotations

import io
import signal
import subprocess
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from linkbox import Message
from linkbox.cli.app import app
from linkbox.cli.demo import command
from linkbox.cli.demo.ar import Answers
from linkbox.cli.demo.device import Instruments, is_valid
from linkbox.cli.demo.p2m import Metrics
from linkbox.cli.demo.p2p import Conversation
from linkbox.cli.demo.part import Check, Child, ChildFailed, Part, Tally, compare, ticks

QUIET = Console(quiet=True)


def test_the_demo_runs_and_its_summary_is_right(run) -> None:
    done = run("demo", "--seconds", "2.5")
    text = done.out.decode()
    assert done.status == 0, text + done.err
    assert "All 10 checks passed" in text
    for line in ("P2M     cpu", "P2P     to the client", "AR      keeper", "Device  boat"):
        assert line in text  # plain lines, as this is no terminal
    rows = [line.split() for line in text.splitlines() if line.rstrip().endswith(" ok")]
    assert len(rows) == 10
    for row in rows:
        numbers = [word for word in row if word.replace(",", "").isdecimal()]
        assert len(numbers) == 2
        assert numbers[0] == numbers[1] != "0", row
    assert done.err == ""


def test_on_a_terminal_there_is_a_live_view() -> None:
    screen = io.StringIO()
    console = Console(force_terminal=True, width=100, height=50, file=screen)
    checks = command.perform((Instruments(),), console, 1.0, is_quiet=False)
    assert [check.is_fine for check in checks] == [True]
    shown = screen.getvalue()
    assert "NMEA sentences" in shown
    assert "boat" in shown


def test_ctrl_c_leaves_nothing_behind(start) -> None:
    demo = start("demo", "--seconds", "30")
    assert demo.read_line()  # it is at work
    demo.process.send_signal(signal.SIGINT)
    assert demo.done().status == 130
    found = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True, check=True).stdout
    assert f"{demo.process.pid} " not in [line.strip().split(" ")[0] + " " for line in found.splitlines()]


# -- something is lost ----------------------------------------------------------------------------------


class LossyMetrics(Metrics):
    """Loses one message."""

    def take(self, message: Message[Any]) -> None:
        if message.data["what"] != "memory" or message.data["n"] != 20:
            super().take(message)


class SwappedConversation(Conversation):
    """Hears two messages in the wrong order."""

    held = b""

    def hear(self, message: bytes) -> None:
        if message.startswith(b"100 "):
            self.held = message
            return
        super().hear(message)
        if self.held:
            super().hear(self.held)
            self.held = b""


class WrongAnswers(Answers):
    """Gives one wrong answer."""

    def handle(self, request: Any) -> Any:
        answer = super().handle(request)
        return "wrong" if request.data["id"] == "keeper/1/7" else answer


class GarblingInstruments(Instruments):
    """Reads one sentence wrongly."""

    def take(self, sentence: bytes) -> None:
        super().take(sentence[:-1] + b"x" if self._tally.count == 10 else sentence)


@pytest.mark.parametrize(
    ("make", "what", "words"),
    [
        (LossyMetrics, "memory", "1 too few arrived"),
        (SwappedConversation, "from the client", "different contents or order"),
        (WrongAnswers, "keeper", "keeper/1/7: a wrong response"),
        (GarblingInstruments, "boat", "1 checksums were wrong"),
    ],
)
def test_a_part_sees_what_went_wrong(make: type[Part], what: str, words: str) -> None:
    checks = command.perform((make(),), QUIET, 1.0, is_quiet=True)
    bad = {check.what: check.verdict for check in checks if not check.is_fine}
    assert words in bad.pop(what)
    assert set(bad) <= {"events"}


def test_the_demo_fails_when_something_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Metrics", LossyMetrics)
    done = CliRunner().invoke(app, ["demo", "--seconds", "1", "--quiet"])
    assert done.exit_code == 1
    assert "DIFFERS" in done.output
    assert "1 too few arrived" in done.output
    assert "of 10 checks failed" in done.output


@pytest.mark.parametrize(("part", "address"), [("device", "tcp://127.0.0.1:1"), ("dance", "?")])
def test_a_child_that_fails_is_seen(part: str, address: str) -> None:
    child = Child(part, "somebody", address, 0.1)
    with pytest.raises(ChildFailed, match="somebody exited with status 1"):
        child.report()
    child.kill()


def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linkbox.cli.demo.part.PATIENCE", 0.2)
    metrics = Metrics()
    try:
        metrics._server.start()
        child = Child("p2m", "cpu", metrics._server.address, 0)
        child._process.send_signal(signal.SIGSTOP)
        with pytest.raises(ChildFailed, match="was killed"):
            child.report()
    finally:
        metrics.close()


# -- what the checks are made of --------------------------------------------------------------------------


def test_equal_tallies_mean_equal_messages_in_order() -> None:
    def tally(*messages: bytes) -> dict[str, Any]:
        found = Tally()
        for message in messages:
            found.add(message)
        return found.report()

    one = tally(b"a", b"bc")
    assert compare("P2M", "x", one, tally(b"a", b"bc"), "equal") == Check("P2M", "x", 2, 2, "equal", True)
    for other in (tally(b"bc", b"a"), tally(b"ab", b"c"), tally(b"a"), tally(b"a", b"bc", b"")):
        assert not compare("P2M", "x", one, other, "equal").is_fine
    assert not compare("P2M", "x", tally(), tally(), "equal").is_fine
    assert not compare("P2M", "x", one, one, "equal", "something else").is_fine


def test_nmea_checksums() -> None:
    assert is_valid(b"$GPVTG,251.34,T,,M,0.58,N,1.07,K,A*37")
    assert not is_valid(b"$GPVTG,251.34,T,,M,0.59,N,1.07,K,A*37")
    assert not is_valid(b"GPVTG")


def test_ticks_end_in_time() -> None:
    assert list(ticks(0.05, 100)) == [0, 1, 2, 3, 4]
    assert list(ticks(0, 100)) == []

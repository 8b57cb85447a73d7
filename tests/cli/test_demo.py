"""The demo ends well only if everything that was sent has arrived."""

from __future__ import annotations

import io
import signal
import subprocess
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from linkbox import Message
from linkbox.cli.app import app
from linkbox.cli.demo import command
from linkbox.cli.demo.ar import Answers
from linkbox.cli.demo.crash import RECORD, Crash, known
from linkbox.cli.demo.device import Instruments, is_valid
from linkbox.cli.demo.p2m import Metrics
from linkbox.cli.demo.p2p import Conversation
from linkbox.cli.demo.part import Check, Child, ChildFailed, Line, Part, Tally, compare, size, ticks
from linkbox.cli.demo.view import Rates, picture, sparkline, summary

QUIET = Console(quiet=True)


def test_the_demo_runs_and_its_summary_is_right(run) -> None:
    done = run("demo", "--seconds", "2.5", columns=80)
    text = done.out.decode()
    assert done.status == 0, text + done.err
    assert "All 12 checks passed" in text
    for line in ("P2M     cpu", "P2M     logger", "P2P     to the client", "AR      keeper", "Device  boat"):
        assert line in text  # plain lines, as this is no terminal
    assert max(map(len, text.splitlines())) <= 80
    rows = [line.split() for line in text.splitlines() if line.rstrip().endswith(" ok")]
    assert len(rows) == 12
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


class Still:
    """A part that shows the widest lines that there are."""

    def __init__(self, title: str, *lines: Line, happened: int = 0) -> None:
        self.title = title
        self.happened = [
            (0.1 * number, "logger: runs again, and has sent what was on its disk")
            for number in range(happened)
        ]
        self._lines = lines

    def lines(self) -> list[Line]:
        return list(self._lines)


def test_the_live_view_fits_a_small_terminal() -> None:
    """With its headers, and with the bars and sparklines of rows with large counts."""
    parts: Any = [
        Still(
            Metrics.title,
            Line("cpu", 123_456, "100 % of 128 cores", 1.0),
            Line("memory", 123_456, "100 GB of 256 GB", 0.5),
            Line("network", 123_456, "out 123.4 GB, in 123.4 GB"),
            Line("load", 123_456, "12.34 on 128 cores", 2.0),
        ),
        Still(Crash.title, Line("logger", 123_456, "1234 on its disk only"), happened=9),
        Still(Conversation.title, *[Line("from the client", 1_234_567, "12.3 MB in all")] * 2),
        Still(Answers.title, *[Line("keeper, keep_alive", 123_456, "largest: python3.13 12.3 %")] * 2),
        Still(Instruments.title, Line("boat", 123_456, "52.378° N 4.916° E, 5.2 kn")),
    ]
    rates = Rates()
    for part in parts:
        for number, line in enumerate(part.lines()):
            rates.rates(part.title, line)
            rates._rates[part.title, line.who].extend([12_345.0 * (number + 1)] * 12)
    screen = io.StringIO()
    console = Console(force_terminal=True, width=80, height=24, file=screen, color_system=None)
    for each in picture(parts, rates, 0.0, 9.0):
        console.print(each)
    lines = screen.getvalue().splitlines()
    assert len(lines) <= 24
    assert max(map(cell_len, lines)) <= 80
    assert "…" not in screen.getvalue(), "nothing is cut off"
    assert all(word in lines[0] for word in ("who", "messages", "rate", "last 10 s", "now"))
    assert "█" * 10 in screen.getvalue()
    assert "━━━━" in screen.getvalue()


def test_the_summary_fits_a_small_terminal() -> None:
    screen = io.StringIO()
    rows = [
        Check("P2P", "from the client", 123_456, 123_456, "none lost, none twice", True),
        Check("Device", "boat", 123_456, 123_456, "in order, checksums ok", False),
    ]
    summary(Console(width=80, file=screen), rows, 9.0)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if "none lost, none twice" in line and "ok" in line]


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([0, 7, 14, 7]) == "▁▅█▅"
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "▁▁"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_240_000, "1.24 MB"), (25_300_000_000, "25.3 GB")]
)
def test_sizes_have_units(count: int, text: str) -> None:
    assert size(count) == text


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


class UncutConversation(Conversation):
    """Its connection is not cut."""

    def _cut(self) -> None:
        pass


class ForgetfulCrash(Crash):
    """Loses a message that was on the disk of the process when it was killed."""

    def take(self, message: Message[Any]) -> None:
        if message.data != [1, 0]:
            super().take(message)


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
        (UncutConversation, "cuts, resumed", "not resumed"),
        (ForgetfulCrash, "logger, killed", "1 too few arrived"),
        (WrongAnswers, "keeper", "keeper/1/7: a wrong response"),
        (GarblingInstruments, "boat", "1 checksums were wrong"),
    ],
)
def test_a_part_sees_what_went_wrong(make: type[Part], what: str, words: str) -> None:
    checks = command.perform((make(),), QUIET, 1.0, is_quiet=True)
    bad = {check.what: check.verdict for check in checks if not check.is_fine}
    assert words in bad.pop(what)
    assert set(bad) <= {"events"}


def test_a_message_whose_send_had_not_returned_may_have_arrived_or_not() -> None:
    accepted = [RECORD % (0, 0), RECORD % (0, 1), RECORD % (1, 0)]
    doubtful = RECORD % (0, 2)
    assert known(accepted, accepted) == accepted
    assert known([*accepted[:2], doubtful, accepted[2]], accepted) == accepted
    assert known([*accepted[:2], RECORD % (0, 3), accepted[2]], accepted) != accepted


def test_the_process_is_killed_with_messages_on_its_disk_only() -> None:
    crash = Crash()
    checks = command.perform((crash,), QUIET, 1.0, is_quiet=True)
    assert [check.is_fine for check in checks] == [True]
    told = [text for _, text in crash.happened]
    assert [text.partition(", with")[0] for text in told] == [
        "logger: its cable is pulled",
        "logger: killed",
        "logger: runs again, and has sent what was on its disk",
    ]
    assert int(told[1].split()[3]) >= 3
    assert not crash._folder.exists()


def test_the_demo_fails_when_something_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Metrics", LossyMetrics)
    done = CliRunner().invoke(app, ["demo", "--seconds", "1", "--quiet"])
    assert done.exit_code == 1
    assert "DIFFERS" in done.output
    assert "1 too few arrived" in done.output
    assert "of 12 checks failed" in done.output


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

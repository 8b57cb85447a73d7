"""`linkbox top` in the terminal, driven by textual's pilot, and `--json`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

pytest.importorskip("textual", reason="the extra top is not installed")
pytest.importorskip("typer", reason="the extra cli is not installed")

from textual.widgets import DataTable, Input, Static

from linkbox import ClientP2P, ServerP2P, monitor
from linkbox.cli.top.columns import COLUMNS, amount, duration, fitting, percent
from linkbox.cli.top.screen import Details, Reading, Top
from linkbox.monitor import Row
from linkbox.snapshots import EndpointSnapshot, PeerSnapshot, ProcessSnapshot
from tests.threaded.helpers import wait_until

SIZES = [(80, 24), (140, 50)]
HOSTILE = "[red]x[/red]\n\x1b[31m<script>alert(1)</script>"


def peer(name: str) -> PeerSnapshot:
    return PeerSnapshot(
        name=name, address="tcp://127.0.0.1:1", id="00", identity=None, connected_at=0.0, messages_sent=1,
        messages_received=2, bytes_sent=3, bytes_received=4, unacknowledged=5, waiting=6, round_trip=0.001,
        silence=1.0, mailbox_share=0.5, window_share=0.25, waits_for="",
    )  # fmt: skip


def row(number: int, kind: str = "ServerP2P", trouble: str = "", **more: Any) -> Row:
    rates = {name: more.pop(name) for name in list(more) if name.endswith("_rate")}
    endpoint = EndpointSnapshot(
        number=number, kind=kind, front="threaded", pattern="p2p", side="server", name=f"name {number}",
        address=f"tcp://127.0.0.1:{9000 + number}", format="json", framing="linked", secure=False, store="",
        state="listening", trouble=trouble, **more,
    )  # fmt: skip
    return Row(key=f"77.{number}", pid=77, program="program.py", endpoint=endpoint, **rates)


class Source:
    """What the screen reads."""

    def __init__(self, *rows: Row) -> None:
        self.rows = list(rows)
        self.failed: list[ProcessSnapshot] = []

    def __call__(self) -> Reading:
        return self.rows, self.failed


def play(source: Source, size: tuple[int, int], play: Callable[[Top, Any], Any]) -> None:
    async def main() -> None:
        app = Top(source, interval=0.02)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.query_one(DataTable).row_count == len(source.rows))
            await play(app, pilot)

    asyncio.run(main())


async def until(pilot: Any, condition: Callable[[], Any]) -> None:
    for _ in range(1500):
        if condition():
            return
        await pilot.pause(0.01)  # The screen has no event for what it has drawn.
    raise AssertionError(condition)


def texts(app: Top) -> list[list[str]]:
    table = app.screen_stack[0].query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]


def shown(app: Top, id: str) -> str:
    return str(app.screen_stack[-1].query_one(id, Static).render())


@pytest.mark.parametrize("size", SIZES)
def test_what_is_in_trouble_comes_first(size: tuple[int, int]) -> None:
    async def steps(app: Top, pilot: Any) -> None:
        first, *rest = texts(app)
        assert first[0] == "✖"
        assert "ClientP2P" in first
        assert {each[0] for each in rest} == {"●"}
        assert "1 in trouble" in shown(app, "#head")
        assert "waits for a connection" in shown(app, "#troubles")
        source.rows = [row(1), row(2), row(3)]
        await until(pilot, lambda: "0 in trouble" in shown(app, "#head"))
        assert shown(app, "#troubles") == ""

    source = Source(row(1), row(2, "ClientP2P", "waits for a connection: 7 attempts"), row(3))
    play(source, size, steps)


@pytest.mark.parametrize("size", SIZES)
def test_everything_fits_into_the_width(size: tuple[int, int]) -> None:
    columns = fitting(size[0])
    assert sum(column.width + 2 for column in columns) <= size[0]
    assert {"ENDPOINT", "ADDRESS", "STATE", "IN/s", "OUT/s"} <= {column.title for column in columns}
    assert len(fitting(10)) < len(columns) < len(fitting(1000)) + 1
    assert fitting(1000) == list(COLUMNS)

    async def steps(app: Top, pilot: Any) -> None:
        table = app.query_one(DataTable)
        assert table.virtual_size.width <= size[0]
        assert app.query_one("#head").region.width == size[0]

    play(Source(row(1, received_rate=123456.0, bytes_received_rate=1.5e9)), size, steps)


@pytest.mark.parametrize("size", SIZES)
def test_sort_reverse_filter_and_pause(size: tuple[int, int]) -> None:
    async def steps(app: Top, pilot: Any) -> None:
        while "IN/s" not in shown(app, "#head"):
            await pilot.press("s")
        titles = [column.title for column in fitting(size[0])]
        at = titles.index("IN/s")
        assert [line[at] for line in texts(app)] == ["30", "20", "10"]
        await pilot.press("r")
        assert [line[at] for line in texts(app)] == ["10", "20", "30"]
        await pilot.press("slash", *"9002")
        assert len(texts(app)) == 1
        assert "1 with '9002'" in shown(app, "#head")
        await pilot.press("enter")
        await pilot.press("p")
        assert "paused" in shown(app, "#head")
        source.rows = [row(2, received_rate=999.0)]
        await pilot.pause(0.1)  # Nothing may happen: there is nothing to wait for.
        assert texts(app)[0][at] == "20"
        await pilot.press("p")
        await until(pilot, lambda: texts(app)[0][at] == "999")
        await pilot.press("slash", "escape")
        assert app.query_one(Input).value == ""

    source = Source(*(row(number, received_rate=10.0 * number) for number in (1, 2, 3)))
    play(source, size, steps)


@pytest.mark.parametrize("size", SIZES)
def test_details_of_one_endpoint_with_hostile_names(size: tuple[int, int]) -> None:
    async def steps(app: Top, pilot: Any) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Details))
        await until(pilot, lambda: "tcp://127.0.0.1:9001" in shown(app, "#facts"))
        table = app.screen.query_one("#peers", DataTable)
        (name, *_) = table.get_row_at(0)
        assert str(name) == "[red]x[/red]\\n\\x1b[31m<script>alert(1)</script>"
        assert name.spans == [], "it is text, not markup"
        source.rows = [row(1, waiting=4321, peers=[peer("good")])]
        await until(pilot, lambda: "4321 messages" in shown(app, "#facts"))
        assert str(table.get_row_at(0)[0]) == "good"
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Details))

    source = Source(row(1, peers=[peer(HOSTILE)]))
    play(source, size, steps)


def test_a_process_that_does_not_answer_is_shown() -> None:
    source = Source(row(1))
    source.failed = [
        ProcessSnapshot(pid=78, program="?", version="", at=0.0, endpoints=[], error="does not answer: x")
    ]

    async def steps(app: Top, pilot: Any) -> None:
        assert "process 78 does not answer" in shown(app, "#troubles")

    play(source, (80, 24), steps)


def test_without_processes_it_says_what_to_do() -> None:
    async def steps(app: Top, pilot: Any) -> None:
        await until(pilot, lambda: "LINKBOX_MONITOR=1" in shown(app, "#troubles"))

    play(Source(), (80, 24), steps)


def test_many_troubles_are_cut() -> None:
    async def steps(app: Top, pilot: Any) -> None:
        assert "… and 5 more" in shown(app, "#troubles")

    play(Source(*(row(number, trouble="waits") for number in range(10))), (140, 50), steps)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1, "1"), (0.5, "0.5"), (9.94, "9.9"), (950, "950"), (1200, "1.2k"), (34_000_000, "34M")],
)
def test_amounts(number: float, text: str) -> None:
    assert amount(number) == text
    assert len(amount(number * 1e6)) <= 6


def test_times_and_shares() -> None:
    assert [duration(each) for each in (None, 0.00012, 0.0034, 0.25, 1.234, 75.0)] == [
        "", "0.12ms", "3.4ms", "250ms", "1.23s", "75s",
    ]  # fmt: skip
    assert [percent(each) for each in (0, 0.854, 1, 50)] == ["0%", "85%", "100%", "999%"]


# -- the command ----------------------------------------------------------------------------------------


def command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | more
    return subprocess.run(
        [sys.executable, "-m", "linkbox.cli", "top", *arguments],
        capture_output=True, text=True, env=environment, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_json(runtime: Any) -> None:
    monitor.start()
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address, name=HOSTILE) as client:
        client.send(b"x").wait()
        done = command("--json", "--interval", "0.1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["failed"] == []
    rows = msgspec.convert(found["endpoints"], list[Row])
    kinds = {each.endpoint.kind: each.endpoint for each in rows}
    assert kinds["ServerP2P"].messages_received == 1
    assert kinds["ServerP2P"].peers[0].name.isprintable()
    assert done.stdout.replace("\n", "").isprintable()


def test_wrong_use(runtime: Any) -> None:
    assert command("127.0.0.1:8080").returncode == 2
    assert command("--web", "--json").returncode == 2
    done = command()
    assert done.returncode == 2
    assert "--json" in done.stderr


def test_in_a_real_terminal(runtime: Any, start_program: Any) -> None:
    """The whole command, in a pseudo-terminal."""
    pty = pytest.importorskip("pty")
    start_program("""
from linkbox import ServerP2P
server = ServerP2P("tcp://127.0.0.1:0").start()
print("ready", flush=True)
input()
""")
    wait_until(monitor.processes)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
        os.execv(sys.executable, [sys.executable, "-m", "linkbox.cli", "top", "--interval", "0.1"])
    seen = b""
    while b"ServerP2P" not in seen:
        seen += os.read(terminal, 65536)
    os.write(terminal, b"q")
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass  # Linux reports the end of a pseudo-terminal as an error.
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)

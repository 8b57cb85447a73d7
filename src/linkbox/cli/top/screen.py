"""``linkbox top`` in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import events, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from linkbox.cli.top.columns import COLUMNS, PEER_COLUMNS, Column, cell, details, fitting, matches
from linkbox.monitor import ProcessSnapshot, Row

Reading = tuple[list[Row], list[ProcessSnapshot]]
HINT = "no process is monitored: start programs with LINKBOX_MONITOR=1, or call linkbox.monitor.start()"
MOST_TROUBLES = 6
"""Troubles below the table."""
LONGEST_TROUBLE = 150
"""Characters of a trouble; its row, or the details, have all of it."""


class Details(ModalScreen[None]):
    """One endpoint with its peers."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "close", "Back"),
    ]
    CSS: ClassVar[str] = """
    Details { background: $surface; }
    #facts { height: auto; padding: 0 1; }
    #peers { height: auto; }
    """

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.key: str = row.key
        self._row = row
        self._is_built = False

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(id="facts")
            yield DataTable[Text](id="peers", cursor_type="none")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#peers", DataTable).add_columns(*(title for title, _ in PEER_COLUMNS))
        self._is_built = True
        self.show(self._row)

    def show(self, row: Row) -> None:
        """Show newer numbers."""
        if not self._is_built:
            return
        facts = Text()
        for name, value in details(row):
            facts.append(f"{name:>18}  ", style="bold")
            facts.append(f"{value}\n", style="red" if name == "trouble" and row.endpoint.trouble else "")
        self.query_one("#facts", Static).update(facts)
        table = self.query_one("#peers", DataTable)
        table.clear()
        for peer in row.endpoint.peers:
            table.add_row(*(Text(cell(text(peer))) for _, text in PEER_COLUMNS))

    def action_close(self) -> None:
        """Back to the table."""
        self.dismiss()


class Table(DataTable[Text]):
    """The table of endpoints."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Details")]


class Top(App[None]):
    """The table of all endpoints."""

    TITLE: str | None = "linkbox top"
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "filter", "Filter"),
        Binding("p", "pause", "Pause"),
    ]
    CSS: ClassVar[str] = """
    #head { height: 1; padding: 0 1; }
    #filter { display: none; height: 3; }
    #troubles { height: auto; max-height: 9; padding: 0 1; color: $text-error; }
    DataTable { height: 1fr; }
    """

    def __init__(self, read: Callable[[], Reading], interval: float = 1.0) -> None:
        super().__init__()
        self._read = read
        self._interval = interval
        self._rows: list[Row] = []
        self._failed: list[ProcessSnapshot] = []
        self._columns: list[Column] = []
        self._sorted_by = COLUMNS[0]
        self._is_reversed = self._is_paused = False
        self._filter = ""

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Input(placeholder="show only rows with this text", id="filter")
        yield Table(cursor_type="row")
        yield Static(id="troubles")
        yield Footer()

    def on_mount(self) -> None:
        self.set_interval(self._interval, self.read_again)
        self.query_one(DataTable).focus()
        self.read_again()

    @work(thread=True, exclusive=True)
    def read_again(self) -> None:
        """Read all processes, unless paused."""
        if not self._is_paused:
            rows, failed = self._read()
            self.call_from_thread(self._take, rows, failed)

    def _take(self, rows: list[Row], failed: list[ProcessSnapshot]) -> None:
        self._rows, self._failed = rows, failed
        self._show()
        screen = self.screen
        if isinstance(screen, Details):
            found = next((row for row in rows if row.key == screen.key), None)
            if found is not None:
                screen.show(found)

    # -- showing ---------------------------------------------------------------------------------------

    def _show(self) -> None:
        base = self.screen_stack[0]
        if not base.query("#troubles"):
            return  # It is not built yet, or about to close.
        table = base.query_one(DataTable)
        columns = fitting(self.size.width)
        if columns != self._columns:
            table.clear(columns=True)
            self._columns = columns
            for column in columns:
                last = column is columns[-1] and not column.is_number
                title = Text(column.title, justify="right" if column.is_number else "left")
                table.add_column(title, width=None if last else column.width)
        here = table.cursor_row
        shown = self.shown()
        table.clear()
        for row in shown:
            style = "red" if row.endpoint.trouble else ""
            table.add_row(*(_cell(column, row, style) for column in columns), key=row.key)
        table.move_cursor(row=here)
        base.query_one("#head", Static).update(self._head(shown))
        base.query_one("#troubles", Static).update(self._troubles(shown))

    def shown(self) -> list[Row]:
        """The rows that match the filter, in order."""
        rows = [row for row in self._rows if matches(row, self._filter)]
        rows.sort(key=lambda row: (row.pid, row.endpoint.number))
        by = self._sorted_by
        rows.sort(key=by.order, reverse=self._is_reversed != by.is_number)
        return rows

    def _head(self, shown: list[Row]) -> Text:
        troubles = sum(bool(row.endpoint.trouble) for row in self._rows)
        processes = len({row.pid for row in self._rows})
        text = Text(f"{len(self._rows)} endpoints in {processes} processes, ")
        text.append(f"{troubles} in trouble", style="bold red" if troubles else "green")
        text.append(f"; sorted by {self._sorted_by.title.strip() or 'trouble'}")
        if self._filter:
            text.append(f"; {len(shown)} with {cell(self._filter)!r}")
        if self._is_paused:
            text.append("; paused", style="bold")
        return text

    def _troubles(self, shown: list[Row]) -> Text:
        lines = [f"process {each.pid} {each.error}" for each in self._failed]
        for row in shown:
            if row.endpoint.trouble:
                lines.append(f"{row.endpoint.kind} of {row.program} ({row.pid}) {row.endpoint.trouble}")
        if len(lines) > MOST_TROUBLES:
            lines[MOST_TROUBLES - 1 :] = [f"… and {len(lines) - MOST_TROUBLES + 1} more"]
        if not self._rows and not lines:
            lines = [HINT]
        return Text("\n".join(cell(line, LONGEST_TROUBLE) for line in lines))

    def on_resize(self, event: events.Resize) -> None:
        """Other columns may fit."""
        self._show()

    # -- keys ------------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """Sort by the next column."""
        at = self._columns.index(self._sorted_by) if self._sorted_by in self._columns else -1
        self._sorted_by = self._columns[(at + 1) % len(self._columns)]
        self._show()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._is_reversed = not self._is_reversed
        self._show()

    def action_pause(self) -> None:
        """Keep the numbers, or go on."""
        self._is_paused = not self._is_paused
        self._show()

    def action_filter(self) -> None:
        """Ask for a text to filter by."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the text is typed."""
        self._filter = event.value
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table."""
        if not event.value:
            event.input.display = False
        self.query_one(DataTable).focus()

    def on_key(self, event: events.Key) -> None:
        """Escape clears the filter."""
        field = self.query_one("#filter", Input)
        if event.key == "escape" and field.display:
            field.value = ""
            field.display = False
            self.query_one(DataTable).focus()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter, or a click: show the details."""
        found = next((row for row in self._rows if row.key == event.row_key.value), None)
        if found is not None and not isinstance(self.screen, Details):
            self.push_screen(Details(found))


def _cell(column: Column, row: Row, style: str) -> Text:
    text = Text(cell(column.text(row)), style=style, no_wrap=True, overflow="ellipsis")
    if column is COLUMNS[0] and not style:
        text.stylize("green")
    if column.is_number:
        text.justify = "right"
    return text

"""What ``linkbox top`` shows of an endpoint: columns, and the details of one. Everything is plain text."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from linkbox.monitor import Row
from linkbox.snapshots import EndpointSnapshot, PeerSnapshot
from linkbox.text import LONGEST, printable


class Column(NamedTuple):
    """A column of the table."""

    title: str
    width: int
    priority: int
    """Columns with high numbers are left out first where there is too little room."""
    text: Callable[[Row], str]
    order: Callable[[Row], Any]
    """What rows are sorted by."""
    is_number: bool = False


def amount(number: float) -> str:
    """A number in at most 5 characters: ``950``, ``1.2k``, ``34M``."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 999.5 or unit == "T":
            is_short = abs(number) < 9.95 and number != int(number)
            return f"{number:.1f}{unit}" if is_short else f"{number:.0f}{unit}"
        number /= 1000
    raise AssertionError


def percent(share: float) -> str:
    """A share, as in ``85%``."""
    return f"{min(share, 9.99) * 100:.0f}%"


def duration(seconds: float | None) -> str:
    """A time: ``0.12ms``, ``3.4ms``, ``1.2s``; empty for none."""
    if not seconds:
        return ""
    if seconds < 1:
        return f"{seconds * 1e3:.2g}ms" if seconds < 0.0995 else f"{seconds * 1e3:.0f}ms"
    return f"{seconds:.3g}s"


def clock(at: float | None) -> str:
    """The time of day; empty for None."""
    return "" if at is None else time.strftime("%H:%M:%S", time.localtime(at))


def latency(endpoint: EndpointSnapshot) -> float | None:
    """The median answer time, or of round trips."""
    times = endpoint.answer_times or endpoint.round_trips
    return None if times is None else times.p50


def problem(endpoint: EndpointSnapshot) -> str:
    """What to show last in a row: the trouble, or else the last error and when it was."""
    if endpoint.trouble:
        return endpoint.trouble
    return f"({clock(endpoint.last_error_at)} {endpoint.last_error})" if endpoint.last_error else ""


def _number(
    title: str, width: int, priority: int, get: Callable[[Row], float], text: Callable[[float], str] = amount
) -> Column:
    return Column(title, width, priority, lambda row: text(get(row)), get, True)


def _text(title: str, width: int, priority: int, get: Callable[[Row], str]) -> Column:
    return Column(title, width, priority, get, get)


COLUMNS: Final = (
    Column(" ", 1, 0, lambda row: "✖" if row.endpoint.trouble else "●", lambda row: not row.endpoint.trouble),
    _text("ENDPOINT", 9, 0, lambda row: row.endpoint.kind),
    _text("ADDRESS", 21, 0, lambda row: row.endpoint.address),
    _text("PROGRAM", 12, 4, lambda row: row.program),
    _number("PID", 7, 1, lambda row: row.pid, str),
    _text("STATE", 10, 0, lambda row: row.endpoint.state),
    _number("PEERS", 5, 2, lambda row: row.endpoint.connections),
    _number("IN/s", 5, 0, lambda row: row.received_rate),
    _number("OUT/s", 5, 0, lambda row: row.sent_rate),
    _number("IN B/s", 6, 3, lambda row: row.bytes_received_rate),
    _number("OUT B/s", 7, 3, lambda row: row.bytes_sent_rate),
    _number("BOX", 4, 1, lambda row: row.endpoint.mailbox_share, percent),
    _number("WINDOW", 6, 4, lambda row: row.endpoint.window_share, percent),
    _number("TIME", 6, 3, lambda row: latency(row.endpoint) or 0.0, duration),
    _number("RETRY", 5, 5, lambda row: row.endpoint.attempts),
    Column("TROUBLE", 30, 6, lambda row: problem(row.endpoint), lambda row: not row.endpoint.trouble),
)


def fitting(width: int) -> list[Column]:
    """The columns that fit into that many characters, with one on each side of a column."""
    most = max(column.priority for column in COLUMNS)
    for highest in range(most, -1, -1):
        found = [column for column in COLUMNS if column.priority <= highest]
        if sum(column.width + 2 for column in found) <= width:
            return found
    return [column for column in COLUMNS if column.priority == 0]


def matches(row: Row, wanted: str) -> bool:
    """Does a row contain this text anywhere?"""
    endpoint = row.endpoint
    texts = (endpoint.kind, endpoint.address, endpoint.name, endpoint.state, endpoint.trouble, row.program)
    names = (peer.name for peer in endpoint.peers)
    return wanted.lower() in " ".join((*texts, str(row.pid), endpoint.front, *names)).lower()


def cell(text: str, limit: int = LONGEST) -> str:
    """Text that may come from another process, safe for a terminal."""
    return printable(text, limit)


def details(row: Row) -> list[tuple[str, str]]:
    """Names and values of everything that is known of an endpoint, but its peers."""
    each = row.endpoint
    pairs = [
        ("process", f"{row.program}, {row.pid}"),
        ("endpoint", f"{each.kind} ({each.front}), named {each.name}"),
        ("address", each.address),
        ("format, framing", f"{each.format}, {each.framing}{', TLS' if each.secure else ''}"),
        ("store", each.store or "none"),
        ("state", each.state),
        ("trouble", each.trouble or "none"),
        ("waits for", each.waits_for or "nothing"),
        ("last error", f"{clock(each.last_error_at)} {each.last_error}" if each.last_error else "none"),
        ("next attempt", clock(each.retry_at) or "none"),
        (
            "callback",
            f"{each.callback} for {each.callback_seconds:.1f} s" if each.callback else "none running",
        ),
        ("sent", f"{each.messages_sent} messages, {each.bytes_sent} bytes"),
        ("received", f"{each.messages_received} messages, {each.bytes_received} bytes"),
        (
            "mailbox",
            f"{each.waiting} messages, {each.waiting_bytes} bytes, {percent(each.mailbox_share)} full",
        ),
        ("send window", f"{percent(each.window_share)} full"),
        ("dropped, rejected", f"{each.dropped}, {each.rejected}"),
        (
            "connections",
            f"{each.connections} now, {each.connections_total} in all, {each.reconnects} resumed",
        ),
        ("attempts, refused", f"{each.attempts}, {each.refused}"),
        (
            "errors",
            ", ".join(f"{kind}: {count}" for kind, count in sorted(each.errors_by_kind.items())) or "none",
        ),
    ]
    for name, times in (("answers", each.answer_times), ("round trips", each.round_trips)):
        if times is not None:
            text = f"{times.count}; half within {duration(times.p50)}, 99 % within {duration(times.p99)}"
            pairs.append((name, text))
    return [(name, cell(value, 2000)) for name, value in pairs]


PEER_COLUMNS: Final[tuple[tuple[str, Callable[[PeerSnapshot], str]], ...]] = (
    ("PEER", lambda peer: peer.name),
    ("ADDRESS", lambda peer: peer.address),
    ("SINCE", lambda peer: clock(peer.connected_at)),
    ("IN", lambda peer: amount(peer.messages_received)),
    ("OUT", lambda peer: amount(peer.messages_sent)),
    ("UNACKED", lambda peer: amount(peer.unacknowledged)),
    ("WAITING", lambda peer: amount(peer.waiting)),
    ("BOX", lambda peer: percent(peer.mailbox_share)),
    ("RTT", lambda peer: duration(peer.round_trip)),
    ("SILENT", lambda peer: duration(peer.silence)),
    ("WAITS FOR", lambda peer: peer.waits_for),
)

"""The table: what is measured, against whom, and what we want to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.idle import possible
from benchmarks.measure import ANY_CORE, ONE_CORE, TWO_CORES, WaitsFor

BARE = "bare sockets"
SINGLE = "linkbox, a commit each"
PLAIN = "linkbox without TLS"
OVER_TCP = "linkbox over TCP"
ONE_SERVER = "linkbox, one server"


def compiled(label: str) -> str:
    """The label of the same with the compiled linkbox."""
    return f"{label} compiled"


OURS = "linkbox"
COMPILED = compiled(OURS)
AIO = "linkbox.aio"
ITSELF = ""
"""A goal for the figure itself, not for a ratio."""


@dataclass(frozen=True)
class Goal:
    """``linkbox / against`` is to be at most, or at least, so much; against `ITSELF`: the figure."""

    against: str
    at_most: float | None = None
    at_least: float | None = None
    pure: float | None = None
    """At most so much of the interpreted build, where it has a goal of its own."""

    def __str__(self) -> str:
        sign, bound = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        pure = "" if self.pure is None else f" (pure {sign} {self.pure:g})"
        return f"{sign} {bound:g}{pure}" + (f" × {self.against}" if self.against else "")

    def is_met(self, ratio: float, ours: str = COMPILED) -> bool:
        """Is that ratio of this build good enough?"""
        at_most = self.pure if ours == OURS and self.pure is not None else self.at_most
        return (at_most is None or ratio <= at_most) and (self.at_least is None or ratio >= self.at_least)


@dataclass(frozen=True)
class Row:
    """One line of the table: all contenders play the same role."""

    name: str
    title: str
    role: str
    contenders: Mapping[str, str]
    """Label: module, or module:role where that differs."""
    params: Mapping[str, int | float]
    quick: Mapping[str, int | float] | None
    """What is less in a quick run; None: it is not part of one."""
    goals: tuple[Goal, ...] = ()
    unit: Literal["s", "1/s", "B"] = "s"
    """Seconds for one round trip (the median of all), messages a second, or bytes for each of something."""
    pin: str = TWO_CORES
    waits_for: WaitsFor = "client"
    rounds: int | None = None
    """So many and no more, for what is the same each time."""
    guard: str | None = field(default=None)
    """The contender whose ratio is recorded, and watched by CI."""
    needs_broker: bool = False
    """Does it play over a nats-server? It is unpinned, and so are the roles beside it."""
    takes: float = 1.0
    """Seconds of a contender of which no figure is known yet."""

    @property
    def less_is_better(self) -> bool:
        """Rates are the exception."""
        return self.unit != "1/s"


SLOW = {
    "pynng": 20,
    "websockets": 10,
    "asyncio streams": 4,
    "uvloop streams": 4,
    "mp.connection": 2,
    "nats-py": 100,  # The broker writes each message to its disk.
}
"""One part in so many of the messages is enough: to measure these does not need as many as the fastest."""
SLOW_TO_ASK = {"gRPC": 4, "http.client + uvicorn": 3}


def _peers(**modules: str) -> dict[str, str]:
    return {OURS: "ours", BARE: "bare"} | {_LABELS.get(key, key): module for key, module in modules.items()}


_LABELS = {
    "mpc": "mp.connection",
    "zmq": "pyzmq",
    "zmq_reqrep": "pyzmq REQ/REP",
    "zmq_pushpull": "pyzmq PUSH/PULL",
    "zmq_router": "pyzmq ROUTER/DEALER",
    "streams": "asyncio streams",
    "uvloop": "uvloop streams",
    "ws": "websockets",
    "grpc": "gRPC",
    "http": "http.client + uvicorn",
    "rpyc": "RPyC",
    "nng": "pynng",
}

_ECHO = _peers(mpc="mpc", zmq_reqrep="zmq", streams="streams", uvloop="uvloop_streams", ws="ws")
_ASK = _peers(zmq_reqrep="zmq", nng="nng", grpc="grpc_peer", http="http", rpyc="rpyc_peer")
_PUSH = _peers(zmq_pushpull="zmq", mpc="mpc", streams="streams", uvloop="uvloop_streams", ws="ws", nng="nng")
_ROUND_TRIPS = {"count": 8_000, "size": 64}
_FEW_TRIPS = {"count": 2_000}


def _faster_than(*labels: str) -> tuple[Goal, ...]:
    return tuple(Goal(label, at_most=1.0) for label in labels)


_AIO = {OURS: "ours_aio_uvloop", "linkbox on asyncio": "ours_aio"}


def _aio_row(name: str, title: str, role: str, others: Mapping[str, str], **more: Any) -> Row:
    return Row(f"aio_{name}", f"aio: {title}", role, _AIO | dict(others), pin=ONE_CORE, **more)


_STREAMS_TLS = {"asyncio streams + ssl": "streams", "uvloop streams + ssl": "uvloop_streams"}


def _idle_row(count: int) -> Row:
    there = possible(count)
    limited = "" if there == count else f" ({count:,}: more than the files a process may open here)"
    return Row(
        f"idle_{count}",
        f"server memory for each of {there:,} idle connections{limited}",
        "memory",
        {OURS: "ours", "asyncio streams": "streams"},
        {"count": there, "size": 64},
        {} if count <= 10_000 else None,
        (Goal(ITSELF, at_most=5 * 1024),),
        unit="B",
        rounds=1,
    )


_STREAMS = {"uvloop streams": "uvloop_streams", "asyncio streams": "streams", "websockets": "ws"}
_AIO_ROWS = (
    _aio_row(
        "p2p",
        "P2P round trip, 64 B, one core",
        "echo",
        _STREAMS,
        params=_ROUND_TRIPS,
        quick=_FEW_TRIPS,
        goals=(Goal("uvloop streams", at_most=1.2, pure=1.6), *_faster_than("websockets")),
    ),
    Row(
        "aio_p2p_asyncio",
        "aio on asyncio's own loop: P2P round trip, 64 B, one core",
        "echo",
        {OURS: "ours_aio", "asyncio streams": "streams"},
        _ROUND_TRIPS,
        _FEW_TRIPS,
        (Goal("asyncio streams", at_most=0.7),),
        pin=ONE_CORE,
    ),
    _aio_row(
        "ask",
        "AR ask, keep_alive, 64 B, one core",
        "ask",
        {"uvloop streams": "uvloop_streams:echo", "http.client + uvicorn": "http", "gRPC": "grpc_peer"},
        params=_ROUND_TRIPS,
        quick=_FEW_TRIPS,
        goals=(Goal("uvloop streams", at_most=1.8), *_faster_than("http.client + uvicorn")),
    ),
    _aio_row(
        "connect",
        "AR ask, a connection for each, 64 B, one core",
        "connect",
        {BARE: "bare", "http.client + uvicorn": "http"},
        params={"count": 1_000, "size": 64},
        quick={"count": 500},
        goals=(Goal("http.client + uvicorn", at_most=0.8),),
    ),
    Row(
        "aio_crowd",
        "aio: AR, 1,000 tasks ask one client",
        "crowd",
        _AIO | {"uvloop streams": "uvloop_streams", "gRPC": "grpc_peer"},
        {"count": 20, "size": 64, "tasks": 1000},
        {"count": 5},
        (Goal("gRPC", at_least=1.0),),
        unit="1/s",
    ),
    Row(
        "aio_push",
        "aio: P2M send_many, 64 B, acknowledged; data_get()",
        "push",
        _AIO | _STREAMS,
        {"count": 500_000, "size": 64},
        {"count": 100_000},
        (Goal("uvloop streams", at_least=1.0), Goal("websockets", at_least=1.0)),
        unit="1/s",
        waits_for="server",
    ),
)


def _nats_row(name: str, title: str, role: str, over_tcp: str, goals: tuple[Goal, ...], **more: Any) -> Row:
    """linkbox over NATS, beside linkbox over TCP and beside nats-py."""
    contenders = {OURS: "ours_nats", AIO: "ours_nats_aio", OVER_TCP: over_tcp, "nats-py": "nats_peer"}
    return Row(
        f"nats_{name}",
        f"NATS: {title}",
        role,
        contenders,
        goals=goals,
        pin=ANY_CORE,
        rounds=3,
        needs_broker=True,
        takes=0.3,
        **more,
    )


_NATS_TRIPS = {"count": 800, "size": 64}
_NATS_ROWS = (
    _nats_row(
        "ask",
        "AR ask, keep_alive, 64 B",
        "ask",
        "ours",
        (Goal(AIO, at_most=2.0),),
        params=_NATS_TRIPS,
        quick={"count": 500},
    ),
    _nats_row(
        "p2p",
        "P2P round trip, 64 B",
        "echo",
        "ours",
        (Goal(AIO, at_most=2.0),),
        params=_NATS_TRIPS,
        quick={"count": 500},
    ),
    _nats_row(
        "push",
        "P2M send_many, 64 B, until it is on the disk of the broker; over TCP: on both disks",
        "kept",
        "ours:store",
        (Goal(OVER_TCP, at_least=0.3),),
        params={"count": 50_000, "size": 64},
        quick={"count": 20_000},
        unit="1/s",
        waits_for="both",
    ),
    Row(
        "nats_share",
        "NATS: AR, a handler that takes 10 ms of CPU; four servers of one name",
        "share",
        {OURS: "ours_nats", ONE_SERVER: "ours_nats:one"},
        {"count": 6, "size": 64, "threads": 24},
        None,
        (Goal(ONE_SERVER, at_least=1.8),),
        unit="1/s",
        pin=ANY_CORE,
        rounds=2,
        needs_broker=True,
        takes=1.1,
    ),
)

ROWS: tuple[Row, ...] = (
    Row(
        "p2p_one_core",
        "P2P round trip, 64 B, one core",
        "echo",
        _ECHO,
        _ROUND_TRIPS,
        _FEW_TRIPS,
        (
            Goal(BARE, at_most=2.0, pure=4.0),
            Goal("pyzmq REQ/REP", at_most=0.6, pure=1.0),
            Goal("mp.connection", at_most=1.3),
            *_faster_than("asyncio streams", "uvloop streams", "websockets"),
        ),
        pin=ONE_CORE,
        guard=BARE,
    ),
    Row(
        "p2p_two_cores",
        "P2P round trip, 64 B, two cores",
        "echo",
        _ECHO,
        _ROUND_TRIPS,
        _FEW_TRIPS,
        (Goal(BARE, at_most=1.2),),
    ),
    Row(
        "ask_one_core",
        "AR ask, keep_alive, 64 B, one core",
        "ask",
        _ASK | {BARE: "bare:echo"},
        _ROUND_TRIPS,
        _FEW_TRIPS,
        (
            Goal(BARE, at_most=3.0, pure=6.0),
            Goal("pyzmq REQ/REP", at_most=0.8),
            Goal("gRPC", at_most=0.10),
            Goal("http.client + uvicorn", at_most=0.15),
        ),
        pin=ONE_CORE,
        guard=BARE,
    ),
    Row(
        "ask_two_cores",
        "AR ask, keep_alive, 64 B, two cores",
        "ask",
        _ASK | {BARE: "bare:echo"},
        _ROUND_TRIPS,
        _FEW_TRIPS,
        (
            Goal(BARE, at_most=1.5),
            Goal("gRPC", at_most=0.25),
            Goal("http.client + uvicorn", at_most=0.25),
        ),
    ),
    Row(
        "ask_connect",
        "AR ask, a connection for each (default), 64 B",
        "connect",
        _peers(http="http"),
        {"count": 2_000, "size": 64},
        {"count": 500},
        (Goal(BARE, at_most=2.0), Goal("http.client + uvicorn", at_most=0.5)),
        guard=BARE,
    ),
    Row(
        "ask_connect_one_core",
        "AR ask, a connection for each, 64 B, one core",
        "connect",
        _peers(http="http"),
        {"count": 2_000, "size": 64},
        {"count": 500},
        (Goal(BARE, at_most=4.0),),
        pin=ONE_CORE,
    ),
    Row(
        "ask_crowd",
        "AR, 64 concurrent callers",
        "crowd",
        _peers(zmq_router="zmq"),
        {"count": 300, "size": 64, "threads": 64},
        {"count": 100},
        (Goal("pyzmq ROUTER/DEALER", at_least=1.0),),
        unit="1/s",
    ),
    Row(
        "ask_sparse",
        "AR, one request every 10 ms",
        "sparse",
        _peers(zmq_reqrep="zmq"),
        {"count": 100, "size": 64, "pause": 0.01},
        {"count": 60},
        (Goal(BARE, at_most=2.0),),
    ),
    Row(
        "push_many",
        "P2M send_many, 64 B, acknowledged; data_get()",
        "push",
        _PUSH,
        {"count": 500_000, "size": 64},
        {"count": 100_000},
        (Goal("pyzmq PUSH/PULL", at_least=2.0),),
        unit="1/s",
        waits_for="server",
        guard=BARE,
    ),
    Row(
        "push_each",
        "P2M non-blocking send, 64 B, acknowledged; data_get()",
        "push",
        {OURS: "ours:push_each", "pyzmq PUSH/PULL": "zmq"},
        {"count": 300_000, "size": 64},
        {"count": 50_000},
        (Goal("pyzmq PUSH/PULL", at_least=1.5),),
        unit="1/s",
        waits_for="server",
    ),
    Row(
        "push_count",
        "P2M send_many, 64 B; data_get_count(1000 messages)",
        "push",
        {OURS: "ours:push_count", "pyzmq PUSH/PULL": "zmq"},
        {"count": 1_000_000, "size": 64},
        {"count": 200_000},
        (Goal("pyzmq PUSH/PULL", at_least=4.0),),
        unit="1/s",
        waits_for="server",
    ),
    Row(
        "store",
        "P2M with stores: send_many until all is on both disks, and taken",
        "store",
        {OURS: "ours", SINGLE: "ours:store_each"},
        {"count": 100_000, "size": 64},
        {"count": 30_000},
        (Goal(SINGLE, at_least=60.0), Goal(ITSELF, at_least=150_000)),
        unit="1/s",
        waits_for="both",
    ),
    Row(
        "json",
        "P2M JSON objects of 200 B, decoded",
        "json",
        {OURS: "ours", "pyzmq PUSH/PULL": "zmq"},
        {"count": 100_000},
        {"count": 20_000},
        (Goal("pyzmq PUSH/PULL", at_least=2.0),),
        unit="1/s",
        waits_for="server",
    ),
    Row(
        "large",
        "P2M messages of 1 MiB",
        "large",
        {OURS: "ours", BARE: "bare", "pyzmq PUSH/PULL": "zmq", "mp.connection": "mpc"},
        {"count": 400, "size": 1 << 20},
        {"count": 100},
        (Goal("pyzmq PUSH/PULL", at_least=1.2), Goal(BARE, at_least=1.0)),
        unit="1/s",
        waits_for="server",
    ),
    *_AIO_ROWS,
    Row(
        "tls_p2p",
        "TLS: P2P round trip, 64 B, one core",
        "tls_echo",
        {OURS: "ours", PLAIN: "ours:echo"} | _STREAMS_TLS,
        _ROUND_TRIPS,
        _FEW_TRIPS,
        (Goal(PLAIN, at_most=1.6), *_faster_than("asyncio streams + ssl")),
        pin=ONE_CORE,
    ),
    Row(
        "tls_push",
        "TLS: P2M send_many, 64 B, acknowledged; data_get()",
        "tls_push",
        {OURS: "ours", PLAIN: "ours:push"} | _STREAMS_TLS,
        {"count": 500_000, "size": 64},
        {"count": 100_000},
        (Goal("asyncio streams + ssl", at_least=1.0),),
        unit="1/s",
        waits_for="server",
    ),
    _idle_row(10_000),
    _idle_row(50_000),
    *_NATS_ROWS,
)


_IN_COMPILED = {
    "ours": "ours_compiled",
    "ours_aio": "ours_aio_compiled",
    "ours_aio_uvloop": "ours_aio_uvloop_compiled",
}


def with_compiled(row: Row) -> Row:
    """The same row with one contender more: linkbox, compiled; and that without TLS, to compare it with.

    Over NATS most of the work is nats-py's, which is not compiled.
    """
    if row.needs_broker:
        return row
    ours = {}
    for label in (OURS, PLAIN):
        if label in row.contenders:
            module, colon, role = row.contenders[label].partition(":")
            ours |= {label: row.contenders[label], compiled(label): _IN_COMPILED[module] + colon + role}
    return replace(row, contenders=ours | dict(row.contenders))


def by_name(names: list[str]) -> tuple[Row, ...]:
    """These rows, or all; ValueError names what there is."""
    known = {row.name: row for row in ROWS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no row is called {', '.join(unknown)}; there are: {', '.join(known)}")
    return tuple(known[name] for name in names) if names else ROWS


def place_of(row: Row, label: str) -> tuple[str, str]:
    """Module and role of a contender."""
    module, _, role = row.contenders[label].partition(":")
    return f"benchmarks.peers.{module}", role or row.role


def share_of(label: str, rate: bool) -> int:
    """Which part of the messages this contender gets: 4 is a quarter."""
    slow = SLOW if rate else SLOW_TO_ASK
    return slow.get(label.removesuffix(" + ssl"), 1)


def params_of(row: Row, quick: bool, label: str = OURS) -> dict[str, Any]:
    """The parameters of a run of this contender."""
    params = dict(row.params) | (dict(row.quick) if quick and row.quick else {})
    if row.role.endswith(("push", "kept", "echo", "ask", "connect")):
        params["count"] = max(500, params["count"] // share_of(label, row.unit == "1/s"))
    return params

"""A scrape, as Prometheus makes it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra metrics is not installed")

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from linkbox import (
    Bytes,
    ClientAR,
    ClientP2M,
    ClientP2P,
    Json,
    Limits,
    Refused,
    ServerAR,
    ServerP2M,
    ServerP2P,
    metrics,
)
from tests.threaded.helpers import wait_until

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


class Target:
    """What Prometheus scrapes."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        metrics.register(registry)
        self.server, self.thread = start_http_server(0, "127.0.0.1", registry)

    def scrape(self) -> dict[str, Any]:
        """All families, by their names."""
        url = f"http://127.0.0.1:{self.server.server_port}/metrics"
        with urllib.request.urlopen(url, timeout=15) as answer:
            text = answer.read().decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


def value(families: dict[str, Any], sample_name: str, family: str | None = None, **labels: str) -> float:
    """The one sample with these labels among others."""
    (found,) = [
        sample.value
        for sample in families[family or sample_name.removesuffix("_total")].samples
        if sample.name == sample_name and labels.items() <= sample.labels.items()
    ]
    return float(found)


def test_a_scrape_has_what_happened(target: Target) -> None:
    server = ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data * 2, name="twice")
    with server, ClientAR(server.address, keep_alive=True) as client:
        for _ in range(10):
            client.ask(b"12345")
        found = target.scrape()
        labels = {"kind": "ClientAR", "address": server.address}
        assert value(found, "linkbox_messages_sent_total", **labels) == 10
        assert value(found, "linkbox_sent_bytes_total", **labels) == 50
        assert value(found, "linkbox_received_bytes_total", **labels) == 100
        assert value(found, "linkbox_connect_attempts_total", **labels) == 1
        assert value(found, "linkbox_peers", kind="ServerAR", name="twice") == 1
        assert value(found, "linkbox_endpoints", kind="ServerAR", state="listening") == 1
        assert value(found, "linkbox_endpoints", state="connected", **labels) == 1
        assert value(found, "linkbox_endpoints", state="blocked", **labels) == 0
        assert value(found, "linkbox_trouble", **labels) == 0
        histogram = "linkbox_answer_seconds"
        assert value(found, f"{histogram}_count", histogram, **labels) == 10
        assert value(found, f"{histogram}_bucket", histogram, le="+Inf", **labels) == 10
        assert 0 < value(found, f"{histogram}_sum", histogram, **labels) < 100
    assert not [sample for family in target.scrape().values() for sample in family.samples], "all stopped"


def test_buckets_only_grow(target: Target) -> None:
    server = ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data)
    with server, ClientAR(server.address, keep_alive=True) as client:
        for _ in range(20):
            client.ask(b"x")
        family = target.scrape()["linkbox_answer_seconds"]
    buckets = [(float(each.labels["le"]), each.value) for each in family.samples if "le" in each.labels]
    assert buckets == sorted(buckets)
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)


def test_errors_have_their_kinds(target: Target) -> None:
    with ServerP2P("tcp://127.0.0.1:0", Json()) as server:
        with pytest.raises(Refused):
            ClientP2P(server.address, Bytes()).start()
        found = target.scrape()
        assert value(found, "linkbox_errors_total", error="Refused: format") == 1
        assert value(found, "linkbox_refused_total") >= 1


def test_three_troubles_are_seen(target: Target) -> None:
    """A callback that blocks, a client without a server, a mailbox from which nothing is taken."""
    over, limits = threading.Event(), Limits(mailbox_messages=10)
    with ServerP2P("tcp://127.0.0.1:0") as server:
        gone = server.address
    lost = ClientP2P(gone, connect_timeout=100.0).start(wait=False)
    with (
        ServerP2P("tcp://127.0.0.1:0") as stuck,
        ClientP2P(stuck.address) as one,
        ServerP2M("tcp://127.0.0.1:0", limits=limits) as full,
        ClientP2M(full.address, blocking=False) as two,
    ):
        stuck.add_callback(lambda event: over.wait(30))
        one.send(b"x")
        for _ in range(20):
            two.send(b"x")
        try:
            seconds = "linkbox_callback_running_seconds"
            wait_until(lambda: value(target.scrape(), seconds, kind="ServerP2P") > 0)
            wait_until(lambda: value(target.scrape(), "linkbox_mailbox_ratio", kind="ServerP2M") >= 1)
            wait_until(lambda: value(target.scrape(), "linkbox_trouble", kind="ServerP2P") == 1)
            wait_until(lambda: value(target.scrape(), "linkbox_trouble", kind="ServerP2M") == 1)
            labels = {"kind": "ClientP2P", "address": gone}
            wait_until(lambda: value(target.scrape(), "linkbox_trouble", **labels) == 1)
            assert value(target.scrape(), "linkbox_endpoints", state="connecting", **labels) == 1
            assert value(target.scrape(), "linkbox_errors_total", error="ConnectFailed", **labels) > 0
        finally:
            over.set()
            lost.stop(0.0)
            full.data_get_all()


def test_equal_endpoints_are_added_up_and_peers_are_no_labels(target: Target) -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", max_peers=2) as server,
        ClientP2P(server.address, name="same") as one,
        ClientP2P(server.address, name="same") as two,
    ):
        one.send(b"x").wait()
        two.send(b"x").wait()
        found = target.scrape()
    assert value(found, "linkbox_messages_sent_total", kind="ClientP2P") == 2
    assert value(found, "linkbox_peers", kind="ClientP2P") == 2
    labels = {name for family in found.values() for sample in family.samples for name in sample.labels}
    assert labels <= {"kind", "address", "name", "state", "error", "quantile", "le"}


def test_the_dashboard_shows_metrics_that_exist(target: Target) -> None:
    path = Path(__file__).parents[2] / "docs/grafana-dashboard.json"
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    queries = [each["expr"] for panel in dashboard["panels"] for each in panel.get("targets", ())]
    assert len(queries) > 8
    server = ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data)
    with server, ClientAR(server.address, keep_alive=True) as client:
        client.ask(b"x")
        families = target.scrape().values()
    known = {family.name for family in families} | {
        each.name for family in families for each in family.samples
    }
    used = {name for query in queries for name in re.findall(r"linkbox_\w+", query)}
    known |= {f"{name}_total" for name in known}
    assert used <= known, used - known


def test_without_prometheus_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["prometheus_client"] = None
sys.modules["prometheus_client.core"] = None
try:
    import linkbox.metrics
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=30)
    assert "pip install '.[metrics]'" in done

"""Metrics of all endpoints of this process for Prometheus. Needs the extra ``metrics``.

``linkbox.metrics.register()`` adds a collector to the registry of prometheus-client; from then on each scrape
makes a snapshot of every started endpoint. Between scrapes it costs nothing.

Labels are ``kind`` (``"ServerP2P"``), ``address`` and ``name`` (``name=`` of the endpoint; empty unless it
was given). Endpoints with the same labels are added up. Peers are no label: anyone who may connect could make
new ones.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import REGISTRY, CollectorRegistry
    from prometheus_client.registry import Collector as _Base
except ModuleNotFoundError as _error:
    from linkbox.extras import how_to_install

    raise ModuleNotFoundError(
        f"linkbox.metrics needs {_error.name}: {how_to_install('metrics')}", name=_error.name
    ) from _error

from linkbox.events import EndpointState, Percentiles
from linkbox.monitor.server import snapshot
from linkbox.snapshots import EndpointSnapshot

__all__ = ["Collector", "register"]

LABELS: Final = ("kind", "address", "name")
COUNTERS: Final = {
    "linkbox_messages_sent": ("messages_sent", "Messages sent."),
    "linkbox_messages_received": ("messages_received", "Messages received."),
    "linkbox_sent_bytes": ("bytes_sent", "Bytes of the payloads of sent messages."),
    "linkbox_received_bytes": ("bytes_received", "Bytes of the payloads of received messages."),
    "linkbox_messages_dropped": ("dropped", "Messages dropped from a full mailbox."),
    "linkbox_messages_rejected": ("rejected", "Messages that could not be decoded, or were too large."),
    "linkbox_connections": ("connections_total", "Connections that were opened."),
    "linkbox_reconnects": ("reconnects", "Sessions that continued on another connection."),
    "linkbox_connect_attempts": ("attempts", "Attempts of clients to connect."),
    "linkbox_refused": ("refused", "Connections that were rejected."),
    "linkbox_callback_errors": ("callback_errors", "Callbacks that raised an exception."),
    "linkbox_events_dropped": ("events_dropped", "Events dropped behind a callback that blocks."),
}
SUMS: Final = {
    "linkbox_peers": ("connections", "Connected peers."),
    "linkbox_mailbox_messages": ("waiting", "Messages in the mailbox."),
    "linkbox_mailbox_bytes": ("waiting_bytes", "Bytes in the mailbox."),
    "linkbox_busy_workers": ("busy_workers", "Handlers of a ServerAR that are running."),
}
HIGHEST: Final = {
    "linkbox_mailbox_ratio": ("mailbox_share", "How full the mailbox is; 1 is its limit."),
    "linkbox_window_ratio": ("window_share", "How full the send window is; at 1, send() waits."),
    "linkbox_callback_running_seconds": ("callback_seconds", "For how long a callback has been running."),
}
TIMES: Final = {
    "linkbox_round_trip_seconds": ("round_trips", "Round-trip times of heartbeats."),
}


class Collector(_Base):
    """Collects the metrics of all started endpoints of this process."""

    def collect(self) -> Iterator[Metric]:
        """Make all metrics, from one snapshot."""
        groups: dict[tuple[str, ...], list[EndpointSnapshot]] = {}
        for endpoint in snapshot().endpoints:
            groups.setdefault((endpoint.kind, endpoint.address, _name(endpoint)), []).append(endpoint)
        for name, (field, text) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=LABELS)
            for labels, group in groups.items():
                counter.add_metric(labels, sum(getattr(each, field) for each in group))
            yield counter
        for table, join in ((SUMS, sum), (HIGHEST, max)):
            for name, (field, text) in table.items():
                gauge = GaugeMetricFamily(name, text, labels=LABELS)
                for labels, group in groups.items():
                    gauge.add_metric(labels, join(getattr(each, field) for each in group))
                yield gauge
        yield from _states(groups)
        yield _errors(groups)
        yield from _times(groups)
        yield _answers(groups)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry needs no scrape to know what is here."""
        return ()


def register(registry: CollectorRegistry = REGISTRY) -> Collector:
    """Add the metrics of linkbox to a registry. Returns the collector, for ``registry.unregister()``."""
    collector = Collector()
    registry.register(collector)
    return collector


Groups = dict[tuple[str, ...], list[EndpointSnapshot]]


def _name(endpoint: EndpointSnapshot) -> str:
    """The name that the user has given. The default has the id of the process: a new series at each start."""
    return "" if endpoint.name == f"{socket.gethostname()}:{os.getpid()}" else endpoint.name


def _states(groups: Groups) -> Iterator[Metric]:
    states = GaugeMetricFamily("linkbox_endpoints", "Endpoints by state.", labels=(*LABELS, "state"))
    trouble = GaugeMetricFamily("linkbox_trouble", "Endpoints that need attention.", labels=LABELS)
    for labels, group in groups.items():
        found = Counter(each.state for each in group)
        for state in (*(each.value for each in EndpointState), "blocked"):
            states.add_metric((*labels, state), found[state])
        trouble.add_metric(labels, sum(bool(each.trouble) for each in group))
    yield states
    yield trouble


def _errors(groups: Groups) -> Metric:
    errors = CounterMetricFamily("linkbox_errors", "Errors by kind.", labels=(*LABELS, "error"))
    for labels, group in groups.items():
        found: Counter[str] = Counter()
        for each in group:
            found.update(each.errors_by_kind)
        for kind, count in sorted(found.items()):
            errors.add_metric((*labels, kind), count)
    return errors


def _times(groups: Groups) -> Iterator[Metric]:
    for name, (field, text) in TIMES.items():
        gauge = GaugeMetricFamily(name, text, labels=(*LABELS, "quantile"))
        for labels, group in groups.items():
            times: list[Percentiles] = [each for each in (getattr(one, field) for one in group) if each]
            if times:
                gauge.add_metric((*labels, "0.5"), max(each.p50 for each in times))
                gauge.add_metric((*labels, "0.99"), max(each.p99 for each in times))
        yield gauge


def _answers(groups: Groups) -> Metric:
    """From request to response, as a histogram, whose buckets double."""
    answers = HistogramMetricFamily("linkbox_answer_seconds", "From request to response.", labels=LABELS)
    for labels, group in groups.items():
        counted = [each for each in group if sum(each.answer_buckets)]
        if not counted:
            continue
        columns = zip(*(each.answer_buckets for each in counted), strict=True)
        seen, buckets = 0, []
        for bucket, column in enumerate(columns):
            seen += sum(column)
            if 6 <= bucket < 26:  # from 64 microseconds to 34 seconds
                buckets.append((repr(2**bucket / 1e6), float(seen)))
        buckets.append(("+Inf", float(seen)))
        answers.add_metric(labels, buckets, sum(each.answer_total for each in counted))
    return answers

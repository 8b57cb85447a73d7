"""Writes the log lines of the core, which has no logger of its own."""

from __future__ import annotations

from linkbox import logs
from linkbox.core.endpoint import EndpointCore


def log_lines(hub: EndpointCore) -> None:
    """Write the log lines that the core has added."""
    effects, context = hub.effects, hub.context
    lines, effects.log_lines = effects.log_lines, []
    for level, text, event, peer, fields in lines:
        named: dict[str, object] = {"event": event}
        if peer is not None:
            named["peer"], named["peer_address"] = peer.name, peer.address
        area = "store" if event.startswith("store") else context.settings.area
        logs.write(logs.LEVELS[level], text, area=area, endpoint=context.endpoint, fields={**named, **fields})

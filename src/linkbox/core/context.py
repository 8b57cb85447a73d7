"""The state that all sessions and links of one endpoint share: settings, mailbox, effects, counters."""

from __future__ import annotations

from linkbox.core.effects import Effects
from linkbox.core.full_mailbox import FullMailbox
from linkbox.core.mailbox import Mailbox
from linkbox.core.patterns import Pattern
from linkbox.core.paused_links import PausedLinks
from linkbox.core.settings import Counters, Settings
from linkbox.limits import Limits

ACK_DELAY = 0.005
"""Seconds that an acknowledgement may wait for a write that can carry it."""
ACK_SPACING = 0.001
"""Least seconds between acknowledgements added to writes: each one costs about as much as a message."""
SLOW_ACK_DELAY, SLOW_ACK_SPACING = 0.5, 0.01
"""The same for requests, which no receipt waits for: a response acknowledges its request."""


class Context:
    """The shared state of one endpoint."""

    __slots__ = (
        "ack_spacing",
        "counters",
        "effects",
        "endpoint",
        "full_mailbox",
        "incarnation",
        "is_client",
        "is_plain",
        "is_stopping",
        "knows_since",
        "limits",
        "mailbox",
        "paused_links",
        "pattern",
        "settings",
    )

    def __init__(self, settings: Settings, mailbox: Mailbox, is_client: bool) -> None:
        self.settings: Settings = settings
        self.pattern: Pattern = settings.pattern
        self.limits: Limits = settings.limits
        self.counters: Counters = settings.counters
        self.mailbox: Mailbox = mailbox
        self.is_client: bool = is_client
        self.endpoint: object = None
        """The owner of this core, see `Channel.endpoint`."""
        self.is_plain: bool = not settings.framing.linked
        self.is_stopping: bool = False
        self.incarnation: str = settings.entropy(16).hex()
        """See generation.py."""
        self.knows_since: float = 0.0
        """Server: see generation.py."""
        slow = settings.pattern.slow_ack
        delay = SLOW_ACK_DELAY if slow else ACK_DELAY
        self.ack_spacing: float = SLOW_ACK_SPACING if slow else ACK_SPACING
        has_credit = (
            not self.is_plain and mailbox.overflow == "block" and not (self.pattern.asks and is_client)
        )
        most = None if has_credit else settings.limits.mailbox_messages
        self.effects: Effects = Effects(delay, settings.wall, settings.counters, most)
        self.effects.is_logged = settings.is_logged
        self.full_mailbox: FullMailbox = FullMailbox(mailbox, self.effects)
        self.paused_links: PausedLinks | None = PausedLinks(mailbox, self.effects) if self.is_plain else None

    def wall_time(self, now: float) -> float:
        """Seconds since the epoch."""
        return now + self.settings.wall

    def failed(self, error: Exception) -> None:
        """Count a connection error."""
        self.counters.failed(error, self.wall_time(self.effects.now))

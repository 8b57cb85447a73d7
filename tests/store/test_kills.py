"""Processes with stores that are killed again and again: everything accepted arrives, in order, once.

"Once" but for what is marked as redelivered: a server that was killed between taking a message and writing
that down hands it out again.
"""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path

from linkbox.testing import FaultyProxy
from tests.store.children import Child
from tests.store.disks import nowhere
from tests.threaded.helpers import wait_until

SECONDS = 5.0
COUNT = 12
MESSAGES = 20
SENDING = ("push_on", "push_bare", "talk_on")
"""The roles that accept messages."""


def said(lives: list[Child], word: str) -> list[str]:
    """All lines of one kind, of all lives of an end, without the word."""
    lines = [line for life in lives for line in life.lines]
    return [line.removeprefix(word + " ") for line in lines if line.startswith(word + " ")]


class Killing:
    """Two ends, of which one or the other is killed and started again at random moments."""

    def __init__(self, roles: dict[str, tuple[str, ...]], seed: int) -> None:
        self._roles = roles
        self._dice = random.Random(seed)
        self.lives = {end: [Child(*role)] for end, role in roles.items()}

    def run(
        self, seconds: float = SECONDS, count: int = COUNT, between: object = None, only: str | None = None
    ) -> None:
        senders = [end for end, role in self._roles.items() if role[0] in SENDING]
        for number in range(count):
            # A slow machine gets the time to accept MESSAGES between the kills: see `check`.
            least = (MESSAGES + 1) * (number + 1) // count
            for end in senders:
                wait_until(partial(self.has_accepted, end, least), f"{end} accepts nothing", 20)
            time.sleep(self._dice.uniform(0.05, 2 * seconds / count))  # it is the moment that is random
            end = only or self._dice.choice(sorted(self.lives))
            self.lives[end][-1].kill()
            if callable(between):
                between()
            self.lives[end].append(Child(*self._roles[end]))
        for lives in self.lives.values():
            lives[-1].say("enough")

    def has_accepted(self, sender: str, least: int) -> bool:
        return len(said(self.lives[sender], "accepted")) >= least

    def settle(self, sender: str, receiver: str) -> None:
        """Wait until the last message that was accepted has been taken."""
        wait_until(lambda: said(self.lives[sender], "done"), "the sender has not ended", 20)
        last = said(self.lives[sender], "done")[-1]
        wait_until(
            lambda: any(line.split()[0] == last for line in said(self.lives[receiver], "took")),
            "the last message has not been taken",
            20,
        )

    def check(self, sender: str, receiver: str) -> None:
        accepted = [int(line) for line in said(self.lives[sender], "accepted")]
        took = [line.split() for line in said(self.lives[receiver], "took")]
        first_time: list[int] = []
        for text, redelivered in took:
            number = int(text)
            if not first_time or number > first_time[-1]:
                first_time.append(number)
            else:
                assert redelivered == "True", f"{number} came twice, after {first_time[-1]}"
        assert first_time == sorted(set(first_time))
        assert len(accepted) > MESSAGES, "nothing happened between the kills"
        missing = set(accepted) - set(first_time)
        assert not missing, f"accepted and lost: {sorted(missing)}"

    def close(self) -> None:
        for lives in self.lives.values():
            for life in lives:
                life.__exit__(None, None, None)

    def __enter__(self) -> Killing:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def test_pusher_and_server_are_killed_again_and_again(tmp_path: Path) -> None:
    address = nowhere()
    roles = {
        "pusher": ("push_on", str(tmp_path / "ours"), address),
        "server": ("take_on", str(tmp_path / "theirs"), address),
    }
    with Killing(roles, 1) as killing:
        killing.run()
        killing.settle("pusher", "server")
        killing.check("pusher", "server")


def test_both_ends_of_a_conversation_are_killed_again_and_again(tmp_path: Path) -> None:
    address = nowhere()
    roles = {
        "client": ("talk_on", str(tmp_path / "ours"), address, "client"),
        "server": ("talk_on", str(tmp_path / "theirs"), address, "server"),
    }
    with Killing(roles, 2) as killing:
        killing.run()
        killing.settle("client", "server")
        killing.settle("server", "client")
        killing.check("client", "server")
        killing.check("server", "client")


def test_kills_behind_a_network_that_cuts(tmp_path: Path) -> None:
    address = nowhere()
    with FaultyProxy(address, seed=3) as proxy:
        roles = {
            "pusher": ("push_on", str(tmp_path / "ours"), proxy.address),
            "server": ("take_on", str(tmp_path / "theirs"), address),
        }
        dice = random.Random(4)
        with Killing(roles, 3) as killing:
            killing.run(between=lambda: proxy.change(cut_after=dice.randrange(100, 5000)))
            proxy.change(cut_after=None)
            killing.settle("pusher", "server")
            killing.check("pusher", "server")


def test_clients_without_a_store_are_killed_and_the_server_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    address = nowhere()
    roles = {
        "pusher": ("push_bare", str(tmp_path / "ours"), address),
        "server": ("take_on", str(tmp_path / "theirs"), address),
    }
    with Killing(roles, 5) as killing:
        killing.run(seconds=2.5, count=6, only="pusher")
        killing.settle("pusher", "server")
        killing.check("pusher", "server")

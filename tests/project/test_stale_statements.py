"""No page, docstring or help says that something is missing which is there.

Pages are written when a feature is not there, and stay when it is. Each row of `STALE` forbids what such a
sentence looks like, with the reason, and has a sentence that it must find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ["*.md", "docs/**/*.md", "examples/**/*.md", "examples/*.py", "src/**/*.py"]
FILES = sorted({path for place in PLACES for path in ROOT.glob(place)})

FEATURES = r"""stores?|storage|persistence|asyncio|TLS|encryption|authentication|reconnect(?:ing|ion)|resuming
    |metrics|Prometheus|brokers?|NATS|IPv6|unix\ sockets|timeouts|back-?pressure|priorities\ of\ addresses
    |shell\ completion|benchmarks|measurements|request\ cancellation|proxy\ protocol|logging|statistics
    |Windows|macOS|type\ hints|framings?\ of\ your\ own"""


class Stale(NamedTuple):
    pattern: str
    reason: str
    example: str


STALE = [
    Stale(
        rf"(?:does|do)\ not\ (?:support|have)\ (?:an?\ )?(?:{FEATURES})\b",
        "it is there: see the feature list of README.md",
        "linkbox does not support TLS.",
    ),
    Stale(
        rf"(?:no|no\ support\ for|lacks)\ (?:{FEATURES})\ (?:yet|so\ far)\b"
        rf"|(?:no\ support\ for|linkbox\ lacks|linkbox\ has\ no)\ (?:{FEATURES})\b",
        "it is there: see the feature list of README.md",
        "a restart loses them: there is no storage yet",
    ),
    Stale(
        r"no\ (?:published|public)\ (?:measurements|figures|numbers|benchmarks)"
        r"|(?:measurements|figures)\ will\ follow",
        "docs/benchmarks.md has measurements",
        "There are no published measurements yet.",
    ),
    Stale(
        r"without\ (?:installing|having\ to\ install)\ (?:anything|it|linkbox)|nothing\ to\ install",
        "linkbox needs msgspec, and is installed from a checkout",
        "Try it without installing anything.",
    ),
    Stale(
        r"pip\ install\ (?:-\S+\ )*['\"]?linkbox\b|(?:uv|poetry)\ add\ linkbox\b",
        "there is no release on an index: `pip install .` in a checkout; in errors `extras.how_to_install`",
        "pip install 'linkbox[nats]'",
    ),
    Stale(
        r"\bplanned\b(?!\ end)|\bcoming\ soon\b|\broadmap\b"
        r"|in\ an?\ (?:future|later|coming|next)\ (?:version|release)"
        r"|will\ be\ (?:added|supported|implemented|possible|available)\b|(?:not\ |un)implemented\b"
        r"|not\ (?:supported|available|documented|released|possible)\ (?:yet|so\ far)"
        r"|not\ yet\ (?:supported|available|possible)",
        "what is written down is there now; what is not there is not promised",
        "Streams of responses are planned.",
    ),
    Stale(r"\b(?:TODO|FIXME|TBD|XXX)\b", "an open end belongs into an issue", "TODO: say more"),
    Stale(
        "尚未(?:支持|实现|提供)|暂不支持|还不支持|计划中|将来会|以后会",
        "the same, in Chinese",
        "目前尚未支持 TLS。",
    ),
]

# What only looks like one, as (file, text), each with the reason.
ALLOWED: dict[tuple[str, str], str] = {}


def _found(text: str, stale: Stale) -> Iterator[tuple[int, str]]:
    for match in re.finditer(re.sub(r"\\ ", r"\\s+", stale.pattern), text, re.IGNORECASE | re.VERBOSE):
        yield text.count("\n", 0, match.start()) + 1, match[0]


@pytest.mark.parametrize("stale", STALE, ids=lambda stale: stale.example[:30])
def test_each_pattern_finds_its_example(stale: Stale) -> None:
    assert list(_found(stale.example, stale)), stale.pattern


def test_nothing_contradicts_the_feature_list() -> None:
    found, used = [], set()
    for path in FILES:
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            text = re.sub(r"raise NotImplementedError|\bNotImplementedError\b", "", text)
        for stale in STALE:
            for line, words in _found(text, stale):
                if (name, words) in ALLOWED:
                    used.add((name, words))
                else:
                    found.append(f"{name}:{line}: {words!r}: {stale.reason}")
    assert not found, "\n".join(found)
    assert used == ALLOWED.keys(), "an exception that is not needed any more"

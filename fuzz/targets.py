"""All targets, by name."""

from fuzz import formats, frames, framings, handshake, links
from fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (frames, handshake, framings, formats, links)
    for target in module.TARGETS
}

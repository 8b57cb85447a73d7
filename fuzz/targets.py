"""All targets, by name."""

from fuzz import doors, formats, frames, framings, handshake, links
from fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (frames, handshake, framings, formats, links, doors)
    for target in module.TARGETS
}

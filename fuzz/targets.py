"""All targets, by name."""

import importlib.util

from fuzz import doors, formats, frames, framings, handshake, links, sockets
from fuzz.target import Target

MODULES = [frames, handshake, framings, formats, links, doors, sockets]
if importlib.util.find_spec("cryptography"):  # it makes the certificates
    from fuzz import secured

    MODULES.append(secured)
TARGETS: dict[str, Target] = {target.name: target for module in MODULES for target in module.TARGETS}

"""``linkbox demo``: all three patterns and a device at work between processes, and checked to the last byte.

- ``command``: the command; starts the parts, shows them, sums up. ``view``: what it looks like.
- ``p2m``, ``p2p``, ``ar``, ``device``: a part each, with this end and the code of its child processes.
- ``part``: what the parts share. ``child``: the entry point of the child processes.

Each child says at its end, on its stdout, what it has sent, counted and hashed in order; the part
compares that with what has arrived here.
"""

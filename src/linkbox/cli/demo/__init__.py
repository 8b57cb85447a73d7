"""``linkbox demo``: runs all three patterns and a device between processes, and checks every byte.

- ``command``: the command: starts the parts, shows them, and sums up. ``view``: the output.
- ``p2m``, ``crash``, ``p2p``, ``ar``, ``device``: one part each, with the server and the code
  of its child processes.
- ``part``: code that the parts share. ``child``: the entry point of the child processes.

Each child counts and hashes its messages in order and writes the result to stdout at its end; the part
compares it with the messages that have arrived.
"""

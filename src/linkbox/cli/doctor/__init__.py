"""``linkbox doctor``: what is at an address, or in a store, step by step, and what to do about it.

- ``command``: the command. ``report``: its lines, its exit status, its advice.
- ``network``: name, connection, TLS. ``speaking``: which protocol it is, and the handshake of linkbox.
- ``broker``, ``name``, ``guarantees``: a broker, a name at it, and what holds there.
- ``stored``: stores.
"""

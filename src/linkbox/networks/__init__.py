"""What carries bytes between endpoints: sockets (TCP, unix, TLS), or memory, for tests.

- `network.py` is the interface: what a driver asks of a network, and what a network reports to a driver.
- `choose.py` picks the network for an address.
- `sockets_threaded.py` (with `dialer.py` and `poller.py`) and `sockets_aio.py` carry bytes over sockets, for
  the threaded and the asyncio endpoints. What both know about sockets is in `sockets.py` and `listening.py`.
- `tls_link.py` encrypts: a byte filter between a socket and a link, the same for both.
- `memory.py` moves bytes inside one process, for both.

Nothing here decides what bytes mean: that is the core's work.
"""

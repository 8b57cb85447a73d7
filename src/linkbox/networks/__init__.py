"""The networks, which carry bytes between endpoints: sockets (TCP, unix, TLS), or memory for tests.

- `network.py` is the interface: the calls of a driver to a network, and the reports of a network to a driver.
- `choose.py` picks the network for an address.
- `sockets_threaded.py` (with `dialer.py` and `poller.py`) and `sockets_aio.py` carry bytes over sockets, for
  the threaded and the asyncio endpoints. Both use the functions in `sockets.py` and `listening.py`.
- `tls_link.py` encrypts: a byte filter between a socket and a link, the same for both.
- `memory.py` moves bytes inside one process, for both.

Nothing in this package interprets the bytes; the core does.
"""

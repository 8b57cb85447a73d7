"""``nats://`` addresses: the network whose far end is a broker. Only this package imports nats-py.

Each started endpoint has two halves. The *port* belongs to the endpoint: it is called under the endpoint's
lock, or on its event loop, and calls the core. The *exchange* belongs to an event loop: that of the endpoint
(asyncio), or one that all threaded endpoints of the process share (loop.py). It has the connection to the
broker. The port calls the exchange with `Port.post`, the exchange calls the port with `Port.notify`; neither
waits for the other.
"""

"""The sans-IO core: bytes and the time in; bytes, events and one timer out.

Nothing in this package opens a socket, starts a thread or reads a clock.
"""

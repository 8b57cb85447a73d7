"""The sans-IO core: bytes and a clock in; bytes, events and one timer out.

Nothing in here opens a socket, starts a thread, or asks what time it is.
"""

"""Encoding and decoding: frames, framings, handshake messages, authentication. No session state."""

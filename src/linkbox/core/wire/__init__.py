"""The wire: frames, framings, handshake messages. Shapes of bytes, no meaning."""

"""Step 1, the server: receives three messages, then answers."""

import sys

from linkbox import Json, ServerP2P

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"

with ServerP2P(ADDRESS, format=Json()) as server:
    server.wait_connected()
    for _ in range(3):
        print("got", server.data_get())
    server.send({"thanks": True})

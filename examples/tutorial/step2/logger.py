"""Step 2, the logger: prints what any number of sensors send, until Ctrl-C."""

import sys

from linkbox import Json, ServerP2M

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"

with ServerP2M(ADDRESS, Json()) as server:
    try:
        while True:
            message = server.message_get()
            print(message.peer.name, message.data["number"], message.data["celsius"], flush=True)
    except KeyboardInterrupt:
        print("stopped")

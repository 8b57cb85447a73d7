"""Step 1, the client: sends three messages, then waits for one."""

import sys

from linkbox import ClientP2P, Json

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"

with ClientP2P(ADDRESS, format=Json()) as client:
    for number in range(3):
        client.send({"number": number})
    print("got", client.data_get())

"""Step 3, the logger: writes readings.csv. Stop it, kill it, start it again: no reading is lost."""

import csv
import logging
import signal
import sys

from linkbox import EndOfData, Json, ServerP2M

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
server = ServerP2M(ADDRESS, Json(), store="logger.db")
for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and what systemd and Docker send
    signal.signal(number, lambda *_: server.stop())

with server, open("readings.csv", "a", newline="") as file:
    table = csv.writer(file)
    while True:
        try:
            message = server.message_get(ack=False)
        except EndOfData:  # stopped, and everything was taken
            break
        table.writerow([message.peer.name, message.data["number"], message.data["celsius"]])
        file.flush()
        message.ack()  # the row is written: a restart does not deliver this message again

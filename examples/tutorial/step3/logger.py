"""Step 3, the logger: writes readings.csv. Stop it, kill it, start it again: no reading is lost."""

import csv
import logging
import signal
import sys
import threading

from linkbox import Json, MailboxEmpty, ServerP2M

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
stopping = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and what systemd and Docker send
    signal.signal(number, lambda *_: stopping.set())

with ServerP2M(ADDRESS, Json(), store="logger.db") as server, open("readings.csv", "a", newline="") as file:
    table = csv.writer(file)
    while not stopping.is_set():
        try:
            message = server.message_get(timeout=0.5, ack=False)
        except MailboxEmpty:
            continue
        table.writerow([message.peer.name, message.data["number"], message.data["celsius"]])
        file.flush()
        message.ack()  # the row is written: a restart does not deliver this message again

"""Step 3, the logger: writes readings.csv. Stop it, kill it, start it again: it has each reading once."""

import csv
import logging
import os
import signal
import sys
import threading

from linkbox import Json, MailboxEmpty, ServerP2M

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"


def read_table(file):
    """The readings that are in the table. A last row that was cut off is removed: it was not acknowledged."""
    rows = file.read()
    complete = rows[: rows.rfind("\n") + 1]
    file.truncate(len(complete.encode()))
    return {tuple(row[:3]) for row in csv.reader(complete.splitlines())}


logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
stopping = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and what systemd and Docker send
    signal.signal(number, lambda *_: stopping.set())

with ServerP2M(ADDRESS, Json(), store="logger.db") as server, open("readings.csv", "a+", newline="") as file:
    file.seek(0)
    written = read_table(file)
    table = csv.writer(file)
    while not stopping.is_set():
        try:
            message = server.message_get(timeout=0.5, ack=False)
        except MailboxEmpty:
            continue
        reading = (message.peer.name, message.data["run"], str(message.data["number"]))
        if reading not in written:  # else it was written, but a kill came before the acknowledgement
            table.writerow([*reading, message.data["celsius"]])
            file.flush()
            os.fsync(file.fileno())  # also a power failure does not lose the row now
            written.add(reading)
        message.ack()  # a restart does not deliver this message again

"""Step 3, the sensors: each keeps its readings on disk until the logger has them."""

import random
import signal
import sys
import threading
import uuid

from linkbox import ClientP2M, DeadlineExceeded, Json

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"
SENSORS, READINGS, INTERVAL = 20, 5, 0.1
RUN = uuid.uuid4().hex[:8]  # the numbers start at 0 in each run

stopping = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stopping.set())


def sensor(name):
    with ClientP2M(ADDRESS, Json(), name=name, store=f"{name}.db") as client:
        for number in range(READINGS):
            client.send({"run": RUN, "number": number, "celsius": round(random.gauss(21, 0.5), 2)})
            if stopping.wait(INTERVAL):
                break
        while not stopping.is_set():
            try:
                client.flush(timeout=0.5)  # waits until the logger has everything
                break
            except DeadlineExceeded:
                pass  # the logger is away
        if not client.stop():
            print(f"{name}: the next run sends what is left in {name}.db")


threads = [threading.Thread(target=sensor, args=(f"sensor-{n:02}",)) for n in range(SENSORS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

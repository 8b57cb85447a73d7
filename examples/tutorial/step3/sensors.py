"""Step 3, the sensors: each keeps its readings on disk until the logger has them."""

import random
import sys
import threading
import time

from linkbox import ClientP2M, Json

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"
SENSORS, READINGS, INTERVAL = 20, 5, 0.1


def sensor(name):
    with ClientP2M(ADDRESS, Json(), name=name, store=f"{name}.db") as client:
        for number in range(READINGS):
            client.send({"number": number, "celsius": round(random.gauss(21, 0.5), 2)})
            time.sleep(INTERVAL)
        client.flush()  # waits until the logger has everything; without it, the rest is sent next time


threads = [threading.Thread(target=sensor, args=(f"sensor-{n:02}",)) for n in range(SENSORS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

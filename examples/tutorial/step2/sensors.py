"""Step 2, the sensors: twenty of them, each with a name and a connection of its own."""

import random
import sys
import threading
import time

from linkbox import ClientP2M, EventKind, Json

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"
SENSORS, READINGS, INTERVAL = 20, 5, 0.1


def sensor(name):
    """One sensor. In reality it is a program on a machine of its own; here it is a thread."""
    with ClientP2M(ADDRESS, Json(), name=name, blocking=False) as client:
        client.add_callback(lambda event: print(name, "failed:", event.error), EventKind.ERROR)
        for number in range(READINGS):
            client.send({"number": number, "celsius": round(random.gauss(21, 0.5), 2)})
            time.sleep(INTERVAL)


threads = [threading.Thread(target=sensor, args=(f"sensor-{n:02}",)) for n in range(SENSORS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

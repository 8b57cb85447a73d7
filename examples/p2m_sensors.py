"""Several processes push readings into one mailbox; the server knows the sender of each."""

import multiprocessing
import random
from collections import Counter

from linkbox import ClientP2M, Json, ServerP2M

READINGS = 100


def sensor(name, address):
    """Runs in each process. With blocking=False, send() never waits for the network."""
    with ClientP2M(address, format=Json(), blocking=False, linger=1.0, name=name) as client:
        for number in range(READINGS):
            client.send({"n": number, "celsius": round(random.gauss(21, 0.5), 2)})
        client.flush(timeout=10)  # waits until the server has received all


def main():
    names = ["kitchen", "cellar", "roof"]
    spawn = multiprocessing.get_context("spawn")
    with ServerP2M("tcp://127.0.0.1:0", format=Json()) as server:
        processes = [spawn.Process(target=sensor, args=(name, server.address)) for name in names]
        for process in processes:
            process.start()
        counts = Counter()
        for _ in range(READINGS * len(names)):
            message = server.message_get(timeout=20)
            assert message.data["n"] == counts[message.peer.name]  # in order, for each peer
            counts[message.peer.name] += 1
        for process in processes:
            process.join(10)
    print(dict(counts))


if __name__ == "__main__":
    main()

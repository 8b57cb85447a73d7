"""Callbacks and polling on one endpoint, side by side: each message is taken once, by the first caller."""

import threading

from linkbox import ClientP2M, EndOfData, EventKind, Json, MailboxEmpty, ServerP2M

COUNT = 2000
events = []
by_callback, by_polling = [], []

with ServerP2M("tcp://127.0.0.1:0", format=Json()) as server:

    @server.on(EventKind.DATA)
    def on_data(event):
        """Called once for each message. The poller may have taken it already."""
        events.append(event)
        if len(events) % 2:
            try:
                by_callback.append(server.data_get())
            except (MailboxEmpty, EndOfData):
                pass

    def poll():
        while True:
            try:
                by_polling.append(server.data_get(timeout=0.05))
            except MailboxEmpty:
                continue  # nothing has arrived: do something else
            except EndOfData:
                return

    poller = threading.Thread(target=poll)
    poller.start()
    with ClientP2M(server.address, format=Json()) as client:
        client.send_many(range(COUNT))  # returns when the server has received all
poller.join()

print(f"{len(events)} events; {len(by_callback)} taken by the callback, {len(by_polling)} by the poller")
assert len(events) == COUNT
assert sorted(by_callback + by_polling) == list(range(COUNT))

"""A chat room: each message goes to all peers of one ServerP2P."""

from linkbox import ClientP2P, EventKind, Json, ServerP2P

NAMES = ["ann", "bob", "eve"]

with ServerP2P("tcp://127.0.0.1:0", format=Json(), max_peers=10) as server:

    @server.on(EventKind.DATA)
    def pass_on(event):
        message = server.message_get()
        server.broadcast({"from": message.peer.name, "text": message.data})

    guests = {name: ClientP2P(server.address, format=Json(), name=name).start() for name in NAMES}
    server.wait_connected(len(NAMES), timeout=5)
    for name, guest in guests.items():
        guest.send(f"hello from {name}")

    for name, guest in guests.items():
        received = [guest.data_get(timeout=5) for _ in NAMES]
        print(name, "received messages from", [message["from"] for message in received])
        assert sorted(message["from"] for message in received) == NAMES

    (bob,) = [peer for peer in server.peers() if peer.name == "bob"]
    server.send({"from": "server", "text": "just for you"}, to=bob)
    print("bob received", guests["bob"].data_get(timeout=5))
    for guest in guests.values():
        guest.stop()

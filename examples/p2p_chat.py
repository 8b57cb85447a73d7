"""Two programs send over one connection, both at any time (here both ends are in one program)."""

from linkbox import ClientP2P, EventKind, Json, ServerP2P

with ServerP2P("tcp://127.0.0.1:0", format=Json()) as server:

    @server.on(EventKind.DATA)
    def answer(event):
        """An event carries no data: take it from the mailbox, here or anywhere else."""
        message = server.data_get()
        print(f"{event.peer.name} says: {message['text']}")
        server.send({"text": message["text"].upper()})

    with ClientP2P(server.address, format=Json(), name="ann") as client:
        for text in ("hello", "are you there?", "good bye"):
            client.send({"text": text})
        for _ in range(3):
            print("the server says:", client.data_get(timeout=5)["text"])
        client.end()  # the END mark: no more messages from the client, and nothing is lost

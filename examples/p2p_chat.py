"""Two programs talk over one link, both at any time (here both ends live in one program)."""

from linkbox import ClientP2P, EventKind, Json, ServerP2P

with ServerP2P("tcp://127.0.0.1:0", format=Json()) as server:

    @server.on(EventKind.DATA)
    def answer(event):
        """The bell carries no data: take it from the mailbox, here or anywhere else."""
        message = server.data_get()
        print(f"{event.peer.name} says: {message['text']}")
        server.send({"text": message["text"].upper()})

    with ClientP2P(server.address, format=Json(), name="ann") as client:
        for text in ("hello", "are you there?", "good bye"):
            client.send({"text": text})
        for _ in range(3):
            print("the server says:", client.data_get(timeout=5)["text"])
        client.end()  # the END mark: nothing more from here, and nothing is lost

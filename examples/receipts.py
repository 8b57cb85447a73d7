"""Receipts: each send() returns one, which says how far the message has come."""

from linkbox import ClientP2P, EventKind, ServerP2P, Stage

with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
    receipt = client.send(b"an important message")
    receipt.wait(Stage.RECEIVED, timeout=5)
    print("in the server's mailbox:", receipt.stage.name)

    print("taken by the server:", server.data_get())
    receipt.wait(Stage.TAKEN, timeout=5)
    print("known to the client:", receipt.stage.name)

    # With ack=False a message counts as taken when the worker calls ack().
    receipt = client.send(b"a job")
    message = server.message_get(timeout=5, ack=False)
    receipt.wait(Stage.RECEIVED, timeout=5)
    assert receipt.stage < Stage.TAKEN
    message.ack()
    print("after ack():", receipt.wait(Stage.TAKEN, timeout=5).name)

    # DELIVERED is emitted for each message that has arrived.
    delivered = []
    client.add_callback(lambda event: delivered.append(event.receipt), EventKind.DELIVERED)
    receipts = [client.send(b"%d" % number) for number in range(1000)]
    receipts[-1].wait(timeout=5)  # messages arrive in order: the last one is the proof for all
    assert all(each.stage >= Stage.RECEIVED for each in receipts)  # False for a failed message

assert delivered == receipts
print(len(receipts), "messages, all delivered")

"""What became of a message: each send() gives a receipt."""

from linkbox import ClientP2P, EventKind, ServerP2P, Stage

with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
    receipt = client.send(b"an important message")
    receipt.wait(Stage.RECEIVED, timeout=5)
    print("in the mailbox there:", receipt.stage.name)

    print("taken there:", server.data_get())
    receipt.wait(Stage.TAKEN, timeout=5)
    print("and known here:", receipt.stage.name)

    # A worker that says when it is done: not taken, but ack() counts.
    receipt = client.send(b"a job")
    message = server.message_get(timeout=5, ack=False)
    receipt.wait(Stage.RECEIVED, timeout=5)
    assert receipt.stage < Stage.TAKEN
    message.ack()
    print("after ack():", receipt.wait(Stage.TAKEN, timeout=5).name)

    # Many messages: the bell tells of each that has arrived there.
    delivered = []
    client.add_callback(lambda event: delivered.append(event.receipt), EventKind.DELIVERED)
    receipts = [client.send(b"%d" % number) for number in range(1000)]
    receipts[-1].wait(timeout=5)  # they arrive in order: when the last is there, all are
    assert all(each.stage >= Stage.RECEIVED for each in receipts)

assert delivered == receipts
print(len(receipts), "messages, all delivered")

"""Messages of one type: a received message is an object with all its fields checked."""

import msgspec

from linkbox import ClientP2P, DecodeError, FormatError, Json, ServerP2P, Stage, Typed


class Reading(msgspec.Struct):
    """A message. A dataclass works as well."""

    sensor: str
    celsius: float
    tags: list[str] = []


with ServerP2P("tcp://127.0.0.1:0", format=Typed(Reading)) as server:
    with ClientP2P(server.address, format=Typed(Reading)) as client:
        client.send(Reading("roof", 21.5, ["north"]))
        reading = server.data_get(timeout=5)  # a type checker infers Reading
        print(reading.sensor, reading.celsius, reading.tags)

        try:
            client.send("twenty-one")
        except FormatError as error:
            print("rejected at the client:", error)

    # Typed is JSON on the wire: a client with Json works, and its messages are checked.
    with ClientP2P(server.address, format=Json()) as client:
        receipt = client.send({"sensor": "roof", "celsius": "hot"})
        try:
            receipt.wait(Stage.RECEIVED, timeout=5)
        except DecodeError as error:
            print("rejected at the server:", error)
        client.send({"sensor": "roof", "celsius": 22})
        print(server.data_get(timeout=5))  # the conversation continues

"""A pump keeps its readings on disk while the server is away; both may be stopped at any time."""

import tempfile
from pathlib import Path

from linkbox import ClientP2M, EventKind, Json, ServerP2M, Stage


def main() -> None:
    """Readings are accepted while the server is away; after two restarts each has arrived once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = ServerP2M("tcp://127.0.0.1:0", Json, store=folder / "inbox.db").start()
        pump = ClientP2M(server.address, Json, name="pump", store=folder / "spool.db")

        @pump.on(EventKind.ERROR)
        def trouble(event) -> None:
            print("trouble:", event.error)

        with pump:
            server.stop()
            receipts = [pump.send({"reading": number}) for number in range(5)]
            print("accepted while the server is away:", receipts[-1].stage.name)

            server.start()
            receipts[-1].wait(Stage.RECEIVED, timeout=10)
            print("on the server's disk; now it is restarted before the message is taken")
            server.stop()
            server.start()

            for _ in receipts:
                message = server.message_get(timeout=10, ack=False)
                print(message.peer.name, message.data, "again" if message.redelivered else "")
                message.ack()  # when the work is done: until then, a restart delivers it again
            receipts[-1].wait(Stage.TAKEN, timeout=10)
            print("the pump knows that all was taken")
        server.stop()


if __name__ == "__main__":
    main()

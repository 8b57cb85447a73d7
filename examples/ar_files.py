"""A file server in mailbox mode: requests wait in the mailbox until the program takes them."""

import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from linkbox import AnswerError, ClientAR, EndOfData, ServerAR


def serve(server, folder):
    """Respond to one request after another, until the server is stopped."""
    while True:
        try:
            request = server.data_get()
        except EndOfData:
            return
        name = request.data.decode()
        path = folder / name
        if path.parent != folder or not path.is_file():
            request.fail(f"no such file: {name!r}")
        else:
            request.answer(path.read_bytes())


with TemporaryDirectory() as temporary:
    folder = Path(temporary)
    (folder / "hello.txt").write_text("Hello from the other side.\n")
    (folder / "large.bin").write_bytes(bytes(range(256)) * 20_000)  # 5 MB

    with ServerAR("tcp://127.0.0.1:0") as server:
        thread = threading.Thread(target=serve, args=(server, folder))
        thread.start()
        with ClientAR(server.address) as client:
            print(client.ask(b"hello.txt").decode(), end="")
            assert client.ask(b"large.bin") == (folder / "large.bin").read_bytes()
            print("5 MB arrived complete")
            try:
                client.ask(b"../secret")
            except AnswerError as error:
                print("failed:", error.text)
    thread.join()

"""A unix socket connects programs of one machine: no port, and file permissions control the access."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from linkbox import ClientAR, ServerAR

if sys.platform == "win32":
    sys.exit("this platform has no unix sockets")

with TemporaryDirectory() as folder:
    path = Path(folder) / "echo.sock"
    with ServerAR(f"unix://{path}", handler=lambda request: request.data[::-1]) as server:
        print("the socket exists:", path.is_socket())
        with ClientAR(server.address) as client:
            print(client.ask(b"stressed"))
    print("it is removed:", not path.exists())

"""Between programs of one machine a unix socket will do: no port, and the file's rights decide who may."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from linkbox import ClientAR, ServerAR

if sys.platform == "win32":
    sys.exit("there are no unix sockets on this platform")

with TemporaryDirectory() as folder:
    path = Path(folder) / "echo.sock"
    with ServerAR(f"unix://{path}", handler=lambda request: request.data[::-1]) as server:
        print("listening at a socket:", path.is_socket())
        with ClientAR(server.address) as client:
            print(client.ask(b"stressed"))
    print("and it is gone:", not path.exists())

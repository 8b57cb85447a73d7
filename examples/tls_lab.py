"""TLS in a lab: your own authority, a server, and a client that a certificate identifies.

The certificates are made by `linkbox cert`, which needs typer, rich, psutil and cryptography.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from linkbox import AuthenticationFailed, ClientP2M, Json, PeerInfo, ServerP2M, tls

folder = Path(tempfile.mkdtemp())


def cert(*arguments: str) -> None:
    command = [sys.executable, "-m", "linkbox.cli", "cert", *arguments, "--folder", str(folder), "--quiet"]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit("this example needs, in a checkout of linkbox: pip install '.[cli,tls]'")


cert("init")  # once: copy ca.pem to all machines, keep ca.key secret
cert("issue", "127.0.0.1")  # for each server: the host that its clients connect to
cert("issue", "pump")  # for each client with an authenticated name


def accept(peer: PeerInfo) -> bool:
    """Admit these clients. Only the identity is proven; the name is chosen by the peer."""
    return peer.identity in ("pump", "valve")


ours = tls.server_context(folder / "127.0.0.1.pem", folder / "127.0.0.1.key", client_ca=folder / "ca.pem")
pumps = tls.client_context(folder / "ca.pem", folder / "pump.pem", folder / "pump.key")
nobodys = tls.client_context(folder / "ca.pem")

with ServerP2M("tls://127.0.0.1:0", Json, ssl=ours, accept=accept) as server:
    with ClientP2M(server.address, Json, ssl=pumps) as client:
        client.send({"bar": 2.5})
    message = server.message_get()
    print(message.peer.identity, "says", message.data)
    try:
        with ClientP2M(server.address, Json, ssl=nobodys) as client:
            client.send({"bar": 99})
    except AuthenticationFailed as error:
        print("without a certificate:", error)

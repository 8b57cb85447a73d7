"""TLS in a lab: an authority of one's own, a server, and a client with a certificate that says who it is.

The certificates are made by `linkbox cert`, as in a shell: it needs typer, rich, psutil and cryptography.
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
        raise SystemExit("this example needs: pip install 'linkbox[cli,tls]'")


cert("init")  # once: ca.pem is for everybody, ca.key stays here
cert("issue", "127.0.0.1")  # for each server: the host that its clients call
cert("issue", "pump")  # for each client that is to be known by name


def accept(peer: PeerInfo) -> bool:
    """Who may come in? Only the identity is proven; a name is what a peer calls itself."""
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

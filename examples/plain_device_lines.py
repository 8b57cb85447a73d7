"""A device without linkbox: it sends lines over a bare socket, and executes the lines it receives."""

import socket
import threading

from linkbox import Address, Lines, ServerP2P


def device(address):
    """The firmware of a small device: reports its state and executes commands."""
    target = Address.parse(address)
    with socket.create_connection((target.host, target.port)) as sock, sock.makefile("rb") as lines:
        sock.sendall(b"state off\r\nsta")  # a device may split a line anywhere
        sock.sendall(b"te idle\r\n")
        for line in lines:
            sock.sendall(b"done " + line)
            if line == b"sleep\n":
                return


with ServerP2P("tcp://127.0.0.1:0", framing=Lines()) as server:
    thread = threading.Thread(target=device, args=(server.address,))
    thread.start()
    print(server.data_get(timeout=5), server.data_get(timeout=5))
    for command in (b"on", b"blink 3", b"sleep"):
        server.send(command)
        answer = server.data_get(timeout=5)
        print(answer)
        assert answer == b"done " + command
    thread.join()

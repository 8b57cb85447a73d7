"""Twisted's NetstringReceiver: ``twisted_netstrings.py server`` or ``… client PORT``."""

import sys

from twisted.internet import protocol, reactor
from twisted.protocols.basic import NetstringReceiver


class Server(NetstringReceiver):
    def stringReceived(self, string: bytes) -> None:
        self.sendString(string[::-1])

    def connectionLost(self, reason: object = None) -> None:
        print("closed", flush=True)


class Client(NetstringReceiver):
    received = 0

    def connectionMade(self) -> None:
        for n in range(100):
            self.sendString(b"%d:,\n" % n * n)

    def stringReceived(self, string: bytes) -> None:
        assert string == (b"%d:,\n" % self.received * self.received)[::-1]
        self.received += 1
        if self.received == 100:
            self.transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        print("received", self.received, flush=True)
        reactor.stop()


factory = (
    protocol.Factory.forProtocol(Server)
    if sys.argv[1] == "server"
    else protocol.ClientFactory.forProtocol(Client)
)
if sys.argv[1] == "server":
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    print("listening at", port.getHost().port, flush=True)
else:
    reactor.connectTCP("127.0.0.1", int(sys.argv[2]), factory)
reactor.run()

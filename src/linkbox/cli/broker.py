"""``nats://`` addresses of the command line: where the broker is and who asks, from the environment."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from linkbox import Address, Nats
from linkbox.broker import split_credentials
from linkbox.cli.status import WrongUse, exit_status, say

HERE = ("nats:///", "nats+tls:///")
"""Addresses without a host: that is in NATS_URL."""


def with_nats_url(address: str | None) -> str | None:
    """The address, with the host of NATS_URL if it names only a name at a broker."""
    if address is None or not address.startswith(HERE):
        return address
    url = os.environ.get("NATS_URL")
    if not url:
        raise typer.BadParameter(f"{address} has no host: set NATS_URL, or write nats://HOST/NAME")
    scheme, _, name = address.partition(":///")
    hosts = url.partition("://")[2].rstrip("/")
    if url.startswith(("tls://", "nats+tls://")):
        scheme = "nats+tls"
    return f"{scheme}://{hosts}/{name}"


def broker_of(address: str) -> Nats | None:
    """The credentials for a broker from the environment: arguments are readable by all users."""
    if not Address.parse(address, server=True).is_broker or split_credentials(address, None)[1] is not None:
        return None
    found = {
        name: os.environ[variable]
        for name, variable in (
            ("creds", "NATS_CREDS"),
            ("nkey", "NATS_NKEY"),
            ("token", "NATS_TOKEN"),
            ("user", "NATS_USER"),
            ("password", "NATS_PASSWORD"),
        )
        if os.environ.get(variable)
    }
    try:
        return Nats(**found) if found else None  # type: ignore[arg-type]
    except ValueError as error:
        raise WrongUse(f"NATS_CREDS, NATS_NKEY, NATS_TOKEN, NATS_USER: {error}") from error


def nats_config(
    host: Annotated[str, typer.Option(help="Listen at this address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Listen at this port.")] = 4222,
    store: Annotated[Path, typer.Option(metavar="DIR", help="Keep the streams in DIR.")] = Path("nats-data"),
    user: Annotated[str, typer.Option(help="Let this user connect, with a new password.")] = "linkbox",
    cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Use TLS, with this certificate.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="The private key for --tls-cert.")
    ] = None,
    node: Annotated[
        str | None, typer.Option(help="Be a node of a cluster, with this name: n1, n2, n3.")
    ] = None,
    cluster_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Listen for the other nodes at this port.")
    ] = 6222,
    route: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="Another node of the cluster.")
    ] = None,
) -> None:
    """Print a configuration for nats-server with which "acknowledged" means "on disk"."""
    with exit_status(quiet=True):
        if (cert is None) is not (key is None):
            raise WrongUse("--tls-cert and --tls-key must be given together")
        if route and node is None:
            raise WrongUse("--route is for a node of a cluster: give it a name with --node")
        password = secrets.token_urlsafe(18)
        print(_config(host, port, store, user, password, cert, key))
        if node is not None:
            print(_cluster(host, node, cluster_port, route or []))
        say("save it as nats.conf, readable for you only, and start: nats-server -c nats.conf")
        account = f"NATS_USER={user} NATS_PASSWORD={password}"
        say(f"then: {account} linkbox listen p2m nats://{host}:{port}/NAME")


def _config(
    host: str, port: int, store: Path, user: str, password: str, cert: Path | None, key: Path | None
) -> str:
    tls = ""
    if cert is not None and key is not None:
        tls = (
            "\n# TLS from the first byte: a password is never sent in the clear.\n"
            f'tls {{ cert_file: "{cert}", key_file: "{key}", handshake_first: auto }}\n'
        )
    return (
        f'listen: "{host}:{port}"\n'
        "\n# The largest message. P2P cuts larger ones; P2M and AR raise TooLarge.\n"
        "max_payload: 1MB\n"
        "\njetstream {\n"
        f'  store_dir: "{store}"\n'
        "  # A message is on disk before it is acknowledged. The default, two minutes later, loses what\n"
        "  # was acknowledged in between when the power fails.\n"
        "  sync_interval: always\n"
        "  max_file_store: 10GB\n"
        "}\n"
        f'\nauthorization {{ users: [ {{ user: "{user}", password: "{password}" }} ] }}\n' + tls
    )


def _cluster(host: str, node: str, port: int, routes: list[str]) -> str:
    known = ", ".join(f'"nats://{each}"' for each in routes)
    return (
        f'server_name: "{node}"\n'
        f'cluster {{ name: linkbox, listen: "{host}:{port}", routes: [ {known} ] }}\n'
        "# With three nodes: broker=Nats(replicas=3), so that each message is on two of them.\n"
    )

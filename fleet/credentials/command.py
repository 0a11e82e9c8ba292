"""``fleet credentials``."""

from __future__ import annotations

import asyncio
import base64
import sys

import click

from fleet.credentials import made
from process.cluster import Cluster, ClusterError
from process.settings import InCluster, WrongSettings, load

_IS_THERE = 409


@click.command(short_help="Make the first keys and tokens, in a cluster.")
def credentials() -> None:
    """Make the Secrets of deploy/k8s/overlays/minimal that are missing, inside the cluster; show none of them.

    A first API key, management's key, the broker's signing key, and a token of each role. What is there stays.
    """
    try:
        asyncio.run(_make(load(InCluster)))
    except WrongSettings as wrong:
        raise click.UsageError(str(wrong)) from None
    except (ClusterError, OSError, KeyError, ValueError) as error:
        click.echo(f"The Secrets could not be made: {error}", err=True)
        sys.exit(1)


async def _make(settings: InCluster) -> None:
    namespace = (settings.service_account_dir / "namespace").read_text().strip()
    cluster = Cluster(settings.api_server, settings.service_account_dir)
    secrets = _Secrets(cluster, namespace)
    try:
        await secrets.make(made.KEYS, made.keys())
        await secrets.make(made.SIGNING, made.signing())
        key = await secrets.read(made.SIGNING, "key")
        for name, role in made.TOKENS.items():
            await secrets.make(name, {"token": made.token(role, key).encode()})
    finally:
        await cluster.aclose()


class _Secrets:
    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{namespace}/secrets"

    async def make(self, name: str, content: dict[str, bytes]) -> None:
        try:
            await self._cluster.ask("POST", self._path, body=made.secret(name, content))
        except ClusterError as error:
            if error.status != _IS_THERE:
                raise
            click.echo(f"{name} is there already.")
        else:
            click.echo(f"{name} is made.")

    async def read(self, name: str, entry: str) -> bytes:
        found = await self._cluster.ask("GET", f"{self._path}/{name}")
        return base64.b64decode(found["data"][entry])

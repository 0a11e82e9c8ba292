"""The API server, as far as the controller needs it: the official client's connection, and objects as they are."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from process.cluster import APPLY, encoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from kubernetes.aio.client.rest import RESTResponse

    from controller.kinds import Kind
    from controller.manifests import Manifest

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
ANSWER_S = 10.0
WATCH_S = 300
"""A watch ends after this long and everything is listed again, so that nothing is missed for longer."""
_WATCH_SILENCE = aiohttp.ClientTimeout(sock_connect=ANSWER_S, sock_read=WATCH_S + 30.0)
PAGE = 500
"""Objects in one answer to a list."""
_UNREADABLE = (config.ConfigException, OSError, TypeError, yaml.YAMLError)


class ClusterError(Exception):
    """The API server did not do what was asked. ``status`` is HTTP's, 0 where there was no answer."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


class Cluster:
    """Objects are dictionaries, as in YAML. Everything raises :class:`ClusterError`."""

    def __init__(self, client: ApiClient, kubeconfig: Path | None = None) -> None:
        self._client = client
        self._kubeconfig = kubeconfig
        self._renewing = asyncio.Lock()

    @classmethod
    async def connect(cls, kubeconfig: Path | None) -> Cluster:
        """By a kubeconfig, or as the service account of this Pod. Raises :class:`ClusterError`."""
        configuration = Configuration()
        try:
            if kubeconfig is not None:
                await _read(kubeconfig, configuration)
            else:
                config.load_incluster_config(client_configuration=configuration)
            configuration.disable_strict_ssl_verification = True  # why: process.tls.trusting
            return cls(ApiClient(configuration), kubeconfig)
        except _UNREADABLE as error:
            raise ClusterError(0, f"There is no way to a cluster: {error}") from None

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """One object, None if there is none."""
        found: Manifest | None = await self._unless_missing("GET", kind.path(namespace, name))
        return found

    async def all(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """All objects of a kind with these labels."""
        items, _ = await self.listing(kind, namespace, labels)
        return items

    async def listing(
        self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None
    ) -> tuple[list[Manifest], str]:
        """As :meth:`all`, and the version to watch from."""
        items: list[Manifest] = []
        query = {"limit": str(PAGE), **_by_labels(labels)}
        while True:
            page = await self._ask("GET", kind.path(namespace), query)
            items += page.get("items") or []
            following = page["metadata"].get("continue")
            if not following:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = following

    async def watch(
        self, kind: Kind, version: str, namespace: str = "", labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """What happens after ``version``: ADDED, MODIFIED or DELETED, and the object. Ends after a while."""
        bounds = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_S)}
        answer = await self._send("GET", kind.path(namespace), bounds | _by_labels(labels), timeout=_WATCH_SILENCE)
        try:
            async for line in answer.response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ClusterError(event["object"].get("code", 500), event["object"].get("message", ""))
                yield event["type"], event["object"]
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ClusterError(0, f"The watch of {kind.plural} broke off: {error}") from None
        finally:
            answer.response.close()

    async def apply(self, kind: Kind, manifest: Manifest, *, manager: str, subresource: str = "") -> Manifest:
        """Server-side apply: what the manager says counts, whoever said something else; what it said before and does
        not say now is taken back."""
        metadata = manifest["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        applied: Manifest = await self._ask("PATCH", path, query, encoded(manifest), APPLY)
        return applied

    async def patch(self, kind: Kind, namespace: str, name: str, steps: list[Any], *, subresource: str = "") -> None:
        """JSON Patch. An object that is gone, or that has changed against a step's test, stays as it is."""
        try:
            await self._ask("PATCH", kind.path(namespace, name, subresource), None, steps, JSON_PATCH)
        except ClusterError as error:
            if error.status not in (404, 422):
                raise

    async def create(self, kind: Kind, namespace: str, manifest: Manifest) -> None:
        """A new object."""
        await self._ask("POST", kind.path(namespace), None, manifest)

    async def replace(self, kind: Kind, namespace: str, name: str, manifest: Manifest) -> None:
        """The whole object; 409 if its version is not the one there is."""
        await self._ask("PUT", kind.path(namespace, name), None, manifest)

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Let it be deleted, if it is there."""
        await self._unless_missing("DELETE", kind.path(namespace, name))

    async def knows(self, kind: Kind, namespace: str) -> bool:
        """Whether the API server has this kind. It is asked for objects, for while it starts there is a moment in which
        it answers, and its list of kinds is not complete."""
        return await self._unless_missing("GET", kind.path(namespace), {"limit": "1"}) is not None

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    @property
    def _token(self) -> str | None:
        token: str | None = self._client.configuration.api_key.get("BearerToken")
        return token

    async def _has_another(self, shown: str | None) -> bool:
        """Whether the kubeconfig has another token by now: those of a program or of a file hold for minutes."""
        if self._kubeconfig is None:
            return False
        async with self._renewing:
            if self._token == shown:
                try:
                    await _read(self._kubeconfig, self._client.configuration)
                except _UNREADABLE as error:
                    raise ClusterError(401, f"The token is refused, and the kubeconfig has no other: {error}") from None
            return self._token != shown

    async def _unless_missing(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Any:
        try:
            return await self._ask(method, path, query)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None, content: str = JSON
    ) -> Any:
        answer = await self._send(method, path, query, body, content)
        try:
            return json.loads(await answer.read())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ClusterError(0, f"The API server's answer broke off: {error}") from None

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = JSON,
        timeout: aiohttp.ClientTimeout | float = ANSWER_S,
    ) -> RESTResponse:
        headers = {"Accept": JSON, "Content-Type": content}

        async def send() -> RESTResponse:
            parts = await self._client.param_serialize(
                method, path, None, list((query or {}).items()), headers, body, auth_settings=["BearerToken"]
            )
            return await self._client.call_api(*parts, _request_timeout=timeout)

        try:
            shown = self._token
            answer = await send()
            if answer.status == 401 and await self._has_another(shown):
                answer.response.release()
                answer = await send()
            if answer.status >= 400:
                raise ClusterError(answer.status, _why(answer.status, await answer.read()))
        except TimeoutError:
            raise ClusterError(0, "The API server did not answer in time.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ClusterError(0, f"The API server cannot be reached: {error}") from None
        return answer


async def _read(kubeconfig: Path, configuration: Configuration) -> None:
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)


def _by_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{name}={value}" for name, value in labels.items())} if labels else {}


def _why(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"The API server answered {status}."

"""The AIModels of a cluster as declared models: listed, watched, and kept while the API server is away."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.models.file import DeclaredModel, check_model_name
from process.cluster import AIMODELS, ClusterError, Retries
from process.logging import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from process.cluster import Cluster

log = Log("gateway")

PAUSE_S = 1.0
"""Between the end of a watch and the next list: an API server that ends may end each at once."""


@dataclass(frozen=True)
class AIModel:
    """One object, as far as the gateway reads it."""

    object_name: str
    created_s: int
    declared: DeclaredModel


class AIModels:
    """Tells ``on_change`` of all declared models, the oldest first, at first and at every change."""

    def __init__(self, cluster: Cluster, namespace: str, on_change: Callable[[list[AIModel]], None]) -> None:
        self.tried = asyncio.Event()
        """Set once the API server was asked, whatever came of it."""
        self._cluster = cluster
        self._path = AIMODELS.format(namespace=namespace)
        self._namespace = namespace
        self._on_change = on_change
        self._objects: dict[str, AIModel] = {}
        self._told: list[AIModel] | None = None
        self._unusable: dict[str, str] = {}
        self._retries = Retries()
        self._said: tuple[int, str] | None = None

    def __repr__(self) -> str:
        return f"<AIModels {self._namespace} {sorted(self._objects)}>"

    async def run(self) -> None:
        """List and watch until cancelled. Each end of a watch, and each failure, begins with a new list."""
        try:
            while True:
                await self._follow()
        finally:
            await self._cluster.aclose()

    async def _follow(self) -> None:
        try:
            version = await self._list()
            self.tried.set()
            async with contextlib.aclosing(self._cluster.watch(self._path, version, self._works)) as events:
                async for event in events:
                    self._take(event)
            await asyncio.sleep(PAUSE_S)
        except ClusterError as error:
            self.tried.set()
            if error.status != 410:  # too old a version to go on from, which the next list mends
                self._tell(error)
            await asyncio.sleep(self._retries.failed(error.retry_after_s))

    async def _list(self) -> str:
        found = await self._cluster.ask("GET", self._path)
        try:
            objects, version = list(found["items"]), str(found["metadata"]["resourceVersion"])
        except (KeyError, TypeError):
            raise ClusterError(0, "Its answer is no list.") from None
        self._objects = {}
        for each in objects:
            self._put(each)
        self._changed()
        return version

    def _works(self) -> None:
        """Not at the list already: who may list and not watch would list all of them every second, and say so."""
        self._retries.worked()
        if self._said is not None:
            log.info("The AIModels can be read again.", action="aimodels_read", namespace=self._namespace)
            self._said = None

    def _take(self, event: dict[str, Any]) -> None:
        match event:
            case {"type": "ADDED" | "MODIFIED", "object": dict(found)}:
                self._put(found)
            case {"type": "DELETED", "object": {"metadata": {"name": str(name)}}}:
                self._objects.pop(name, None)
        self._changed()

    def _put(self, found: dict[str, Any]) -> None:
        name = str(found.get("metadata", {}).get("name"))
        if found.get("metadata", {}).get("deletionTimestamp"):
            self._objects.pop(name, None)  # its nodes finish and leave: what came now would wait for nobody
            return
        try:
            self._objects[name] = read(found)
            self._unusable.pop(name, None)
        except ValueError as error:
            self._objects.pop(name, None)
            if self._unusable.get(name) != str(error):
                self._unusable[name] = str(error)
                log.warning("An AIModel declares no model.", action="aimodel_unusable", aimodel=name, why=str(error))

    def _changed(self) -> None:
        """Nodes show themselves in the status: most events change nothing here."""
        models = sorted(self._objects.values(), key=lambda model: (model.created_s, model.object_name))
        if models != self._told:
            self._told = models
            self._on_change(models)

    def _tell(self, error: ClusterError) -> None:
        """Each new reason once."""
        if self._said is not None and self._said[0] == error.status:
            return
        self._said = error.status, str(error)
        known = "The models that were declared before stay." if self._told is not None else "None is known so far."
        why = (
            "The gateway's service account may not read AIModels" if error.status == 403 else "AIModels cannot be read"
        )
        log.warning(
            f"{why}. {known} The gateway goes on, and tries again.",
            action="aimodels_unread",
            namespace=self._namespace,
            status=error.status or None,
            why=str(error),
        )


def read(found: dict[str, Any]) -> AIModel:
    """One object (deploy/k8s/crd.yaml). Raises ValueError with a sentence for what can be no model."""
    try:
        metadata, spec = found["metadata"], found["spec"]
        declared = msgspec.convert(
            {
                "name": spec["model"],
                "aliases": spec.get("aliases", ()),
                "owned_by": spec.get("ownedBy"),
                "context_length": spec.get("contextLength"),
                "description": spec.get("description"),
            },
            DeclaredModel,
        )
        created_s = int(datetime.fromisoformat(metadata["creationTimestamp"]).timestamp())
        name = str(metadata["name"])
    except (KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise ValueError(f"it is no AIModel: {error}") from None
    for each in (declared.name, *declared.aliases):
        check_model_name(each)
    return AIModel(name, created_s, declared)


def created(models: Iterable[AIModel]) -> dict[str, int]:
    """Since when each model is declared, in Unix seconds; by the oldest of several objects."""
    since: dict[str, int] = {}
    for model in models:
        since.setdefault(model.declared.name, model.created_s)
    return since

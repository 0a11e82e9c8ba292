"""Hearing of changes: a list, then a watch, again and again. What a watch misses, the next list shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from controller.cluster import ClusterError
from process.logging import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.cluster import Cluster
    from controller.kinds import Kind
    from controller.manifests import Manifest

log = Log("controller")

PAUSE_S = 0.5
"""Between a watch that has ended and the next list, should watches end at once."""
AGAIN_S = 2.0
ABSENT_AGAIN_S = 30.0
"""How often it is looked whether an optional kind has come."""


async def watch(
    cluster: Cluster,
    kind: Kind,
    namespace: str,
    labels: Mapping[str, str] | None,
    hear: Callable[[Manifest], None],
) -> None:
    """Call ``hear`` with each object that is there or changes or goes, until cancelled."""
    said = ""
    while True:
        pause_s = PAUSE_S
        try:
            objects, version = await cluster.listing(kind, namespace, labels)
            for each in objects:
                hear(each)
            async for _, changed in cluster.watch(kind, version, namespace, labels):
                hear(changed)
            said = ""  # not after the list: who may list and not watch would say so every two seconds
        except ClusterError as error:
            if error.status == 404 and kind.optional:
                pause_s = ABSENT_AGAIN_S
            elif error.status != 410:  # 410: the list is too old to be watched from, and is read again at once
                pause_s = AGAIN_S
                if str(error) != said:
                    said = str(error)
                    log.warning(f"{kind.plural} cannot be watched: {said}", action="watch_failed", kind=kind.name)
        await asyncio.sleep(pause_s)

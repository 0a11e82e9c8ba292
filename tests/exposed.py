"""What a role's ``/metrics`` really shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Exposed:
    """One look at one role, or at several."""

    families: dict[str, Metric]

    @property
    def series(self) -> dict[Series, float]:
        """Every series by its name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def has(self, name: str, labels: Iterable[tuple[str, str]] = ()) -> bool:
        """Whether there is a series of this name with these labels at least."""
        return any(name == own and set(labels) <= theirs for own, theirs in self.series)

    def __or__(self, other: Exposed) -> Exposed:
        return Exposed(self.families | other.families)


async def exposed(url: str, key: str = "") -> Exposed:
    """Look at the role there."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics", headers=headers) as response:
        assert response.status == 200
        text = await response.text()
    families = text_string_to_metric_families(text)
    return Exposed({family.name: family for family in families if not family.name.endswith("_created")})

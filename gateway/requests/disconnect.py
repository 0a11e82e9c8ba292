"""What becomes of a request whose client hangs up: it is cancelled, or finished for nobody and charged all the same."""

from __future__ import annotations

from typing import Literal, get_args

Policy = Literal["cancel", "finish"]


class OnDisconnect:
    """The policy of a gateway, with what models and keys have of their own. A key's counts more than a model's."""

    def __init__(self, default: Policy, models: dict[str, Policy], keys: dict[str, Policy]) -> None:
        self._default: Policy = default
        self._models = models
        self._keys = keys

    def finishes(self, model: str, key_id: str | None) -> bool:
        """Whether a request of this model and key runs to its end although nobody listens."""
        policy = self._models.get(model, self._default)
        if key_id is not None:
            policy = self._keys.get(key_id, policy)
        return policy == "finish"


def parse_policies(setting: str) -> dict[str, Policy]:
    """Name → policy of ``"one=finish,other=cancel"``. Names may hold ``=``. Raises ValueError with a sentence."""
    policies: dict[str, Policy] = {}
    for part in (part.strip() for part in setting.split(",")):
        if not part:
            continue
        name, _, word = (piece.strip() for piece in part.rpartition("="))
        known: Policy | None = next((policy for policy in get_args(Policy) if policy == word), None)
        if not name or known is None:
            raise ValueError("each part must be 'name=cancel' or 'name=finish'")
        if name in policies:
            raise ValueError(f"it names {name!r} twice")
        policies[name] = known
    return policies

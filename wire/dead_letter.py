"""A request that will not be tried again, as it waits for a person in its model's topic of dead letters."""

from __future__ import annotations

from typing import Literal

import msgspec

from wire.request import Id, Millis, Request

DeadReason = Literal["poison"]
"""``poison``: it brought down every node that worked on it, as its gateway counted."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="dead_letter"):
    """Published by the node that heard ``stop(poison)``, before it acknowledges the request.

    ``request`` is the request unchanged, with the client's body. ``message`` is a sentence for people, ``node`` the
    incarnation that wrote this, ``at_ms`` when, by its clock. One request may have several letters: two nodes that had
    it may both have heard the word.
    """

    request: Request
    reason: DeadReason
    message: str
    node: Id
    at_ms: Millis

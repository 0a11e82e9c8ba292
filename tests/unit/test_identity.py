"""Ids that the ledger's indexes hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from process import identity
from process.identity import new_request_id

if TYPE_CHECKING:
    import pytest


def test_ids_of_requests_are_in_the_order_of_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for now_ms in (1_772_366_400_000, 1_772_366_400_001, 4_102_444_800_000):
        monkeypatch.setattr(identity, "now_ms", lambda now_ms=now_ms: now_ms)
        ids.append(new_request_id())
    assert ids == sorted(ids)
    assert all(re.fullmatch("req_[0-9a-f]{32}", id_) for id_ in ids)


def test_requests_of_one_moment_have_ids_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "now_ms", lambda: 1_772_366_400_000)
    assert len({new_request_id() for _ in range(1000)}) == 1000

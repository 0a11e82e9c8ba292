"""What each role is let do at a Pulsar with authorization."""

from __future__ import annotations

import pytest

from broker import access
from wire.topics import Topics


@pytest.mark.parametrize(
    ("name", "namespace"),
    [("bills", "fleet/results"), ("persistent://fleet/books/bills", "fleet/books"), ("persistent://a/b/c", "a/b")],
)
def test_who_tells_events_may_publish_where_the_results_topic_is(name: str, namespace: str) -> None:
    steps = list(access.deployment(Topics("fleet", "requests", "links", "results", name)))
    assert [step.path for step in steps if step.method == "PUT"][:3] == [
        f"namespaces/{each}" for each in ("fleet/requests", "fleet/links", namespace)
    ]
    for role in (access.GATEWAY, access.NODE):
        (granted,) = [step for step in steps if step.path == f"namespaces/{namespace}/permissions/{role}"]
        assert granted.body == ("produce",)


def test_a_results_topic_among_the_requests_would_give_a_role_more_than_it_needs() -> None:
    with pytest.raises(ValueError, match="three namespaces"):
        list(access.deployment(Topics("fleet", "requests", "links", "results", "persistent://fleet/requests/bills")))

"""What people are told of an AIModel, by what was observed."""

from __future__ import annotations

from typing import Any

import pytest

from controller.aimodel import AIModel, read
from controller.conditions import Condition, conditions, with_times
from controller.observed import NodeEntry, Observed, Topics

WELL = Topics(True, backlog=0)


def model(**spec: Any) -> AIModel:
    return read({"metadata": {"name": "m"}, "spec": {"type": "static", "model": "m", "maxReplicas": 4, **spec}})


def deployment(desired: int, ready: int, *broken: str) -> dict[str, Any]:
    failures = [{"type": "Progressing", "status": "False", "message": each} for each in broken]
    return {
        "spec": {"replicas": desired},
        "status": {"replicas": desired, "readyReplicas": ready, "conditions": failures},
    }


def told(seen: Observed, **spec: Any) -> dict[str, Condition]:
    return {each.type: each for each in conditions(model(**spec), seen)}


def nodes(*states: str) -> tuple[NodeEntry, ...]:
    return tuple(NodeEntry(f"n{place}", state, f"It is so: {state}.") for place, state in enumerate(states))


def unwell_keda(message: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Ready", "status": "False", "message": message}]}}


READY = [
    (
        Observed(WELL, True, deployment(0, 0), unwell_keda("Wrong token.")),
        "KEDANotReady",
        "No node runs, and none will be started. KEDA says: Wrong token.",
    ),
    (Observed(Topics(False, "No broker."), True), "WaitingForTopics", "Waiting for the model's topics: No broker."),
    (Observed(WELL, True), "WaitingForNodes", "Waiting for the Deployment."),
    (Observed(WELL, True, deployment(0, 0)), "ScaledToZero", "the first request has one started"),
    (Observed(WELL, False, deployment(0, 0)), "ScaledToZero", "spec.replicas is 0"),
    (Observed(WELL, True, deployment(2, 0)), "WaitingForNodes", "Waiting for 2 nodes to be ready"),
    (Observed(WELL, True, deployment(1, 0, "No GPU.")), "WaitingForNodes", "The Deployment says: No GPU."),
    (
        Observed(WELL, True, deployment(1, 0), nodes=nodes("Loading")),
        "WaitingForNodes",
        "Waiting for 1 node. n0: It is so: Loading.",
    ),
    (Observed(WELL, True, deployment(3, 2), nodes=nodes("RateLimited", "Ready")), "Serving", "2 nodes of 3 ready."),
    (
        Observed(WELL, True, deployment(2, 2), nodes=nodes("RateLimited", "AuthenticationFailed")),
        "AuthenticationFailed",
        "No node works now. n1: It is so: AuthenticationFailed.",
    ),
    (
        Observed(WELL, True, deployment(1, 1), failure="No quota."),
        "NotApplied",
        "refuses an object of this model: No quota.",
    ),
]


@pytest.mark.parametrize(("seen", "reason", "words"), READY, ids=[f"{each[1]}-{i}" for i, each in enumerate(READY)])
def test_ready_says_what_is_waited_for(seen: Observed, reason: str, words: str) -> None:
    found = told(seen)["Ready"]
    assert found.reason == reason
    assert words in found.message


def test_nodes_that_have_not_said_how_they_are_may_well_work() -> None:
    seen = Observed(WELL, True, deployment(2, 2), nodes=nodes("RateLimited"))
    assert seen.held_back is None
    assert seen.ceiling is None
    assert told(seen)["Ready"].status == "True"


@pytest.mark.parametrize("state", ["RateLimited", "QuotaExhausted", "AuthenticationFailed", "Misconfigured"])
def test_a_model_whose_nodes_share_a_trouble_is_not_scaled_up(state: str) -> None:
    seen = Observed(WELL, True, deployment(3, 2), nodes=nodes(state, state))
    assert seen.ceiling == 3
    scaling = told(seen)["ScalingActive"]
    assert (scaling.status, scaling.reason) == ("False", state)
    assert "no more than 3 nodes" in scaling.message


def test_what_keda_complains_of_is_passed_on() -> None:
    scaled = {"status": {"conditions": [{"type": "Ready", "status": "False", "message": "no such topic"}]}}
    found = told(Observed(WELL, True, deployment(0, 0), scaled))["ScalingActive"]
    assert (found.status, found.reason, found.message) == ("False", "KEDANotReady", "KEDA says: no such topic")


def test_a_number_that_does_not_count_beside_keda_is_said_not_to() -> None:
    assert "does not count" in told(Observed(WELL, True, deployment(0, 0)), replicas=2)["ScalingActive"].message


def test_a_broker_that_goes_away_leaves_the_topics_made() -> None:
    found = told(Observed(Topics(True, "It is away."), True, deployment(1, 1)))
    assert (found["TopicReady"].status, found["TopicReady"].reason) == ("Unknown", "BrokerAway")
    assert found["Ready"].status == "True"
    assert found["Degraded"].message == "It is away."


def test_the_time_of_a_condition_is_that_of_its_last_change_of_truth() -> None:
    def shown(status: str, before: list[dict[str, Any]], now: str) -> list[dict[str, Any]]:
        return with_times([Condition("Ready", status, "R", "M.")], before, 3, now)  # type: ignore[arg-type]

    first = shown("True", [], "t1")
    assert first[0]["lastTransitionTime"] == "t1"
    assert shown("True", first, "t2")[0]["lastTransitionTime"] == "t1"
    assert shown("False", first, "t2")[0]["lastTransitionTime"] == "t2"

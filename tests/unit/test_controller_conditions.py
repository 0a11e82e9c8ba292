"""What people are told of an AIModel, by what was observed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from controller.aimodel import AIModel, read
from controller.conditions import SENTENCES_MAX, Condition, conditions, removal_condition, with_times
from controller.observed import NodeEntry, Observed, Topics, ending, hindrance

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


def keda(status: str, message: str = "", *, paused: str = "") -> dict[str, Any]:
    found = [{"type": "Ready", "status": status, "message": message}]
    if paused:
        found.append({"type": "Paused", "status": "True", "message": paused})
    return {"status": {"conditions": found}}


WORKS = keda("True")


READY = [
    (
        Observed(WELL, True, deployment(0, 0), keda("False", "Wrong token.")),
        "KEDANotReady",
        "No node runs, and none will be started. KEDA says: Wrong token.",
    ),
    (Observed(WELL, True, deployment(0, 0)), "WaitingForKEDA", "none will be started. KEDA says: nothing yet."),
    (Observed(WELL, True, deployment(0, 0), {"status": {}}), "WaitingForKEDA", "Does its operator run?"),
    (Observed(WELL, True, deployment(0, 0), keda("Unknown", "I look.")), "WaitingForKEDA", "KEDA says: I look."),
    (Observed(WELL, True, deployment(0, 0), keda("True", paused="By you.")), "KEDAPaused", "KEDA says: By you."),
    (Observed(Topics(False, "No broker."), True), "WaitingForTopics", "Waiting for the model's topics: No broker."),
    (Observed(WELL, True), "WaitingForNodes", "Waiting for the Deployment."),
    (Observed(WELL, True, deployment(0, 0), WORKS), "ScaledToZero", "the first request has one started"),
    (Observed(WELL, False, deployment(0, 0)), "ScaledToZero", "spec.replicas is 0"),
    (Observed(WELL, True, deployment(2, 0)), "WaitingForNodes", "Waiting for 2 nodes to be ready"),
    (Observed(WELL, True, deployment(1, 0, "No GPU.")), "WaitingForNodes", "The Deployment says: No GPU."),
    (
        Observed(WELL, True, deployment(1, 0), nodes=nodes("Loading")),
        "WaitingForNodes",
        "Waiting for 1 node. n0: It is so: Loading.",
    ),
    (
        Observed(WELL, True, deployment(2, 0), nodes=nodes("Misconfigured", "Loading")),
        "Misconfigured",
        "No node works now. n0: It is so: Misconfigured.",
    ),
    (Observed(WELL, True, deployment(1, 0), nodes=nodes("RateLimited")), "WaitingForNodes", "Waiting for 1 node. n0:"),
    (Observed(WELL, True, deployment(3, 2), nodes=nodes("RateLimited", "Ready")), "Serving", "2 nodes of 3 ready."),
    (
        Observed(WELL, True, deployment(2, 2), nodes=nodes("RateLimited", "AuthenticationFailed")),
        "AuthenticationFailed",
        "No node works now. n1: It is so: AuthenticationFailed.",
    ),
    (
        Observed(WELL, True, deployment(2, 2), nodes=nodes("Paused", "Paused")),
        "Paused",
        "No node works now: 2 nodes paused by an operator.",
    ),
    (Observed(WELL, True, deployment(2, 2), nodes=nodes("Paused", "Ready")), "Serving", "2 nodes of 2 ready."),
    (
        Observed(WELL, True, deployment(2, 2), nodes=nodes("Paused", "RateLimited")),
        "RateLimited",
        "No node works now. n1: It is so: RateLimited.",
    ),
    (
        Observed(WELL, True, deployment(2, 1), nodes=(*nodes("RateLimited"), NodeEntry("dead", "Ready", runs=False))),
        "RateLimited",
        "No node works now. n0: It is so: RateLimited.",
    ),
    (
        Observed(WELL, True, deployment(1, 0, "Too late."), nodes=nodes("Loading"), stuck=("n0: ErrImagePull.",)),
        "WaitingForNodes",
        "Waiting for 1 node. n0: ErrImagePull.",
    ),
    (Observed(WELL, True, deployment(2, 1), stuck=("n1: ErrImagePull.",)), "Serving", "1 node of 2 ready."),
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


def test_one_that_works_is_enough_whoever_else_is_in_trouble() -> None:
    limited = NodeEntry("b", "RateLimited", runs=False)
    seen = Observed(WELL, True, deployment(2, 1), nodes=(NodeEntry("a", "Ready"), limited))
    assert seen.held_back is None
    assert told(seen)["Degraded"].reason == "RateLimited"


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


@pytest.mark.parametrize(
    ("scaled", "status", "reason", "degraded"),
    [
        (keda("False", "no such topic"), "False", "KEDANotReady", "True"),
        (keda("True", paused="no such topic"), "False", "KEDAPaused", "False"),
        (keda("Unknown", "no such topic"), "Unknown", "WaitingForKEDA", "False"),
    ],
)
def test_what_keda_complains_of_is_passed_on(scaled: dict[str, Any], status: str, reason: str, degraded: str) -> None:
    found = told(Observed(WELL, True, deployment(0, 0), scaled))
    scaling = found["ScalingActive"]
    assert (scaling.status, scaling.reason, scaling.message) == (status, reason, "KEDA says: no such topic")
    assert found["Degraded"].status == degraded


def test_there_is_nothing_to_scale_by_before_there_are_topics() -> None:
    scaling = told(Observed(Topics(False, "No broker."), True))["ScalingActive"]
    assert (scaling.status, scaling.reason) == ("False", "WaitingForTopics")


def test_a_number_that_does_not_count_beside_keda_is_said_not_to() -> None:
    assert "does not count" in told(Observed(WELL, True, deployment(0, 0), WORKS), replicas=2)["ScalingActive"].message


@pytest.mark.parametrize(
    ("replicas", "words"), [(9, "always 4 nodes, though spec.replicas says 9."), (3, "3 nodes. C"), (None, "1 node. C")]
)
def test_a_number_outside_its_bounds_is_said_to_be(replicas: int | None, words: str) -> None:
    assert words in told(Observed(WELL, False, deployment(3, 3)), replicas=replicas)["ScalingActive"].message


def test_pods_that_do_not_become_ready_are_told_of_beside_those_that_work() -> None:
    stuck = tuple(f"n{place}: No machine." for place in range(SENTENCES_MAX + 1))
    found = told(Observed(WELL, True, deployment(9, 1, "Too late."), WORKS, stuck=stuck))["Degraded"]
    assert (found.status, found.reason, found.is_wrong) == ("True", "NodesNotStarted", True)
    assert found.message == " ".join(stuck[:SENTENCES_MAX])


def pod(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]
    return {
        "metadata": {"name": "n0"},
        "status": {"conditions": conditions, "containerStatuses": [*containers], **more},
    }


def waits(reason: str, **more: Any) -> dict[str, Any]:
    return {"restartCount": 0, "state": {"waiting": {"reason": reason, **more}}}


NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def ended(at: str | None = "2030-01-01T11:46:00Z") -> dict[str, Any]:
    return {"restartCount": 3, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": at}}}


ENDED = ended()


def unmounted(since: str, status: str = "False") -> dict[str, Any]:
    placed = {"type": "PodScheduled", "status": "True"}
    mounted = {"type": "PodReadyToStartContainers", "status": status, "lastTransitionTime": since}
    return pod(waits("ContainerCreating"), conditions=[placed, mounted])


UNPLACED = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient GPU."}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pod(conditions=[UNPLACED]), "0/3 nodes are available: 3 Insufficient GPU."),
        (pod(waits("ImagePullBackOff", message="Back-off pulling it.")), "ImagePullBackOff: Back-off pulling it."),
        (pod(waits("CreateContainerConfigError")), "CreateContainerConfigError: no more is known."),
        (pod(ENDED | {"state": {"running": {}}}), "ended with code 137 (OOMKilled), and this is restart 3;"),
        (pod(waits("CrashLoopBackOff") | ENDED), "ended with code 137"),
        (pod(ended("2030-01-01T11:44:00Z") | {"state": {"running": {}}}), None),  # not ready for another reason
        (pod(ended(None) | {"state": {"running": {}}}), None),
        (pod(waits("CrashLoopBackOff") | ended(None)), "CrashLoopBackOff: no more is known."),
        (unmounted("2030-01-01T11:57:59Z"), "not ready since 2030-01-01T11:57:59Z: is there each Secret,"),
        (unmounted("2030-01-01T11:58:00Z"), None),
        (unmounted("2030-01-01T11:00:00Z", "True"), None),  # as while its image is pulled
        (pod(waits("PodInitializing"), initContainerStatuses=[waits("CrashLoopBackOff")]), "CrashLoopBackOff: no more"),
        (pod({"state": {"running": {}}}, initContainerStatuses=[ENDED | {"state": {"terminated": {}}}]), None),
        (pod(waits("ContainerCreating")), None),
        (pod(waits("PodInitializing")), None),
        (pod({"state": {"running": {}}}), None),
        (pod(ENDED, conditions=[{"type": "Ready", "status": "True"}]), None),
        (pod(ENDED, phase="Failed"), None),
        (pod(ENDED) | {"metadata": {"name": "n0", "deletionTimestamp": "2030-01-01T00:00:00Z"}}, None),
        ({"metadata": {"name": "n0"}}, None),
    ],
)
def test_why_a_pod_does_not_become_ready_is_said_in_kubernetes_words(found: dict[str, Any], words: str | None) -> None:
    assert words in hindrance(found, NOW) if words else not hindrance(found, NOW)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"reason": "Evicted", "message": "Low on ephemeral-storage."}, "Evicted: Low on ephemeral-storage."),
        ({"reason": "OutOfcpu", "conditions": []}, "OutOfcpu: no more is known."),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, "Failed: no more is known."),
        ({"startTime": "2030-01-01T11:44:59Z"}, None),
        ({"startTime": None}, None),
        ({"phase": "Succeeded"}, None),
        ({"phase": "Running"}, None),
        (
            {
                "startTime": "2029-01-01T00:00:00Z",
                "conditions": [
                    {"type": "DisruptionTarget", "lastTransitionTime": "2030-01-01T11:45:00Z"},
                    {"type": "PodScheduled", "lastTransitionTime": "2029-01-01T00:00:00Z"},
                ],
            },
            "Failed: no more is known.",
        ),
    ],
)
def test_why_a_pod_was_ended_lately_is_said_in_kubernetes_words(status: dict[str, Any], words: str | None) -> None:
    found = {"metadata": {"name": "n0"}, "status": {"phase": "Failed", "startTime": "2030-01-01T11:45:00Z", **status}}
    assert ending(found, NOW) == (words or "")


def test_what_ended_a_node_is_told_until_its_successor_is_ready() -> None:
    evicted = ("n0: Evicted: Low on ephemeral-storage.",)
    waits = told(Observed(WELL, True, deployment(1, 0), WORKS, nodes=nodes("Loading"), ended=evicted))
    assert waits["Ready"].message == f"Waiting for 1 node. {evicted[0]}"
    assert (waits["Degraded"].reason, waits["Degraded"].message) == ("NodesNotStarted", evicted[0])
    assert told(Observed(WELL, True, deployment(1, 1), WORKS, ended=evicted))["Degraded"].reason == "Well"


def test_nodes_that_a_quota_forbids_are_told() -> None:
    refused = deployment(2, 1)
    refused["status"]["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]
    found = told(Observed(WELL, True, refused, WORKS))["Degraded"]
    assert (found.reason, found.message) == ("RolloutFailed", "exceeded quota")


@pytest.mark.parametrize(
    ("kind", "status"),
    [("Available", "True"), ("Available", "False"), ("Progressing", "True"), ("ReplicaFailure", "False")],
)
def test_what_a_deployment_says_while_nothing_is_wrong_is_no_failure(kind: str, status: str) -> None:
    well = deployment(1, 1)
    well["status"]["conditions"] = [{"type": kind, "status": status, "message": "It is so."}]
    assert told(Observed(WELL, True, well, WORKS))["Degraded"].reason == "Well"


def test_what_is_in_the_way_of_a_deletion_is_a_warning_and_waiting_for_nodes_is_none() -> None:
    assert removal_condition("Waiting for the topics.", reason="DeletingTopics").is_wrong
    assert not removal_condition("Waiting for 2 nodes.", reason="Draining").is_wrong


def test_a_paused_deployment_is_told_with_what_ends_that() -> None:
    held = deployment(1, 1)
    held["spec"]["paused"] = True
    found = told(Observed(WELL, True, held, WORKS))
    assert found["Degraded"].reason == "RolloutPaused"
    assert "`kubectl -n default rollout resume deployment/aimodel-m`" in found["Degraded"].message
    assert found["Ready"].status == "True"


def test_a_broker_that_goes_away_leaves_the_topics_made() -> None:
    found = told(Observed(Topics(True, "It is away."), True, deployment(1, 1)))
    assert (found["TopicReady"].status, found["TopicReady"].reason) == ("Unknown", "BrokerAway")
    assert found["Ready"].status == "True"
    assert found["Degraded"].message == "It is away."


def test_the_time_of_a_condition_is_that_of_its_last_change_of_truth() -> None:
    def shown(status: str, before: list[dict[str, Any]], now: str) -> list[dict[str, Any]]:
        return with_times([Condition("Ready", status, "R", "M.")], before, 3, now)  # type: ignore[arg-type]

    first = shown("True", [], "t1")
    assert (first[0]["lastTransitionTime"], first[0]["observedGeneration"]) == ("t1", 3)
    assert shown("True", first, "t2")[0]["lastTransitionTime"] == "t1"
    assert shown("False", first, "t2")[0]["lastTransitionTime"] == "t2"

"""The figures of several processes, told as if there were one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import generate_latest

from gateway.keys.keyring import Keyring
from gateway.keys.limit_storage import MEMORY
from gateway.keys.quota import Quota
from gateway.metrics import GatewayMetrics
from gateway.processes.figures import SEEN_BY_ALL, collected, lasting, merged, rendered
from process.lifecycle import Tasks
from process.logging import Log

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.processes.figures import Family


def process(answered: int, *, nodes: int, seconds: float) -> GatewayMetrics:
    metrics = GatewayMetrics()
    metrics.requests["answered"].inc(answered)
    metrics.open.set(answered)
    metrics.nodes.set(nodes)
    for _ in range(answered):
        metrics.seconds.observe(seconds)
    return metrics


def value(families: list[Family], name: str, **labels: str) -> float:
    (found,) = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return found


def test_what_is_counted_is_added_and_what_all_see_is_not() -> None:
    first, second = process(3, nodes=2, seconds=0.2), process(4, nodes=2, seconds=20)
    second.requests["failed"].inc()
    together = merged([collected(first.registry), collected(second.registry)])
    assert value(together, "gateway_requests_total", outcome="answered") == 7
    assert value(together, "gateway_requests_total", outcome="failed") == 1
    assert value(together, "gateway_requests_open") == 7
    assert value(together, "gateway_nodes") == 2
    assert value(together, "gateway_request_seconds_bucket", le="0.25") == 3
    assert value(together, "gateway_request_seconds_bucket", le="+Inf") == 7
    began = [value(collected(each.registry), "gateway_request_seconds_created") for each in (first, second)]
    assert value(together, "gateway_request_seconds_created") == min(began)


def test_what_waits_at_the_other_processes_does_not_wait_elsewhere() -> None:
    first, second = process(0, nodes=1, seconds=0), process(0, nodes=1, seconds=0)
    for metrics, waiting, elsewhere in ((first, 3, 5 + 10), (second, 5, 3 + 10)):
        metrics.waiting.set(waiting)
        metrics.waiting_elsewhere.set(elsewhere)
    together = merged([collected(first.registry), collected(second.registry)])
    assert value(together, "gateway_requests_waiting") == 8
    assert value(together, "gateway_requests_waiting_elsewhere") == 10
    second.waiting_elsewhere.set(0)  # it has heard nothing yet
    together = merged([collected(second.registry)])
    assert value(together, "gateway_requests_waiting_elsewhere") == 0


def still(page: bytes) -> list[bytes]:
    """Without what goes on meanwhile: the processor's time, memory and files of the process itself."""
    return [line for line in page.splitlines() if not line.startswith(b"process_")]


def test_one_process_reads_as_it_does_alone() -> None:
    metrics = process(5, nodes=1, seconds=1.0)
    alone = still(generate_latest(metrics.registry))
    assert still(rendered(collected(metrics.registry))) == alone
    assert still(rendered(merged([collected(metrics.registry)]))) == alone


def test_of_a_process_that_has_ended_its_counts_stay_and_nothing_else() -> None:
    gone = lasting(collected(process(3, nodes=2, seconds=0.2).registry))
    together = merged([gone, collected(process(4, nodes=1, seconds=0.2).registry)])
    assert value(together, "gateway_requests_total", outcome="answered") == 7
    assert value(together, "gateway_request_seconds_count") == 7
    assert value(together, "gateway_requests_open") == 4
    assert value(together, "gateway_nodes") == 1


async def test_of_every_gauge_it_is_decided_whether_all_processes_see_the_same(tmp_path: Path) -> None:
    states = ("open", "held", "unsettled", "owned", "waiting")
    held = {f"gateway_requests_{state}" for state in states}
    of_each = {"process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds"}
    added_up = held | of_each | {"gateway_limited_requests_open"}
    reckoned = {"gateway_requests_waiting_elsewhere"}
    registry = GatewayMetrics().registry
    Quota(MEMORY, Tasks(Log("gateway")), registry)
    await Keyring(f"sqlite+aiosqlite:///{tmp_path}/keys.db", registry, stale_s=1).aclose()
    gauges = {family.name for family in collected(registry) if family.type == "gauge"}
    assert gauges == added_up | reckoned | set(SEEN_BY_ALL)

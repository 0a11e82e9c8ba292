"""A broker that is slow to say what it has, or to take anything: what clients and the ledger notice of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.rough_producer import RoughProducer
from tests.simulation.small_fleet import answered, simulated
from tests.waiting import until

if TYPE_CHECKING:
    import pytest

    from tests.simulation.fleet import Fleet


def test_an_answer_does_not_wait_for_a_receipt_that_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that has the request shows that it is in its topic."""
    real = RoughProducer._confirm

    def without_receipts_of_requests(producer: RoughProducer, message: object) -> None:
        if "requests" not in producer.topic.name:
            real(producer, message)  # type: ignore[arg-type]

    monkeypatch.setattr(RoughProducer, "_confirm", without_receipts_of_requests)

    async def scenario(fleet: Fleet) -> None:
        asked = await answered(fleet)
        assert asked.status == 200
        assert fleet.loop.now - asked.began_at < 5.0

    assert simulated(scenario, "management", "gateway", "node") == []


def test_a_gateway_that_leaves_waits_with_what_an_answer_cost_until_it_is_taken() -> None:
    """Its node is dead, so that nobody else knows of the charge."""

    async def scenario(fleet: Fleet) -> None:
        (gateway,), (node,) = fleet.of("gateway"), fleet.of("node")
        fleet.sea.block(fleet.topics.results, 7.0)
        assert (await answered(fleet)).status == 200
        node.now.die()
        gateway.stop.set()
        await gateway.now.ended.wait()
        await until(lambda: len(fleet.books.charges) == 1, within_s=5.0, every_s=0.1)

    assert simulated(scenario, "management", "gateway", "node") == []

"""What the measurements of scale judge, show and keep."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from bench.generator import Percentiles, Step
from bench.process import Process, free_ports
from bench.result import spreads
from bench.scale import soak, width
from bench.scale.crowd import presence
from bench.scale.death import Killed
from bench.scale.flat import growth
from bench.scale.held import Held
from bench.scale.measurements import MEASUREMENTS
from bench.scale.record import Record, at_most, none_lost
from bench.scale.report import PAGE, page_with
from bench.scale.watch import Sampled, Watch
from bench.scale.width import Cost, Shape, Width
from bench.spread import Spread
from wire import codec

if TYPE_CHECKING:
    from pathlib import Path


def ms(value: float) -> Percentiles:
    return Percentiles(count=1, mean=value, p50=value, p90=value, p99=value, p999=value, max=value)


def test_what_only_grows_in_its_first_quarter_is_flat() -> None:
    at = list(range(100))
    assert growth(at, [min(each, 25) for each in at]) == pytest.approx(0, abs=0.1)


def test_what_grows_all_the_time_is_not_flat_through_noise() -> None:
    dice = random.Random(1)
    at = [number * 2.0 for number in range(200)]
    values = [100 + 0.1 * moment + dice.uniform(-3, 3) for moment in at]
    assert growth(at, values) == pytest.approx(0.1 * 0.75 * at[-1], rel=0.1)


def test_three_samples_at_least_are_judged() -> None:
    with pytest.raises(ValueError, match="three samples"):
        growth([0.0, 10.0], [1.0, 2.0])


def soaked(per_sample_mib: float, per_sample_files: float = 0.0) -> soak.Soak:
    samples = [
        Sampled(float(at), 70 + per_sample_mib * at, round(20 + per_sample_files * at), cpu_s=0.0) for at in range(40)
    ]
    seen = {"gateway": samples, "broker": samples}
    return soak.Soak(requests=100, seconds=40, answers=100, failed=0, first_error="", seen=seen)


def missed(rows: list[Any]) -> list[str]:
    return [row.what for row in rows if row.met is False]


def test_a_soak_tells_which_process_grows_and_does_not_judge_the_broker() -> None:
    assert missed(soak.rows(soaked(0.05))) == []
    assert missed(soak.rows(soaked(0.5))) == ["gateway: memory rises in the last three quarters by"]
    assert missed(soak.rows(soaked(0.0, 0.5))) == ["gateway: open files rise by"]


def test_an_answer_that_is_missing_is_never_within_the_aim() -> None:
    assert none_lost(100, 0, "").met is True
    lost = none_lost(99, 1, "the stream broke off")
    assert lost.met is False
    assert lost.measured == "1 of 100: the stream broke off"


def test_an_aim_is_met_up_to_itself() -> None:
    assert at_most("share", 2.0, 2.0, "%").met is True
    assert at_most("share", 2.01, 2.0, "%").met is False


def cost(shape: Shape, *rounds_ms: float) -> Cost:
    return Cost(
        shape=shape,
        busy_ms=spreads([{"gateways": busy_ms / 2, "nodes": busy_ms / 2} for busy_ms in rounds_ms]),
        idle_cores=spreads([{"gateways": 0.01}]),
        p50_ms=Spread.of([5.0]),
        failed=0,
        first_error="",
    )


def test_a_shape_is_measured_by_the_one_of_half_as_many_and_models_by_one_model() -> None:
    costs = [
        cost(Shape(), 4.0),
        cost(Shape(gateways=2), 4.4),
        cost(Shape(gateways=4), 6.0),
        cost(Shape(nodes=2), 4.0),
        cost(Shape(models=1), 2.0),
        cost(Shape(models=1000), 2.2),
    ]
    rows = width.rows(Width(rate=100, seconds=10, rounds=1, costs=costs))
    assert [row.measured.partition(" ")[0] for row in rows[:-1] if row.met is not None] == [
        "+10%",
        "+36%",
        "+0%",
        "+10%",
    ]
    assert missed(rows) == ["4 gateways, 1 nodes: CPU per request"]


def test_a_shape_is_compared_within_each_round() -> None:
    costs = [cost(Shape(), 2.0, 4.0, 8.0), cost(Shape(nodes=2), 2.2, 4.2, 7.2)]
    rows = width.rows(Width(rate=100, seconds=10, rounds=3, costs=costs))
    assert rows[1].measured.startswith("+5% (-10%…+10%): 4.20 ms (")
    assert missed(rows) == []


def test_what_clients_notice_of_a_death_is_told_apart_from_what_was_before() -> None:
    steps = [(0.0, 10.0), (0.25, 12.0), (0.5, 11.0), (1.0, 900.0), (1.25, 500.0), (1.5, 12.0)]
    killed = Killed(
        stream=False,
        rate=10,
        killed_at_s=1.0,
        answers=6,
        failed=0,
        first_error="",
        total_ms=ms(900),
        timeline=[Step(at, 1, ms(latest)) for at, latest in steps],
    )
    assert killed.bump == (12.0, 900.0)
    assert killed.recovered_s == pytest.approx(0.5)


def test_a_record_is_read_as_it_was_written() -> None:
    found = Held(
        streams=2,
        chunks_each=3,
        every_s=1.0,
        gateway_mib=(60.0, 61.0),
        nodes_mib=(70.0, 70.5),
        gateway_cores=0.1,
        nodes_cores=0.2,
        answers=2,
        failed=0,
        first_error="",
        chunk_delay_ms=ms(1.0),
    )
    from bench.machine import this_machine

    record = Record("today", "commit", "command", 1.0, 0.1, 0.2, this_machine(), found)
    assert msgspec.json.decode(msgspec.json.encode(record), type=Record[Held]) == record
    assert found.kib_each == 512


def test_the_page_shows_what_is_recorded() -> None:
    page = PAGE.read_text()
    assert page == page_with(page), "run scripts/numbers"


def test_every_measurement_has_a_quick_form_with_the_same_options() -> None:
    assert all(each.full.keys() == each.quick.keys() for each in MEASUREMENTS.values())


def test_a_simulated_node_says_what_gateways_read() -> None:
    said = presence("node-host-0123456789abcdef", 3, 2, 1)
    assert codec.decode_presence(codec.encode(said)).model == "crowd-1"


def test_many_nodes_in_one_process_all_take_work_and_are_watched(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "bench.scale.many_nodes", "3", str(port)]
    process = Process("nodes", command, {"PULSAR_URL": "memory:"}, [port], tmp_path / "log")
    try:
        process.wait_until_ready([(port, "/readyz")])
        with Watch([process], every_s=60) as watch:
            pass
    finally:
        process.kill()
    first, last = watch.seen["nodes"]
    assert 20 < first.resident_mib <= watch.grown_mib(["nodes"])[1]
    assert last.files > 5

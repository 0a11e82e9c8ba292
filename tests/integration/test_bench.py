"""``fleet bench`` as it is typed: a short run against the provider and ``fleet up``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.arm import DIRECT, EMBEDDED
from bench.command import QUICK_WORKLOADS
from bench.result import Result

ROOT = Path(__file__).parent.parent.parent


def bench(*arguments: str, program: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", program] if program else ["-m", "fleet"]), "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def test_a_quick_comparison_measures_every_workload_without_an_error(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no Go to build the benchmarks' programs")
        pytest.skip("there is no Go to build the benchmarks' programs")
    output = tmp_path / "quick.json"
    done = bench("--quick", "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert "Processor time" in done.stdout
    result = msgspec.json.decode(output.read_bytes(), type=Result)
    assert (result.void, result.left_out, set(result.arms)) == ([], {}, {DIRECT, EMBEDDED})
    for workload in QUICK_WORKLOADS:
        for arm in (DIRECT, EMBEDDED):
            assert result.counted(workload, arm)[0].answers > 0
        assert result.counted(workload, EMBEDDED)[0].cpu_s["fleet up"] > 0
    paced = result.counted("paced-128", EMBEDDED)[0]
    assert paced.chunk_delay_ms is not None
    assert paced.chunk_delay_ms.count == paced.chunks == 50 * paced.answers
    assert result.arms[EMBEDDED].idle_mib["fleet up"].median > 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".svg"}


def test_an_unknown_arm_is_refused_with_the_known_ones() -> None:
    done = bench("--arms", "direct,nobody")
    assert done.returncode == 2
    assert "'nobody' is none of direct, echo, embedded, pulsar, litellm, fastchat" in done.stderr


def test_outside_the_source_tree_it_is_said_that_there_are_no_benchmarks() -> None:
    program = "import sys; sys.modules['bench'] = None; from fleet.__main__ import main; main()"
    done = bench(program=program)
    assert done.returncode == 1
    assert "run this in the source tree" in done.stderr

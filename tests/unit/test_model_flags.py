"""What the model server is told when it is started."""

from __future__ import annotations

import pytest

from workernode.local.server.ending import CannotServe
from workernode.local.server.flags import read


@pytest.mark.parametrize(
    "flag",
    [
        *(
            "--port=70000",
            "--port=-1",
            "--drain-s=nan",
            "--drain-s=-1",
            "--drain-s=inf",
            "--stuck-s=x",
            "--max-batch=0",
        ),
        *(f"--seed={2**63}", f"--seed={-(2**63) - 1}", "--seed=1.5", "--device", "--dtype=int8", "--nonsense=1"),
    ],
)
def test_a_wrong_flag_is_told_before_anything_is_loaded(flag: str) -> None:
    with pytest.raises(CannotServe) as raised:
        read(["--model", "m", flag], {})
    assert raised.value.kind == "usage"
    assert raised.value.sentence.startswith("The flags are wrong: ")


@pytest.mark.parametrize(
    ("name", "value"), [("SEED", str(2**63)), ("DRAIN_S", "nan"), ("DTYPE", "int8"), ("THREADS", "-1")]
)
def test_a_wrong_variable_is_told_as_a_flag_is(name: str, value: str) -> None:
    with pytest.raises(CannotServe) as raised:
        read(["--model", "m"], {name: value})
    assert raised.value.kind == "usage"


def test_a_flag_wins_over_its_variable() -> None:
    read_so = read(
        ["--model", "m", "--seed", "-7", "--no-compile"], {"SEED": "1", "COMPILE": "true", "MODEL_PATH": "x"}
    )
    assert (read_so.model, read_so.seed, read_so.compile) == ("m", -7, False)
    assert read([], {"SEED": "1", "COMPILE": "true", "MODEL_PATH": "x", "MODEL_NAME": "y"}).model == "x"
    assert read([], {"MODEL_NAME": "y"}).seed is None


def test_a_server_without_a_model_says_so() -> None:
    with pytest.raises(CannotServe, match="Say which model"):
        read([], {"MODEL_PATH": ""})

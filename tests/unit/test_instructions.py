"""When a hot path is said to take more instructions than it did."""

from __future__ import annotations

import pytest

from bench.instructions import RECORD_ANEW, Counted, Incomparable, recorded, worse

BEFORE = Counted(calibration=1_000_000, whole=2_000_000, stream=5_000_000)


def test_what_takes_three_percent_more_is_let_pass_and_a_little_above_is_told_with_both_numbers_and_the_command() -> (
    None
):
    assert worse(Counted(1_000_000, 2_055_000, 5_140_000), BEFORE) == []
    (sentence,) = worse(Counted(1_000_000, 2_000_000, 5_200_000), BEFORE)
    assert "5,200,000" in sentence
    assert "5,000,000" in sentence
    assert "+4.0%" in sentence
    assert RECORD_ANEW in sentence


def test_both_kinds_are_told_of() -> None:
    assert len(worse(Counted(1_000_000, 3_000_000, 6_000_000), BEFORE)) == 2


def test_what_takes_fewer_is_no_trouble() -> None:
    assert worse(Counted(1_000_000, 1_000_000, 1_000_000), BEFORE) == []


@pytest.mark.parametrize("calibration", [980_000, 1_020_000])
def test_nothing_is_said_where_the_interpreter_is_another_one(calibration: int) -> None:
    with pytest.raises(Incomparable, match=f"{calibration:,}.*1,000,000.*{RECORD_ANEW}"):
        worse(Counted(calibration, 2_000_000, 5_000_000), BEFORE)


def test_there_is_a_record_that_names_what_it_was_made_with() -> None:
    record = recorded()
    assert record.python
    assert record.valgrind
    assert 0 < record.counted.whole < record.counted.stream

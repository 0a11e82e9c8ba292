"""The hot path takes no more instructions than recorded (bench/instructions.py)."""

from __future__ import annotations

import os
import shutil

import pytest

from bench.instructions import Incomparable, count, recorded, worse


@pytest.mark.timeout(400)  # valgrind is slow, and slower beside other tests
def test_a_whole_answer_and_a_stream_take_at_most_three_percent_more_instructions_than_recorded() -> None:
    if shutil.which("valgrind") is None and os.environ.get("CI") != "true":
        pytest.skip("There is no valgrind: it is Debian's package of that name.")
    now = count()
    try:
        sentences = worse(now, recorded().counted)
    except Incomparable as why:
        pytest.skip(str(why))
    assert not sentences, " ".join(sentences)

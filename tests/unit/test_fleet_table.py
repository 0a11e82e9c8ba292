"""Tables on a terminal: their columns, and what of a cell they show."""

from __future__ import annotations

from fleet.reports.rows import error_rows
from fleet.table import CELL_CHARS_MAX, table
from fleet.terminal import fitting, width_of
from management.remedies import remedy_of


def test_a_column_is_as_wide_as_a_terminal_shows_what_is_in_it() -> None:
    names = ("模型-大", "e\N{COMBINING ACUTE ACCENT}te", "m")
    assert table([{"model": name, "n": n} for name, n in zip(names, (7, 12, None), strict=True)]).splitlines() == [
        "model     n",
        "模型-大   7",
        "e\N{COMBINING ACUTE ACCENT}te      12",
        "m         -",
    ]


def test_only_the_last_column_shows_the_whole_of_a_long_text() -> None:
    long = "x" * (CELL_CHARS_MAX + 1)
    head, row = table([{"a": long, "b": long}]).splitlines()
    assert row == f"{'x' * (CELL_CHARS_MAX - 1)}…  {long}"
    assert head == f"{'a'.ljust(CELL_CHARS_MAX)}  b"


def test_what_to_do_about_an_error_is_told_whole() -> None:
    told = remedy_of("node", "upstream_tls_failed")
    answer = {
        "data": [
            {"last_ms": 0, "count": 1, "scope": "node", "code": "upstream_tls_failed", "models": [], "keys": [],
             "last_message": None, **told._asdict()}
        ]
    }  # fmt: skip
    assert told.remedy in table(error_rows(answer))


def test_a_line_is_cut_where_the_terminal_ends() -> None:
    assert fitting("模型模型", 5) == "模型"
    assert fitting("model", 5) == "model"
    assert fitting("models", 5) == "model"
    assert width_of(fitting("x模" * 80, 80)) == 79

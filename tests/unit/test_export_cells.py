"""What stands in an exported cell."""

from __future__ import annotations

import pytest

from management.reading.export import safe_cell


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r"])
def test_a_text_of_a_clients_is_no_formula_to_a_spreadsheet(begins: str) -> None:
    assert safe_cell(f"{begins}1+1") == f"'{begins}1+1"
    assert safe_cell(f"1{begins}1") == f"1{begins}1"
    assert safe_cell("") == ""

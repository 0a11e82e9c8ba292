"""What the commands say of themselves."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from fleet.__main__ import main

CONTEXT = click.Context(main)
GROUPS = [name for name in main.list_commands(CONTEXT) if isinstance(main.get_command(CONTEXT, name), click.Group)]


@pytest.mark.parametrize("words", [(), *((name,) for name in GROUPS)])
def test_a_list_of_commands_cuts_no_sentence(words: tuple[str, ...]) -> None:
    told = CliRunner().invoke(main, [*words, "--help"]).output
    assert "Commands:" in told
    assert [line for line in told.partition("Commands:")[2].splitlines() if line.endswith("...")] == []


PLAIN = {"bench", "container", "credentials", "local"}
"""They end with 1 where they did not do what they were asked, as every program does, or as what they run does."""


@pytest.mark.parametrize("name", sorted({*main.list_commands(CONTEXT)} - PLAIN))
def test_whoever_asks_for_help_learns_how_a_command_ends(name: str) -> None:
    assert "Exit codes:" in CliRunner().invoke(main, [name, "--help"]).output.replace("\n", " ")

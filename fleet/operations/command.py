"""The commands ``fleet pause | resume | drain | cancel``."""

from __future__ import annotations

import json
from typing import Any

import click

from fleet.reports.management import EPILOG, Management
from fleet.terminal import harmless

scope_option = click.option("--model", "is_model", is_flag=True, help="NAME is a model: all of its nodes are meant.")
reason_option = click.option("--reason", help="For whoever reads what was done.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the REST API answers.")


@click.command(epilog=EPILOG)
@click.argument("name")
@scope_option
@reason_option
@json_option
def pause(name: str, *, is_model: bool, reason: str | None, as_json: bool) -> None:
    """Let a node, or all nodes of a model, take no new work.

    A paused model stays so: nodes that start later take no work either.
    """
    _order("pause", name, is_model, reason, as_json)


@click.command(epilog=EPILOG)
@click.argument("name")
@scope_option
@reason_option
@json_option
def resume(name: str, *, is_model: bool, reason: str | None, as_json: bool) -> None:
    """Let a node, or all nodes of a model, take work again."""
    _order("resume", name, is_model, reason, as_json)


@click.command(epilog=EPILOG, short_help="Let a node, or a model's nodes, finish and leave.")
@click.argument("name")
@scope_option
@reason_option
@json_option
def drain(name: str, *, is_model: bool, reason: str | None, as_json: bool) -> None:
    """Let a node, or all nodes that a model has now, finish their work and leave."""
    _order("drain", name, is_model, reason, as_json)


@click.command(epilog=EPILOG, short_help="End a request.")
@click.argument("request_id")
@reason_option
@json_option
def cancel(request_id: str, *, reason: str | None, as_json: bool) -> None:
    """End a request: its client gets an error, and what was generated is charged."""
    _tell(Management().act(action="cancel", request_id=request_id, reason=reason), as_json)


def _order(action: str, name: str, is_model: bool, reason: str | None, as_json: bool) -> None:
    scope = "model" if is_model else "node"
    _tell(Management().act(action=action, scope=scope, subject=name, reason=reason), as_json)


def _tell(done: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo(harmless(done["outcome"] or f"It is under way: action {done['action_id']}."))

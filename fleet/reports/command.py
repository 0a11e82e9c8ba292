"""The commands that show what management's REST API tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from fleet.reports.management import EPILOG, Management
from fleet.reports.rows import error_rows, model_rows, node_rows
from fleet.table import table
from fleet.terminal import time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DELETED = "The events of this request are deleted: --json has what is kept, its end and its charge."
BY = ("day", "model", "key", "node", "tag")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the REST API answers.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Rows at most."
)


@click.command(epilog=EPILOG)
@click.option("--by", multiple=True, type=click.Choice(BY), help="What to sum by; again to combine.")
@click.option("--model")
@click.option("--key", "key_id", help="A key's name.")
@click.option("--tag", help="name=value, or a name for all its values.")
@click.option("--since", metavar="DAY", help="Such as 2026-01-31.")
@click.option("--until", metavar="DAY")
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True, help="Rows at most.")
@json_option
def usage(*, as_json: bool, **asked: Any) -> None:
    """What was used, and what customers pay for it."""
    _show("usage", asked, as_json, _usage_rows, "Nothing was used.")


@click.command(epilog=EPILOG, short_help="How requests ended, or all that is known of one.")
@click.argument("request_id", required=False)
@click.option("--status", help="answered, failed, cancelled, expired, dead or abandoned.")
@click.option("--model")
@click.option("--key", "key_id", help="A key's name.")
@click.option("--node")
@limit_option
@json_option
def requests(request_id: str | None, *, as_json: bool, **asked: Any) -> None:
    """How requests ended, the newest first; or everything that is known of one REQUEST_ID."""
    if request_id is not None:
        _show(f"requests/{quote(request_id, safe='')}", {}, as_json, _timeline_rows, _DELETED)
    else:
        _show("ends", asked, as_json, _end_rows, "No such request has ended.")


@click.command(epilog=EPILOG)
@click.option("--gone", type=click.IntRange(0, 1000), default=0, show_default=True, help="How many that have left.")
@json_option
def nodes(*, as_json: bool, gone: int) -> None:
    """The nodes that are there."""
    _show("nodes", {"gone": gone}, as_json, node_rows, "No node is there.")


@click.command(epilog=EPILOG)
@json_option
def models(*, as_json: bool) -> None:
    """The models: their nodes, what waits, how fast they are."""
    _show("models", {}, as_json, model_rows, "No model is there.")


@click.command(epilog=EPILOG)
@click.option("--since", metavar="DAY", help="Such as 2026-01-31; six days ago without it.")
@click.option("--until", metavar="DAY")
@click.option(
    "--scope",
    type=click.Choice(("request", "attempt", "node")),
    help="Its client got it, another attempt followed, or a node told.",
)
@click.option("--model")
@click.option("--key", "key_id", help="A key's name.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="Rows at most.")
@json_option
def errors(*, as_json: bool, **asked: Any) -> None:
    """What went wrong, the latest first, and what to do about it."""
    _show("errors", asked, as_json, error_rows, "Nothing went wrong.")


def _usage_rows(answer: Any) -> list[dict[str, Any]]:
    rows = []
    for row in answer["data"]:
        shown = {name: row[name] for name in ("day", "model", "key_id", "node", "tag") if name in row}
        money = " + ".join(f"{each['amount']} {each['currency']}" for each in row["amounts"])
        rows.append(
            shown
            | {name: row[name] for name in ("requests", "prompt_tokens", "completion_tokens")}
            | {"amount": money, "without_price": row["unpriced_requests"]}
        )
    return rows


def _end_rows(answer: Any) -> list[dict[str, Any]]:
    names = ("request_id", "status", "model", "key_id", "node")
    return [{"time": time_of(row["time_ms"]), **{name: row[name] for name in names}} for row in answer["data"]]


def _timeline_rows(answer: Any) -> list[dict[str, Any]]:
    rows = []
    for stored in answer["events"]:
        event, data = stored["event"], stored["event"].get("data") or {}
        used = data.get("usage") or {}
        rows.append(
            {
                "time": event["time"],
                "type": event["type"].removeprefix("io.workernode."),
                "status": data.get("status"),
                "attempt": data.get("attempt"),
                "node": data.get("node"),
                "tokens": used.get("prompt_tokens", 0) + used.get("completion_tokens", 0),
                "error": data.get("error_code"),
                "message": data.get("message"),
            }
        )
    return rows


def _show(
    path: str,
    asked: Mapping[str, Any],
    as_json: bool,
    rows_of: Callable[[Any], Sequence[Mapping[str, Any]]],
    nothing: str,
) -> None:
    answer = Management().get(path, asked)
    if as_json:
        click.echo(json.dumps(answer))
        return
    rows = rows_of(answer)
    click.echo(table(rows) if rows else nothing)
    if answer.get("next_cursor"):
        click.echo(
            "There are more: narrow the question, raise --limit, or follow the REST API's cursor (--json).", err=True
        )

"""The commands ``fleet usage``, ``fleet requests`` and ``fleet nodes``."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import click

from fleet.database_command import EXIT_NOT_DONE
from fleet.doctor.asking import Unanswered, ask
from fleet.reports.settings import ReportSettings
from fleet.table import table
from process.settings import EXIT_WRONG_SETTING, WrongSettings, load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EXIT_NO_MANAGEMENT = 4
BY = ("day", "model", "key", "node", "tag")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the REST API answers.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Rows at most."
)
EPILOG = (
    "Management is MANAGEMENT_URL, with MANAGEMENT_KEY. Exit codes: 0 done, 1 refused, 2 a wrong setting, 4 no answer."
)


@click.command(epilog=EPILOG)
@click.option("--by", multiple=True, type=click.Choice(BY), help="Again to combine.")
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


@click.command(epilog=EPILOG)
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
        _show(f"requests/{quote(request_id, safe='')}", {}, as_json, _timeline_rows, "")
    else:
        _show("ends", asked, as_json, _end_rows, "No request has ended.")


@click.command(epilog=EPILOG)
@click.option("--gone", type=click.IntRange(0, 1000), default=0, show_default=True, help="How many that have left.")
@json_option
def nodes(*, as_json: bool, gone: int) -> None:
    """The nodes that are there."""
    _show("nodes", {"gone": gone}, as_json, _node_rows, "No node is there.")


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
    return [{"time": _time(row["time_ms"]), **{name: row[name] for name in names}} for row in answer["data"]]


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
            }
        )
    return rows


def _node_rows(answer: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": row["name"],
            "model": row["model"],
            "type": row["type"],
            "state": row["state"] if row["present"] else "gone",
            "busy": f"{row['busy']}/{row['slots']}" if row["present"] else None,
            "service_ms": row["service_ms"],
            "heard_ms_ago": row["heard_ms_ago"],
            "version": row["version"],
            "sentence": row["sentence"],
        }
        for row in answer["data"]
    ]


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def _show(
    path: str,
    asked: Mapping[str, Any],
    as_json: bool,
    rows_of: Callable[[Any], Sequence[Mapping[str, Any]]],
    nothing: str,
) -> None:
    try:
        settings = load(ReportSettings)
    except WrongSettings as wrong:
        for problem in wrong.problems:
            click.echo(problem, err=True)
        sys.exit(EXIT_WRONG_SETTING)
    question = urlencode({name: value for name, value in asked.items() if value not in (None, ())}, doseq=True)
    key = settings.management_key
    headers = {"authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    try:
        reply = asyncio.run(ask(f"{settings.management_url}/api/v1/{path}?{question}", headers))
    except Unanswered as why:
        click.echo(f"Management does not answer at {settings.management_url}: {why}.", err=True)
        sys.exit(EXIT_NO_MANAGEMENT)
    if reply.status != 200 or not isinstance(reply.json, dict):
        told = reply.json.get("error", {}).get("message") if isinstance(reply.json, dict) else None
        click.echo(f"Management refuses with {reply.status}: {told or 'it gives no reason'}", err=True)
        sys.exit(EXIT_NOT_DONE)
    if as_json:
        click.echo(json.dumps(reply.json))
        return
    rows = rows_of(reply.json)
    click.echo(table(rows) if rows else nothing)
    if reply.json.get("next_cursor"):
        click.echo("There are more: ask for fewer, or use --json and the REST API's cursor.", err=True)

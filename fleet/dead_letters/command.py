"""The commands ``fleet dead-letters list | show | replay | discard``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.interface import BrokerError
from broker.open import open_broker
from dead_letters.deciding import NoSuchLetter, discard_letter, replay_letter
from dead_letters.shelf import Shelf, ShelfTaken
from fleet.terminal import harmless, time_of
from process.settings import EMBEDDED_URL, EXIT_WRONG_SETTING, Settings, WrongSettings, load
from wire.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from broker.interface import Broker
    from dead_letters.deciding import Replayed
    from wire.dead_letter import DeadLetter
    from wire.topics import Topics

EXIT_NOT_DONE = 1
EXIT_NO_BROKER = 4

model_option = click.option("--model", required=True, help="The model's public name.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("dead-letters", short_help="Requests that brought down their nodes.")
def dead_letters() -> None:
    """Requests that brought down every node that worked on them, and will not be tried again by themselves.

    The broker is PULSAR_URL, with the other PULSAR_* settings. One person at a time: a second one is refused.

    \b
    Exit codes: 0 done, 1 there is no such letter or it was not answered, 2 a wrong setting, 4 no broker.
    """


@dead_letters.command("list")
@model_option
@json_option
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="How many at most.")
def list_(model: str, *, as_json: bool, limit: int) -> None:
    """Show which requests there are. Nothing is removed, and no prompt is shown."""

    async def work(broker: Broker, topics: Topics) -> int:
        rows: list[dict[str, Any]] = []
        unreadable, are_more = 0, False
        async with Shelf(broker, topics, model) as shelf:
            async for held in shelf.letters():
                if held.letter is None:
                    unreadable += 1
                elif are_more := len(rows) == limit:
                    break
                else:
                    rows.append(_row(held.letter))
        if are_more:
            click.echo(f"There are more: these are the first {limit}. See --limit.", err=True)
        if as_json:
            click.echo(json.dumps({"data": rows, "unreadable": unreadable}))
            return 0
        for row in rows:
            click.echo(harmless(f"{row['at']}  {row['request_id']}  {row['body_bytes']} bytes  {row['message']}"))
        click.echo(f"{len(rows)} dead letter(s) of {model}." + (f" {unreadable} unreadable." if unreadable else ""))
        return 0

    sys.exit(_run(work))


@dead_letters.command()
@click.argument("request_id")
@model_option
@json_option
@click.option("--body", is_flag=True, help="Show the client's request too. It holds a prompt: mind who reads it.")
def show(request_id: str, model: str, *, as_json: bool, body: bool) -> None:
    """Show what is known of one request."""

    async def work(broker: Broker, topics: Topics) -> int:
        async with Shelf(broker, topics, model) as shelf:
            letters = await shelf.of(request_id)
            if not letters:
                return _not_found(request_id, model)
            rows = [_row(held.letter, body=body) for held in letters if held.letter is not None]
        if as_json:
            click.echo(json.dumps({"data": rows}))
            return 0
        for row in rows:
            for name, value in row.items():
                click.echo(f"{name:12} {harmless(value, lines=name == 'body')}")
        return 0

    sys.exit(_run(work))


@dead_letters.command(short_help="Let the nodes try again.")
@click.argument("request_id")
@model_option
@json_option
@click.option("--timeout-s", type=click.FloatRange(1, 86_400), default=600.0, show_default=True, help="Its deadline.")
@click.option("--answer", type=click.Path(dir_okay=False, path_type=Path), help="A file for the answer.")
def replay(request_id: str, model: str, *, as_json: bool, timeout_s: float, answer: Path | None) -> None:
    """Let the nodes try again, under the same request id, and wait for the end.

    It may bring down up to three more nodes. The letter goes once the request is answered, and charged to its client.
    """
    from fleet.dead_letters.replay import replay as again  # the gateway's modules are needed for nothing else here

    if answer is not None and not os.access(answer if answer.exists() else answer.parent, os.W_OK):
        raise click.BadParameter(f"{answer} cannot be written, and the answer would be lost.", param_hint="--answer")

    async def work(broker: Broker, topics: Topics) -> int:
        async def keep(done: Replayed) -> None:
            if answer is not None and done.status == "answered":
                try:
                    await asyncio.to_thread(answer.write_bytes, done.answer)
                except OSError as error:
                    sentence = f"{request_id} was answered, and {answer} cannot be written: {error.strerror}."
                    raise FleetError(f"{sentence} Its letter is kept.") from None

        try:
            done = await replay_letter(broker, topics, model, request_id, timeout_s, again, keep)
        except NoSuchLetter:
            return _not_found(request_id, model)
        code, message = done.error or (None, None)
        report = {
            "request_id": request_id,
            "status": done.status,
            "error_code": code,
            "message": message,
            "completion_tokens": done.usage.completion_tokens if done.usage else None,
            "answer_bytes": len(done.answer),
            "letter": "removed" if done.letter_done else "kept",
        }
        if as_json:
            click.echo(json.dumps(report))
        else:
            click.echo(harmless(f"{request_id} {done.status}." + (f" {message}" if message else "")))
            click.echo("Its letter is removed." if done.letter_done else "Its letter is kept.")
        return 0 if done.status == "answered" else EXIT_NOT_DONE

    sys.exit(_run(work))


@dead_letters.command()
@click.argument("request_id")
@model_option
def discard(request_id: str, model: str) -> None:
    """Remove the letters of one request for good. The ledger hears of it."""

    async def work(broker: Broker, topics: Topics) -> int:
        try:
            await discard_letter(broker, topics, model, request_id)
        except NoSuchLetter:
            return _not_found(request_id, model)
        click.echo(f"{request_id} is discarded.")
        return 0

    sys.exit(_run(work))


def _run(work: Callable[[Broker, Topics], Awaitable[int]]) -> int:
    """Open the broker of the settings, do the work, and tell what went wrong in a sentence."""
    try:
        settings = load(Settings)
    except WrongSettings as wrong:
        for problem in wrong.problems:
            click.echo(problem, err=True)
        return EXIT_WRONG_SETTING
    if settings.pulsar_url == EMBEDDED_URL:
        click.echo(
            "PULSAR_URL: the embedded broker keeps its dead letters to its own process. Name a Pulsar.", err=True
        )
        return EXIT_WRONG_SETTING

    async def with_broker() -> int:
        broker = open_broker(settings.pulsar_url, **settings.broker_options)
        try:
            return await work(broker, settings.topics)
        finally:
            await broker.aclose()

    try:
        return asyncio.run(with_broker())
    except BrokerError as error:
        click.echo(str(error), err=True)
        return EXIT_NO_BROKER
    except ShelfTaken:
        click.echo(ShelfTaken.__doc__, err=True)
        return EXIT_NOT_DONE
    except FleetError as error:
        click.echo(error.message, err=True)
        return EXIT_NOT_DONE


def _not_found(request_id: str, model: str) -> int:
    click.echo(f"There is no dead letter of {request_id} in model {model}.", err=True)
    return EXIT_NOT_DONE


def _row(letter: DeadLetter, *, body: bool = False) -> dict[str, Any]:
    request = letter.request
    row: dict[str, Any] = {
        "request_id": request.request_id,
        "model": request.model,
        "at": time_of(letter.at_ms),
        "reason": letter.reason,
        "message": letter.message,
        "node": letter.node,
        "gateway": request.gateway,
        "key_id": request.key_id,
        "stream": request.stream,
        "body_bytes": len(request.body),
    }
    if body:
        row["body"] = request.body.decode(errors="replace")
    return row

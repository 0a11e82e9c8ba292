"""Asking management by its REST API, and telling in a sentence why it does not answer."""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from fleet.database_command import EXIT_NOT_DONE
from fleet.doctor.asking import Unanswered, ask
from fleet.reports.settings import ReportSettings
from fleet.terminal import harmless
from process.settings import EXIT_WRONG_SETTING, WrongSettings, load

if TYPE_CHECKING:
    from collections.abc import Mapping

EXIT_NO_MANAGEMENT = 4
ANSWER_BYTES_MAX = 256 * 1024 * 1024
"""Tens of thousands of nodes at work."""
EPILOG = (
    "Management is MANAGEMENT_URL, with MANAGEMENT_KEY. Exit codes: 0 done, 1 refused, 2 a wrong setting, 4 no answer."
)


class NoAnswer(Exception):
    """Management gave none; ``exit_code`` says why."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Management:
    """Found by the settings. Ends the command where they are wrong."""

    def __init__(self) -> None:
        try:
            self._settings = load(ReportSettings)
        except WrongSettings as wrong:
            for problem in wrong.problems:
                click.echo(problem, err=True)
            sys.exit(EXIT_WRONG_SETTING)

    def get(self, path: str, asked: Mapping[str, Any] | None = None) -> Any:
        """What it answers, or the end of the command with a sentence."""
        return self._or_end(path, asked or {}, None)

    def act(self, **action: Any) -> Any:
        """What became of an action, or the end of the command with a sentence."""
        return self._or_end("actions", {}, {name: value for name, value in action.items() if value is not None})

    async def ask(self, path: str, asked: Mapping[str, Any], body: Any = None) -> Any:
        """Raises :class:`NoAnswer`."""
        question = urlencode({name: value for name, value in asked.items() if value not in (None, ())}, doseq=True)
        key, url = self._settings.management_key, self._settings.management_url
        headers = {"authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        try:
            reply = await ask(f"{url}/api/v1/{path}?{question}", headers, body=body, bytes_max=ANSWER_BYTES_MAX)
        except Unanswered as why:
            sentence = f"Management does not answer at {url}: {why}. Start it, or set MANAGEMENT_URL."
            raise NoAnswer(sentence, EXIT_NO_MANAGEMENT) from None
        if reply.status not in (200, 202) or not isinstance(reply.json, dict):
            told = reply.json.get("error", {}).get("message") if isinstance(reply.json, dict) else None
            # Its own sentence tells a client of HTTP how to send one.
            told = "set MANAGEMENT_KEY to one of its keys." if reply.status == HTTPStatus.UNAUTHORIZED else told
            sentence = harmless(f"Management refuses with {reply.status}: {told or 'it gives no reason'}")
            raise NoAnswer(sentence, EXIT_NOT_DONE)
        return reply.json

    def _or_end(self, path: str, asked: Mapping[str, Any], body: Any) -> Any:
        try:
            return asyncio.run(self.ask(path, asked, body))
        except NoAnswer as why:
            click.echo(str(why), err=True)
            sys.exit(why.exit_code)

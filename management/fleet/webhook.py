"""Tells people of alerts, by a webhook. Nothing waits for it but the next alert."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from management.lookout import Lookout
from management.remedies import remedy_of
from process.identity import now_ms
from process.logging import Log
from process.tls import trusting
from store.alerts import claim, mark_told, untold
from store.database import reading, writing

if TYPE_CHECKING:
    from pydantic import SecretStr
    from sqlalchemy.ext.asyncio import AsyncEngine

    from management.metrics import Metrics
    from management.settings import WebhookFormat
    from store.alerts import Told

Stage = Literal["opened", "cleared"]

log = Log("management")

TRIES_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Pauses before each try; after the last one the alert is only in the log and in the API."""
TIMEOUT_S = 5.0
CLAIM_MS = 120_000
"""Longer than all tries together."""
LOOK_EVERY_S = 5.0
"""What another management left untold is found after this long."""


def message(alert: Any, stage: Stage, format_: WebhookFormat) -> dict[str, Any]:
    """What is posted."""
    if format_ == "slack":
        return {"text": _slack(alert, stage)}
    remedy = remedy_of("node", alert["code"])
    return {
        "type": f"alert.{stage}",
        "alert": {
            **{name: alert[name] for name in ("alert_id", "code", "model", "sentence", "nodes")},
            "provider": alert["provider"] or None,
            "remedy": remedy.remedy,
            "opened_ms": alert["opened_ms"],
            "cleared_ms": alert["cleared_ms"],
        },
    }


class Teller:
    """Tells what is written down as untold. Without a URL it only says that there is nobody to tell."""

    def __init__(self, engine: AsyncEngine, metrics: Metrics, url: SecretStr | None, format_: WebhookFormat) -> None:
        self._engine = engine
        self._metrics = metrics
        self._url = url
        self._format = format_
        self._lookout = Lookout(self.tell, LOOK_EVERY_S, sentence="Alerts cannot be told.", action="telling_failed")

    def look_now(self) -> None:
        """There is something to tell."""
        self._lookout.soon()

    async def run(self) -> None:
        """Tell for ever."""
        await self._lookout.run()

    async def tell(self) -> None:
        """All that is untold now, one after the other. Raises the database's errors."""
        while True:
            async with reading(self._engine) as connection:
                found = await untold(connection, now_ms())
            if not found:
                return
            for alert in found:
                now = now_ms()
                async with writing(self._engine) as connection:
                    is_mine = await claim(connection, alert, now, now + CLAIM_MS)
                if is_mine:
                    await self._tell(alert, "opened" if alert["told"] is None else "cleared")

    async def _tell(self, alert: Any, stage: Stage) -> None:
        told: Told = "nobody"
        if self._url is not None:
            told = "yes" if await self._posted(message(alert, stage, self._format)) else "failed"
        if told == "failed":
            log.error("The webhook does not take an alert.", action="alert_untold", alert=alert["alert_id"])
        self._metrics.alerts_told[told].inc()
        async with writing(self._engine) as connection:
            await mark_told(connection, alert["alert_id"], stage, told)

    async def _posted(self, body: dict[str, Any]) -> bool:
        import aiohttp  # 10 MB that a management without a webhook has no use for

        assert self._url is not None
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(ssl=trusting())
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            for pause_s in TRIES_S:
                await asyncio.sleep(pause_s)
                try:
                    # No redirect: the address is a secret in itself.
                    async with session.post(self._url.get_secret_value(), json=body, allow_redirects=False) as answer:
                        if answer.status < 300:
                            return True
                        why = f"status {answer.status}"
                        if answer.status < 500 and answer.status not in (408, 429):
                            return False
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    why = type(error).__name__
                log.warning("The webhook did not take an alert.", action="webhook_failed", why=why)
        return False


def _slack(alert: Any, stage: Stage) -> str:
    where = alert["model"] + (f" at {alert['provider']}" if alert["provider"] else "")
    if stage == "cleared":
        return f":white_check_mark: *{_escaped(where)}*: {_escaped(alert['code'])} is over."
    remedy = remedy_of("node", alert["code"]).remedy
    nodes = f"{alert['nodes']} node{'s' if alert['nodes'] != 1 else ''}"
    return f":rotating_light: *{_escaped(where)}* ({nodes}): {_escaped(alert['sentence'])}\n{_escaped(remedy)}"


def _escaped(text: str) -> str:
    """So that nothing in it calls people or links anywhere."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")

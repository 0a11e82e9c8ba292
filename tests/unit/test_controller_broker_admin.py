"""What is said where the broker's admin interface cannot be asked."""

from __future__ import annotations

import pytest

from controller.broker_admin import BrokerAdmin, BrokerAdminError
from wire.topics import Topics


@pytest.mark.parametrize("error", [FileNotFoundError("/run/token"), UnicodeDecodeError("utf-8", b"", 0, 1, "")])
async def test_a_token_that_cannot_be_read_is_not_told_as_a_broker_that_is_away(error: Exception) -> None:
    def token() -> str:
        raise error

    admin = BrokerAdmin("http://127.0.0.1:9", Topics(), token)
    try:
        with pytest.raises(BrokerAdminError, match="check PULSAR_TOKEN_FILE"):
            await admin.backlog("m")
    finally:
        await admin.aclose()

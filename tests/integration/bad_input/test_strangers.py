"""Whoever has no key, shows it the wrong way, or may not use the model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.integration.bad_input.rows import CANARY, CHAT, Row, good, with_headers
from tests.raw_http import JSON, KEY, post

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


def stranger(claim: str, *headers: str, path: str = CHAT) -> Row:
    request = with_headers("content-type: application/json", *headers, path=path)
    return Row(claim, request, 401, "invalid_api_key")


ROWS = [
    stranger("no_key_is_refused"),
    stranger("an_empty_authorization_is_refused", "authorization:"),
    stranger("an_empty_bearer_is_refused", "authorization: Bearer "),
    stranger("basic_is_refused", f"authorization: Basic {KEY}"),
    stranger("a_wrong_key_is_refused_without_echo", f"authorization: Bearer {CANARY}-0123456789"),
    stranger("a_key_cut_short_is_refused", f"authorization: Bearer {KEY[:-1]}"),
    stranger("a_key_of_10_kb_is_refused", f"authorization: Bearer {KEY * 400}"),
    stranger("a_key_that_is_no_ascii_is_refused", "authorization: Bearer \xe9\xff\x80abcdefgh"),
    stranger("a_key_in_the_query_is_refused", path=f"{CHAT}?api_key={KEY}"),
    stranger("a_key_in_another_header_is_refused", f"x-api-key: {KEY}", f"api-key: {KEY}"),
    Row("two_authorizations_are_refused", with_headers(*JSON, f"authorization: Bearer {KEY}")),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
async def test_a_stranger_is_told_so(place: Place, row: Row) -> None:
    await place.refuses(row)


async def test_a_revoked_key_is_refused(place: Place) -> None:
    await place.refuses(stranger("revoked", f"authorization: Bearer {place.revoked}"))


async def test_a_model_that_the_key_may_not_use_is_refused_whether_or_not_there_is_one(place: Place) -> None:
    for model in (place.fleet.model, "there-is-no-such-model"):
        data = json.dumps(good(model=model)).encode()
        request = post(data, JSON[0], f"authorization: Bearer {place.narrow}", f"content-length: {len(data)}")
        await place.refuses(Row("not_allowed", request, 403, "permission_denied", "model"))

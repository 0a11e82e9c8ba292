"""Images, videos and sounds inside somebody's network. We fetch none; a provider shall not fetch these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.bad_input.rows import Row, bad, with_part

if TYPE_CHECKING:
    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


PART = "messages[1].content[1]"


def image(url: str) -> dict[str, Any]:
    return with_part(type="image_url", image_url={"url": url})


ROWS = [
    *(
        bad(f"an_image_at_{url[:40]}_is_refused", image(url), f"{PART}.image_url")
        for url in (
            "http://127.0.0.1/CANARY",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://[::1]/",
            "http://0/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.1/",
            "http://2130706433/",
            "http://0x7f00000a/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://127.0.0.0x1/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "ftp://example.com/",
            "//example.com/x",
            "relative.png",
            "",
            "http://127.0.0.1\\@example.com/",
            "http://%6cocalhost/",
            "http://metadata.google.internal/",
            "http://\u24dbocalhost/",
            "http://127\u30020\u30020\u30021/",
            "http://a:99999/",
            "http://[64:ff9b::7f00:1]/",
            "http://[64:ff9b:1::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[::127.0.0.1]/",
            "http://[::ffff:0:127.0.0.1]/",
            "http://[fec0::1]/",
            "http://metadata/computeMetadata/v1/",
            "http://redis:6379/",
            "http://vault.secrets.svc/",
            "http://nas.lan/",
            "http://nas.home/",
            "http://wiki.intranet/",
            "http://git.corp/",
            "http://db.private/",
            "http://metadata.google.\u24d8nternal/",
            "http://redis.sv%63/",
            "http://router.home.arpa/",
            "http://exam\tple.com/",
            "http://a@127.0.0.1@example.com/",
            "http://127.0.0.1 @example.com/",
        )
    ),
    bad("an_image_url_that_is_a_string_is_refused", with_part(type="image_url", image_url="x"), f"{PART}.image_url"),
    bad(
        "a_video_inside_is_refused",
        with_part(type="video_url", video_url={"url": "http://[fe80::1]/"}),
        f"{PART}.video_url",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
async def test_what_lies_inside_is_not_passed_on(place: Place, row: Row) -> None:
    await place.refuses(row)

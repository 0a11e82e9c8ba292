"""What a client sends is in no log line, or in one whole and escaped line."""

from __future__ import annotations

import io
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from process.logging import OTHERS, OURS, Log, set_up
from tests.integration.bad_input.rows import CANARY, CHAT, MODEL, good
from tests.raw_http import JSON, exchange, get, post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.bad_input.place import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVIL = f"{CANARY}\r\n2026-01-01T00:00:00.000Z INFO    gateway: forged\x1b[31m\u2028"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR)\s+[a-z._]+: .+")
LATIN = "CANARY\x9b31m\x85\xa0"
"""What a header can hold of it."""


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a process with DEBUG=true writes to standard error."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    names = (*OURS, *OTHERS)
    levels = {name: logging.getLogger(name).level for name in names}
    with pytest.MonkeyPatch.context() as patch:
        stream = io.StringIO()
        patch.setattr("sys.stderr", stream)
        set_up("debug", form="text")
    yield stream
    root.handlers[:], level = kept
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)


def requests() -> list[bytes]:
    bodies: list[dict[str, Any]] = [
        good(user=EVIL, metadata={"x": EVIL}),
        good(model=EVIL),
        good(model=MODEL + "\n"),
        good(messages=[{"role": EVIL, "content": EVIL}]),
        good(temperature=EVIL),
        {**good(), EVIL: 1, "n": 0},
    ]
    odd = (f"user-agent: {LATIN}", f"x-client-request-id: {LATIN}", f"openai-organization: {LATIN}")
    return [
        *(post(body) for body in bodies),
        post(b"{}", *JSON, *odd, "content-length: 2"),
        get(f"{CHAT}%0d%0aforged%1b"),
        get("/v1/models/%0d%0aforged%1b%e2%80%a8"),
        get("/v1/models", f"authorization: Bearer {LATIN}"),
    ]


async def test_line_breaks_and_colours_of_a_client_make_no_lines_of_the_log(place: Place, written: io.StringIO) -> None:
    for request in requests():
        await exchange(place.port, request)
    Log("gateway").warning("This is the last line.", model=EVIL)
    *lines, last = written.getvalue().removesuffix("\n").split("\n")
    for line in lines:
        assert LINE.fullmatch(line), line
        assert line.isprintable()
        assert CANARY not in line
        assert "forged" not in line
    assert LINE.fullmatch(last)
    assert last.isprintable()

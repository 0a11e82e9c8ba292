"""How an attempt divides what its engine writes at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.scripted_engine import ScriptedEngine
from tests.unit.test_attempt_begins import REQUEST, Books, Delivery, Link
from wire.piece import PIECE_BYTES_MAX, Content
from workernode.attempt import Attempt


async def pieces(data: bytes) -> list[bytes]:
    link = Link()
    parts: Any = (Delivery(), REQUEST, link, ScriptedEngine("text"), Books(), None, asyncio.Lock())
    await Attempt(*parts, model=REQUEST.model).write(data)
    assert all(isinstance(frame, Content) for frame in link.frames)
    return [frame.data for frame in link.frames if isinstance(frame, Content)]


@pytest.mark.parametrize("length", [2000, 1999, 1, PIECE_BYTES_MAX - 1])
async def test_a_burst_of_chunks_is_divided_between_chunks(length: int) -> None:
    data = (b"x" * length + b"\n") * (3 * PIECE_BYTES_MAX // (length + 1) + 1)
    sent = await pieces(data)
    assert b"".join(sent) == data
    assert len(sent) > 1
    assert all(piece.endswith(b"\n") and len(piece) <= PIECE_BYTES_MAX for piece in sent)


@pytest.mark.parametrize("data", [b"x" * (3 * PIECE_BYTES_MAX + 5), b"a\n" + b"x" * 2 * PIECE_BYTES_MAX + b"\nb\n"])
async def test_what_is_too_long_for_a_piece_is_cut_and_nothing_of_it_lost(data: bytes) -> None:
    sent = await pieces(data)
    assert b"".join(sent) == data
    assert all(0 < len(piece) <= PIECE_BYTES_MAX for piece in sent)

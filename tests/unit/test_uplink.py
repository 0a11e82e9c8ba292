"""What a node knows of having been heard: the gateway's acknowledgement, and no receipt of the broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from broker.interface import BrokerError
from broker.memory import MemoryBroker
from tests.passing_broker import PassingBroker
from tests.waiting import until
from wire import codec
from wire.control import Acked
from wire.piece import Alive, Frame, LinkMessage, Settled
from wire.topics import Topics
from workernode import uplink
from workernode.uplink import Uplink
from workernode.uplinks import Uplinks

if TYPE_CHECKING:
    from broker.interface import Producer

FRAME = Alive(attempt_id="att_1", holding=True)
LAST = [Settled(attempt_id=f"att_{n}", request_id=f"req_{n}", abandoned=True) for n in range(3)]
LINE = 1


class Deaf:
    """A producer that confirms everything, of which nobody hears anything."""

    async def send(self, payload: bytes) -> None:
        return

    def post(self, payload: bytes) -> None:
        return

    async def aclose(self) -> None:
        return


@pytest.fixture
async def link() -> Uplink:
    return Uplink("gateway-1", "node-1", Deaf(), lambda: None, lambda: LINE, lost_after_s=0.0)


async def _turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_was_pushed_is_heard_once_it_is_acknowledged_and_not_before(link: Uplink) -> None:
    link.push(FRAME, urgent=True)
    link.push(FRAME, urgent=True)
    hearing = asyncio.ensure_future(link.heard())
    await _turns()
    link.push(FRAME, urgent=True)
    await _turns()
    link.acked(Acked(line=LINE, through=1))
    await _turns()
    assert not hearing.done()
    link.acked(Acked(line=LINE, through=2))
    assert await hearing
    await link.aclose()


async def test_nothing_is_heard_by_a_gateway_that_is_gone(link: Uplink) -> None:
    link.push(FRAME, urgent=True)
    hearing = asyncio.ensure_future(link.heard())
    await _turns()
    link.echo_heard()
    assert not await hearing
    link.push(FRAME, urgent=True)
    assert not await link.heard()
    await link.aclose()


async def test_who_waits_for_a_line_that_is_closed_hears_so(link: Uplink) -> None:
    link.push(FRAME, urgent=True)
    hearing = asyncio.ensure_future(link.heard())
    await _turns()
    await link.aclose()
    assert not await hearing


class Gateway:
    """Hears a link topic, and acknowledges what it is told to."""

    def __init__(self, broker: MemoryBroker, uplinks: Uplinks) -> None:
        self._broker, self._uplinks = broker, uplinks
        self.heard: list[tuple[int, int, list[Frame]]] = []

    async def listen(self) -> None:
        def hear(payload: bytes) -> None:
            message = codec.decode_link(payload)
            assert isinstance(message, LinkMessage)
            frames = [codec.decode_frame(raw) for raw in message.frames]
            self.heard.append((message.line, message.first, frames))

        await self._broker.listen(Topics().link("gateway-1"), hear, waiting_max=1000)

    def acknowledge(self, line: int, through: int) -> None:
        self._uplinks.acked("gateway-1", Acked(line=line, through=through))


async def _cut_off() -> tuple[Uplinks, Gateway]:
    """A gateway that did not hear what became of three requests, and is there again."""
    broker = MemoryBroker()
    uplinks = Uplinks(broker, Topics(), "node-1")
    link = await uplinks.open("gateway-1")
    link._silence.lost_after_s = 0.0
    link.push(FRAME, urgent=True)
    await _turns()
    link.echo_heard()
    assert link.lost
    for word in LAST:
        link.push(word)
    link.users -= 1
    gateway = Gateway(broker, uplinks)
    await gateway.listen()
    return uplinks, gateway


async def test_a_gateway_that_was_cut_off_is_told_until_it_knows() -> None:
    uplinks, gateway = await _cut_off()
    await uplinks.close_idle()
    line, first, frames = (await until(lambda: gateway.heard))[0]
    # Without what went before, which nobody needs any more.
    assert (first, frames) == (1, LAST)
    gateway.acknowledge(line, 2)
    gateway.heard.clear()
    assert (await until(lambda: gateway.heard))[0] == (line, 3, LAST[2:])
    gateway.acknowledge(line, 3)
    await uplinks.close_idle()
    assert not uplinks._dropped
    await uplinks.aclose()


async def test_what_a_gateway_was_not_told_goes_on_its_next_line() -> None:
    uplinks, gateway = await _cut_off()
    fresh = await uplinks.open("gateway-1")
    line, first, frames = await until(lambda: next((said for said in gateway.heard if said[0] == fresh.line), None))
    assert (first, frames) == (1, LAST)
    gateway.acknowledge(line, 3)
    assert fresh._sender.idle
    await uplinks.close_idle()
    assert not uplinks._dropped
    await uplinks.aclose()


class ClosedLinks(PassingBroker):
    """Opens no producer while it has a reason."""

    why = ""

    async def producer(self, topic: str, *, gather_ms: int = 0) -> Producer:
        if self.why:
            raise BrokerError(self.why)
        return await super().producer(topic, gather_ms=gather_ms)


async def test_why_a_gateway_cannot_be_spoken_to_is_told_once_and_anew_after_it_could(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its requests go round between queue and node meanwhile, and end with no more than that they were not answered."""
    broker = ClosedLinks(MemoryBroker())
    uplinks = Uplinks(broker, Topics(), "node-1")
    for times in (1, 2):
        broker.why = "Its topic takes no further producer."
        for gateway in ("gateway-1", "gateway-2", "gateway-1", "gateway-2"):
            with pytest.raises(BrokerError):
                await uplinks.open(gateway)
        assert caplog.text.count(broker.why) == 2 * times
        broker.why = ""
        for gateway in ("gateway-1", "gateway-2"):
            link = await uplinks.open(gateway)
            link.lost = True
    await uplinks.aclose()


async def test_last_words_outlive_the_lines_that_are_lost_meanwhile() -> None:
    """As when a gateway that is cut off has left a backlog: each request of it opens a line that is lost again."""
    uplinks, gateway = await _cut_off()
    (first,) = uplinks._links.values()
    second = await uplinks.open("gateway-1")
    second._silence.lost_after_s = 0.0
    await _turns()
    second.echo_heard()
    assert second.lost
    third = await uplinks.open("gateway-1")
    late = Settled(attempt_id="att_9", request_id="req_9", abandoned=True)
    first.push(late)  # an attempt that was slow to end

    def told() -> list[Frame]:
        return [frame for line, _, frames in gateway.heard if line == third.line for frame in frames]

    await until(lambda: late in told())
    assert told()[: len(LAST)] == LAST
    await uplinks.aclose()


async def test_a_gateway_that_is_really_gone_is_not_told_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink, "LAST_WORDS_S", 0.0)
    uplinks, _ = await _cut_off()
    await uplinks.close_idle()
    assert not uplinks._dropped
    await uplinks.aclose()


async def test_what_is_said_last_of_all_finds_a_line_although_the_next_one_was_lost_and_is_silent() -> None:
    uplinks, gateway = await _cut_off()
    (first,) = uplinks._links.values()
    first.users += 1  # an attempt that is slow to end
    second = await uplinks.open("gateway-1")
    second._silence.lost_after_s = 0.0
    await _turns()
    second.echo_heard()
    second.users -= 1
    gateway.acknowledge(second.line, len(LAST))
    await uplinks.close_idle()
    await uplinks.close_idle()
    first.push(late := Settled(attempt_id="att_9", request_id="req_9", abandoned=True))
    first.users -= 1
    await uplinks.close_idle()
    await until(lambda: any(late in frames for line, _, frames in gateway.heard if line == second.line))
    await uplinks.aclose()


async def test_last_words_are_not_carried_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a gateway that is gone for good has left a backlog, whose every request opens a line that is lost."""
    monkeypatch.setattr(uplink, "LAST_WORDS_MAX", 2)
    uplinks, gateway = await _cut_off()
    fresh = await uplinks.open("gateway-1")
    line, _, frames = await until(lambda: next((said for said in gateway.heard if said[0] == fresh.line), None))
    assert (line, frames) == (fresh.line, LAST[1:])
    monkeypatch.setattr(uplink, "LAST_WORDS_S", -1.0)
    fresh._silence.lost_after_s = 0.0
    fresh.echo_heard()
    gateway.heard.clear()
    newest = await uplinks.open("gateway-1")
    assert newest._sender.idle
    await uplinks.aclose()

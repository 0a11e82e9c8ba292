"""What a broker keeps, as somebody copied it one day, and a broker that comes back with it or with nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from broker.memory_server import Entry

if TYPE_CHECKING:
    from broker.memory_server import MemoryServer, Topic
    from tests.simulation.sea import Sea


class _Kept(NamedTuple):
    """Of one topic."""

    sequence: int
    entries: tuple[Entry, ...]
    by: dict[str, frozenset[int]]
    """Numbers of what is not acknowledged, by subscription."""


Backup = dict[str, _Kept]
"""By topic."""


def backup(server: MemoryServer) -> Backup:
    """What is kept now."""
    return {topic.name: _kept(topic) for topic in _persistent(server)}


def restart_with(sea: Sea, found: Backup, seconds: float) -> None:
    """The broker dies, and is back after so long with what it had then. It numbers what comes as it did then, too."""
    sea.restart(seconds)
    for topic in _persistent(sea.server):
        for entry in topic._kept.values():
            sea.server.refund(entry.payload)
        kept = found.get(topic.name, _Kept(0, (), {}))
        topic._sequence, topic._kept = kept.sequence, {}
        for subscription in topic._subscriptions.values():
            subscription._kept, subscription._holders = {}, {}
            subscription._backlog.clear()
            subscription._replay.clear()
        for old in kept.entries:
            entry = topic._kept[old.sequence] = Entry(old.sequence, old.payload, old.published_ms)
            sea.server.charge(entry.payload)
            for name, numbers in kept.by.items():
                if entry.sequence in numbers:
                    topic.subscription(name).keep(entry)


def _persistent(server: MemoryServer) -> list[Topic]:
    return [topic for topic in server._topics.values() if topic.persistent]


def _kept(topic: Topic) -> _Kept:
    by = {name: frozenset(subscription._kept) for name, subscription in topic._subscriptions.items()}
    return _Kept(topic._sequence, tuple(topic._kept.values()), by)

"""Topic names: built and parsed here and nowhere else.

A client's string never becomes a topic. A model name is escaped into one segment of a fixed alphabet
(:func:`segment`), and only names of declared or present models get here at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from wire.errors import InvalidName

MODEL_NAME_BYTES_MAX = 256
WORKERS = "workers"
"""The one Shared subscription of a request topic."""
LEDGER = "ledger"
"""The durable subscription of the results topic (Failover, management's) and of each topic of dead letters (Exclusive,
an operator's command or management)."""

_LANE = "normal"
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")
_INCARNATION = re.compile(r"(?!.*-partition-[0-9]+$)[a-z0-9][a-z0-9-]{3,95}")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9.-]|_[0-9a-f]{2})+")
_NAMESPACE_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_LOCAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_FULL_NAME = re.compile(r"(persistent|non-persistent)://([^/]+)/([^/]+)/([^/]+)")


@lru_cache(maxsize=1024)
def segment(model: str) -> str:
    """One topic segment for any model name: letters, digits, ``-`` and ``.`` stay, other UTF-8 bytes become ``_xx``.

    Reversible (:func:`model_of`), so two names never share a topic. Raises :class:`InvalidName` for an empty
    name, one above :data:`MODEL_NAME_BYTES_MAX`, and one with control characters or lone surrogates.
    """
    try:
        raw = model.encode()
    except UnicodeEncodeError:
        raise InvalidName("A model name must be valid Unicode text.") from None
    if not raw or len(raw) > MODEL_NAME_BYTES_MAX:
        raise InvalidName(f"A model name has 1 to {MODEL_NAME_BYTES_MAX} bytes; this one has {len(raw)}.")
    if any(byte < 0x20 or byte == 0x7F for byte in raw):
        raise InvalidName("A model name must not contain control characters.")
    return "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in raw)


def model_of(segment_: str) -> str:
    """The model name behind a segment. Raises :class:`InvalidName` for what :func:`segment` never makes."""
    if not _SEGMENT.fullmatch(segment_):
        raise InvalidName("Not a topic segment of a model.")
    raw = re.sub(r"_([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), segment_).encode("latin-1")
    try:
        model = raw.decode()
    except UnicodeDecodeError:
        raise InvalidName("Not a topic segment of a model.") from None
    if segment(model) != segment_:
        raise InvalidName("Not a topic segment of a model.")
    return model


def check_incarnation(incarnation: str) -> str:
    """The incarnation itself if it may stand in a topic name, else :class:`InvalidName`.

    Pulsar takes a topic that ends with ``-partition-3`` for a part of another one, so that is refused.
    """
    if not _INCARNATION.fullmatch(incarnation):
        raise InvalidName("An incarnation has 4 to 96 lower-case letters, digits and hyphens.")
    return incarnation


@dataclass(frozen=True)
class Topics:
    """All topic names of one deployment.

    ``requests``, ``links`` and ``results`` are Pulsar namespaces under ``tenant``. Three of them let permissions
    keep a node from forging requests, and management from bills (:mod:`broker.access`); one flat namespace (the
    default) serves for a first look.
    ``results_name`` is ``RES_TOPIC_NAME``: a local name in the ``results`` namespace, or a full topic name.
    """

    tenant: str = "public"
    requests_namespace: str = "default"
    links_namespace: str = "default"
    results_namespace: str = "default"
    results_name: str = "results"

    def __post_init__(self) -> None:
        for part in (self.tenant, self.requests_namespace, self.links_namespace, self.results_namespace):
            if not _NAMESPACE_PART.fullmatch(part):
                raise InvalidName(f"{part!r} is not a Pulsar tenant or namespace name.")
        full = _FULL_NAME.fullmatch(self.results_name)
        if full and full[1] != "persistent":
            raise InvalidName("The results topic must be persistent: bills would be lost on a non-persistent one.")
        if not _LOCAL_NAME.fullmatch(full[4] if full else self.results_name):
            raise InvalidName(f"{self.results_name!r} is not a topic name: use letters, digits, '-', '_' and '.'.")

    def requests(self, model: str) -> str:
        """Where requests of a model wait. The last segment is a priority lane; so far there is one."""
        return f"persistent://{self.tenant}/{self.requests_namespace}/requests.{segment(model)}.{_LANE}"

    def dead_letters(self, model: str) -> str:
        """Where requests of a model go that killed their nodes."""
        return f"persistent://{self.tenant}/{self.requests_namespace}/dead.{segment(model)}.{_LANE}"

    def link(self, gateway: str) -> str:
        """Node → gateway: the reply topic of one gateway incarnation."""
        return f"non-persistent://{self.tenant}/{self.links_namespace}/link.{check_incarnation(gateway)}"

    def control(self, node: str) -> str:
        """Gateway or operator → node: the topic of one node incarnation."""
        return f"non-persistent://{self.tenant}/{self.links_namespace}/control.{check_incarnation(node)}"

    @property
    def presence(self) -> str:
        """Heartbeats of all nodes."""
        return f"non-persistent://{self.tenant}/{self.links_namespace}/presence"

    @property
    def roll_call(self) -> str:
        """Where a gateway or management that starts asks every node for a heartbeat at once."""
        return f"non-persistent://{self.tenant}/{self.links_namespace}/roll-call"

    @property
    def backlog(self) -> str:
        """What each gateway tells the others about its open requests."""
        return f"non-persistent://{self.tenant}/{self.links_namespace}/backlog"

    @property
    def orders(self) -> str:
        """What operators want of whichever gateway has a request."""
        return f"non-persistent://{self.tenant}/{self.links_namespace}/orders"

    @property
    def results(self) -> str:
        """Events: what management hears."""
        if "://" in self.results_name:
            return self.results_name
        return f"persistent://{self.tenant}/{self.results_namespace}/{self.results_name}"

    def model_of(self, topic: str) -> str:
        """The model of a request or dead-letter topic. Raises :class:`InvalidName` for any other topic."""
        head = f"persistent://{self.tenant}/{self.requests_namespace}/"
        local = topic.removeprefix(head)
        role, _, rest = local.partition(".")
        if local == topic or role not in ("requests", "dead") or not rest.endswith(f".{_LANE}"):
            raise InvalidName(f"{topic!r} is not a topic of a model.")
        return model_of(rest.removesuffix(f".{_LANE}"))

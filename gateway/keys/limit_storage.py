"""Where the uses of limited keys are counted, by URL: one process's memory, or a store that several gateways share."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from limits.aio.storage import Storage

MEMORY = "async+memory://"
"""Each gateway counts for itself, and forgets when it ends."""
SCHEMES = (
    "async+memory",
    *(f"async+{kind}{way}" for kind in ("redis", "valkey") for way in ("", "+unix", "+cluster", "+sentinel")),
    "async+rediss",
    "async+valkeys",
    "async+mongodb",
    "async+mongodb+srv",
)
"""What the library ``limits`` can count moving windows in without blocking."""
CLIENTS = {"redis": "redis", "valkey": "valkey", "mongodb": "pymongo"}
"""The Python package that speaks with each kind of store."""


def check_storage(url: str) -> None:
    """Raises ValueError with a sentence, which does not repeat what may be a password."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in SCHEMES:
        raise ValueError("it begins with none of " + ", ".join(f"{each}://" for each in SCHEMES[:2]) + " and the like")
    if url != MEMORY:  # which is sure to work, and need not be loaded to be judged
        open_storage(url)


def is_memory(url: str) -> bool:
    """Whether this process alone counts there."""
    return urlsplit(url).scheme == urlsplit(MEMORY).scheme


def open_storage(url: str) -> Storage:
    """The store itself; it connects when it is used. Raises ValueError with a sentence."""
    from limits.aio.storage import Storage  # takes a tenth of a second, and most gateways limit nobody
    from limits.storage import storage_from_string

    from gateway.keys.limit_memory import Memory

    if is_memory(url):
        return Memory()
    server = _server(url)
    if find_spec(CLIENTS[server]) is None:
        raise ValueError(f"it needs a Python package that is not installed: pip install 'limits[async-{server}]'")
    # The library would look for another client of Redis than the one that comes with the gateway.
    client = {"implementation": "redispy"} if server == "redis" else {}
    try:
        storage = storage_from_string(url, **client)
    except Exception:
        # Whatever a driver says about a URL may repeat it.
        raise ValueError(
            "it cannot be read as an address of such a store, which has a port, and for sentinels the name of the "
            "service at its end (async+redis+sentinel://host:26379/service)"
        ) from None
    assert isinstance(storage, Storage)
    return storage


async def close_storage(storage: Storage) -> None:
    """Let go of the server, which the library has no word for."""
    client = getattr(getattr(storage, "bridge", None), "storage", None)
    if (close := getattr(client, "aclose", None)) is not None:
        await close()


def _server(url: str) -> str:
    name = urlsplit(url).scheme.split("+")[1]
    return {"rediss": "redis", "valkeys": "valkey"}.get(name, name)

"""Addresses of images, videos and sounds: which of them may be passed on."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""NAT64: IPv4 addresses, private ones too, in IPv6 dress."""


def reachable_from_outside(url: str) -> bool:
    """Whether an address may be passed on. We never fetch it, nor shall a provider be sent to our side.

    Where programs read an address in different ways (backslashes, escapes or other letters in the host, numbers in
    other notations), it is refused: we cannot know which of them the provider uses.
    """
    if url[:5].lower() == "data:":
        return True
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or "\\" in url or not _HOST.fullmatch(host):
        return False
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # Whose last label is a number is an IPv4 address, in whatever notation (WHATWG URL, "ends in a number").
        return _NUMBER.fullmatch(host.rpartition(".")[2]) is None
    return address.is_global and not address.is_multicast and address not in _TRANSLATED

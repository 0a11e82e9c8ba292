"""Addresses of images, videos and sounds: which of them may be passed on."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from process.host import is_public_name

_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f\\]")
"""What some programs leave out of an address, or take for another sign, and others do not."""
_INSIDE = frozenset(("svc", "intranet", "private", "corp", "home", "lan"))
"""Kubernetes' own domain, and those that networks use as if they were theirs (RFC 6762, appendix G)."""
_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is routed for everybody (RFC 4291, section 2.4). What lies beside it is local, or an IPv4 address,
private ones too, in IPv6 dress, such as NAT64's."""
_6TO4 = ipaddress.ip_network("2002::/16")
"""More of these."""


def reachable_from_outside(url: str) -> bool:
    """Whether an address may be passed on. We never fetch it, nor shall a provider be sent to our side.

    Where programs read an address in different ways (backslashes, escapes or other letters in the host, numbers in
    other notations), it is refused: we cannot know which of them the provider uses. So is a name without a dot, which
    only a network's own name server can know. What a name of two words leads to nobody here can tell.
    """
    if url[:5].lower() == "data:":
        return True
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or _AMBIGUOUS.search(url) or not _HOST.fullmatch(host):
        return False
    if " " in parts.netloc or parts.netloc.count("@") > 1:
        return False
    last = host.rpartition(".")[2]
    # Whose last label is a number is an IPv4 address, in whatever notation (WHATWG URL, "ends in a number").
    if ":" not in host and _NUMBER.fullmatch(last) is None:
        return is_public_name(host) and last not in _INSIDE
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and (address not in _UNICAST or address in _6TO4):
        return False
    return address.is_global and not address.is_multicast

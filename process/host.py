"""Names and addresses of hosts, as settings have them."""

from __future__ import annotations

import errno
import ipaddress
import re
from urllib.parse import urlsplit

HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}(%\w+)?")
"""What may be one."""
_PRIVATE = ("localhost", "local", "internal", "home.arpa")
"""Below these nobody can have a name that all of the world finds (RFC 6761, 6762 and 8375; ICANN for internal)."""


def check_host(host: str) -> str:
    """The host itself, if it may be one to listen on. Raises ValueError with a sentence."""
    if not HOST.fullmatch(host):
        raise ValueError("it is no address: write 127.0.0.1, 0.0.0.0, or a name of this machine")
    return host


def check_proxies(proxies: str) -> str:
    """Addresses and networks between commas, if they are such. Raises ValueError with a sentence."""
    for proxy in filter(None, map(str.strip, proxies.split(","))):
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise ValueError("each proxy is an address or a network, such as 10.0.0.5 or 10.0.0.0/8") from None
    return proxies


def host_of(header: str) -> str:
    """The name or address in a ``Host`` header; nothing if there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_public_name(host: str) -> bool:
    """Whether this is a name that somebody else may have made, to point wherever he likes."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        return "." in name and not name.endswith(tuple(f".{private}" for private in _PRIVATE))
    return False


def at_fault(error: OSError, port_setting: str) -> str:
    """The setting to change where an address cannot be listened on: the port's, or its host's."""
    is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
    return port_setting if is_port else port_setting.replace("PORT", "HOST")


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Files for TLS, looked at when settings are read rather than when the first client comes; and asking ourselves."""

from __future__ import annotations

import os
import re
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def check_readable(path: Path | None) -> Path | None:
    """The path itself, if there is a file to read. Raises ValueError with a sentence."""
    # Not by Path.is_file, which raises where the file's contents are given instead: they are too long for a name, and
    # what it raises has them in it.
    if path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
        raise ValueError("it names a file that cannot be read")
    return path


def check_pair(certificate: Path | None, key: Path | None, names: tuple[str, str]) -> None:
    """Raises ValueError with a sentence unless both are there and belong together, or none is there."""
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        here, missing = names if key is None else names[::-1]
        raise ValueError(f"{here} is set without {missing}: set both to serve over TLS, or none")
    try:
        # A password is refused by being wrong: without one OpenSSL would ask whoever sits at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError:  # as errors of ssl are
        raise ValueError(
            f"{names[0]} and {names[1]} are not a certificate and its key: give PEM files that belong together, the "
            "key without a password"
        ) from None


def tls_options(certificate: Path | None, key: Path | None) -> dict[str, Any]:
    """What :func:`process.http.serving` takes for TLS."""
    return {} if certificate is None else {"ssl_certfile": certificate, "ssl_keyfile": key}


def trusting(authorities: Path | None = None) -> ssl.SSLContext:
    """What clients check a server's certificate with: these authorities, or the system's, and the server's name.

    From 3.13 on Python's own default wants more of an authority's certificate (RFC 5280, section 4.2.1: its key's
    usage and identifiers) than many have that are made by hand or by a cluster, and than any other client asks for.
    """
    context = ssl.create_default_context(cafile=authorities)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def pinned(*certificates: Path) -> ssl.SSLContext:
    """What a program of this machine trusts when it asks our own roles: who holds the key of one of these certificates.

    For whom the certificate was made, and by whom, does not matter: nobody makes one for a loopback address, and the
    file itself is better than any authority's word. The first certificate of a file is the role's own. Raises OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Without it only an authority's certificate could be trusted, and not the one that it signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for path in certificates:
        found = _CERTIFICATE.search(path.read_text(encoding="ascii", errors="replace"))
        if found is None:
            raise ssl.SSLError(f"{path} holds no certificate")
        context.load_verify_locations(cadata=found[0])
    return context

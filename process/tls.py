"""Files for TLS, looked at when settings are read rather than when the first client comes."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def check_readable(path: Path | None) -> Path | None:
    """The path itself, if there is a file to read. Raises ValueError with a sentence."""
    if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
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
    except (ssl.SSLError, OSError, ValueError):
        raise ValueError(
            f"{names[0]} and {names[1]} are not a certificate and its key: give PEM files that belong together, the "
            "key without a password"
        ) from None


def tls_options(certificate: Path | None, key: Path | None) -> dict[str, Any]:
    """What :func:`process.http.serving` takes for TLS."""
    return {} if certificate is None else {"ssl_certfile": certificate, "ssl_keyfile": key}

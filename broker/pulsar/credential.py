"""How this process shows who it is, and whom it trusts, on connections of its own."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import certifi

from broker.pulsar.failure import PulsarFailure, Result

if TYPE_CHECKING:
    from collections.abc import Callable


class Credential:
    """A token, or a callable that reads one and may read another one each time; and a file of trusted authorities."""

    def __init__(self, *, token: str | Callable[[], str] | None, tls_trust_certs: str | None) -> None:
        self.authorities = tls_trust_certs or certifi.where()
        """The file of who is trusted to vouch for a broker."""
        self.shows_token = token is not None
        self._token = token

    def token(self) -> bytes | None:
        """The token of now, None if there is to be none; raises :class:`PulsarFailure` if it cannot be read."""
        if not callable(self._token):
            return None if self._token is None else self._token.encode()
        try:
            return self._token().encode()
        except Exception:
            raise PulsarFailure(Result.ErrorGettingAuthenticationData) from None

    def tls(self) -> ssl.SSLContext:
        """Checks certificates, and that they are made out to the host. Raises :class:`OSError` without authorities.

        It does not ask authorities for more than other clients do, as Python does from 3.13 on: many lack it that are
        made by hand.
        """
        try:
            context = ssl.create_default_context(cafile=self.authorities)
        except OSError:
            raise OSError(f"{self.authorities} holds no certificate of an authority that can be read") from None
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

"""A gateway's settings as a server of HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from gateway.http.cors import ANY, Cors, parse_origins
from process.host import check_host, check_proxies
from process.http import HEAD_BYTES_MAX, HEAD_WAIT_S
from process.settings import SECONDS_MAX, InCluster
from process.tls import check_pair, check_readable

MIB = 1024 * 1024


class HttpSettings(InCluster):
    """Where to listen, whom to believe, and how long and how large anything on a connection may be."""

    host: str = Field("127.0.0.1", description="where the gateway listens; beyond loopback it needs keys")
    port: int = Field(8081, ge=0, le=65535, description="the gateway's port")
    ssl_certfile: Path | None = Field(
        None, description="a PEM file with the gateway's certificate and those above it, to serve over TLS"
    )
    ssl_keyfile: Path | None = Field(None, description="a PEM file with the key of that certificate, without password")
    trusted_proxies: str = Field(
        "",
        description="addresses and networks of proxies whose x-forwarded-for and x-forwarded-proto are believed, by "
        "commas; nobody's if empty",
    )
    cors_origins: str = Field(
        "", description="origins whose pages may call the gateway from browsers, by commas, or * for all; none if empty"
    )
    cors_credentials: bool = Field(
        False, description="true to let those pages send cookies and other credentials of the browser"
    )
    head_bytes_max: int = Field(
        HEAD_BYTES_MAX, ge=1024, le=MIB, description="bytes of one request's address and headers"
    )
    head_wait_s: float = Field(
        HEAD_WAIT_S, gt=0, le=SECONDS_MAX, description="seconds that a request's address and headers may take to arrive"
    )
    idle_connection_s: float = Field(
        75.0, gt=0, le=SECONDS_MAX, description="seconds that a connection is kept open between two requests"
    )
    body_bytes_max: int = Field(4 * MIB, ge=1024, le=4 * MIB + 512 * 1024, description="bytes of one request's body")
    body_wait_s: float = Field(
        30.0, gt=0, le=SECONDS_MAX, description="seconds that a request's body may take to arrive"
    )
    status_hold_s: float = Field(
        10.0,
        gt=0,
        le=SECONDS_MAX,
        description="seconds for which a stream's head waits for its first part, so that an error has its own status",
    )
    keep_alive_s: float = Field(
        10.0, gt=0, le=SECONDS_MAX, description="seconds between comments on a stream that waits"
    )
    write_wait_s: float = Field(
        60.0, gt=0, le=SECONDS_MAX, description="seconds that a client may take to read a part of its answer"
    )

    @field_validator("host")
    @classmethod
    def _usable_host(cls, host: str) -> str:
        return check_host(host)

    @field_validator("ssl_certfile", "ssl_keyfile")
    @classmethod
    def _readable_pem(cls, path: Path | None) -> Path | None:
        return check_readable(path)

    @field_validator("trusted_proxies")
    @classmethod
    def _usable_proxies(cls, proxies: str) -> str:
        return check_proxies(proxies)

    @field_validator("cors_origins")
    @classmethod
    def _usable_origins(cls, origins: str) -> str:
        parse_origins(origins)
        return origins

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        check_pair(self.ssl_certfile, self.ssl_keyfile, ("SSL_CERTFILE", "SSL_KEYFILE"))
        return self

    @model_validator(mode="after")
    def _credentials_for_single_origins(self) -> Self:
        if self.cors_credentials and ANY in parse_origins(self.cors_origins):
            raise ValueError(
                "CORS_CREDENTIALS=true would let every page act for its reader with CORS_ORIGINS=*: name the origins"
            )
        return self

    @property
    def cors(self) -> Cors | None:
        """What browsers are told about other origins, if anything."""
        origins = parse_origins(self.cors_origins)
        return Cors(origins, self.cors_credentials) if origins else None

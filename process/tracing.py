"""Traces, for whoever has set where they go. Without that nothing of OpenTelemetry is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from process.settings import WrongSettings

if TYPE_CHECKING:
    from process.otel import Traces
    from process.settings import Settings

# What no convention names, or names for all kinds of services alike.
REQUEST_ID = "workernode.request_id"
ATTEMPT_ID = "workernode.attempt_id"
NODE = "workernode.node"
NUMBER = "workernode.attempt"
"""Which attempt of its request it is, from 1."""
OUTCOME = "workernode.outcome"
ERROR = "error.type"
METHOD = "http.request.method"
PATH = "url.path"
STATUS = "http.response.status_code"
SERVER = "server.address"


def open_traces(settings: Settings, role: str, instance: str) -> Traces | None:
    """What begins the spans of one role; None where nobody wants any. ``instance`` is the name of this start of it.

    Raises :class:`process.settings.WrongSettings` where the libraries are missing.
    """
    if settings.traces_url is None:
        return None
    try:
        from process.otel import Traces
    except ImportError:
        sentence = "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces: install 'workernode[otel]', or unset it."
        raise WrongSettings([sentence]) from None
    return Traces(settings.traces_url, role, instance)

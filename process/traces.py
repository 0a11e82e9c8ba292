"""Traces, for whoever has set where they go. Without that nothing of OpenTelemetry is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from process.settings import WrongSettings

if TYPE_CHECKING:
    from process.otel import Traces
    from process.settings import Settings


def open_traces(settings: Settings, role: str, instance: str) -> Traces | None:
    """What begins the spans of one role; None where nobody wants any. ``instance`` is the name of this start of it.

    Raises :class:`process.settings.WrongSettings` where the libraries are missing.
    """
    if settings.traces_url is None:
        return None
    try:
        from process.otel import Traces
    except ImportError:
        sentence = (
            "OTEL_EXPORTER_OTLP_ENDPOINT needs libraries: run pip install '.[otel]' in the checkout, or unset it."
        )
        raise WrongSettings([sentence]) from None
    return Traces(settings.traces_url, role, instance)

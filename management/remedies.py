"""What an error means and what to do about it, in sentences for people. By code; the words of events are not needed."""

from __future__ import annotations

from typing import NamedTuple


class Remedy(NamedTuple):
    """``irreversible``: it lasts until someone acts."""

    sentence: str
    remedy: str
    irreversible: bool = False


_KEY = "Write a valid key to API_KEY_FILE, or set API_KEY and restart the node."
_QUOTA = "Add quota or credit at the provider; the node tries again by itself."
_UPSTREAM = "Look at the provider's status page and at API_URL; nodes try again by themselves."
_SCALE = "Start more nodes of the model, or raise the deadline of its requests."
_CLIENT = "Show the client its request's timeline: it has to change what it asks for."

_BY_CODE = {
    "quota_exhausted": Remedy("The quota of the node's key at its provider is used up.", _QUOTA, True),
    "upstream_quota_exhausted": Remedy("The quota of the node's key at its provider is used up.", _QUOTA, True),
    "authentication_failed": Remedy("The provider does not accept the node's API key.", _KEY, True),
    "upstream_authentication_failed": Remedy("The provider does not accept the node's API key.", _KEY, True),
    "misconfigured": Remedy("The node cannot work as it is set up.", "Change what its message names.", True),
    "upstream_model_unknown": Remedy(
        "The provider does not know the model's name.",
        "Set UPSTREAM_MODEL to a name that the provider knows, and restart the node.",
        True,
    ),
    "upstream_tls_failed": Remedy(
        "TLS with the provider cannot be had.",
        "Check API_URL, and name the certificates of an authority of your own in SSL_CERT_FILE.",
        True,
    ),
    "engine_died": Remedy("A local engine ended while it worked.", "Look at LOCAL_LOG of the node of that time."),
    "engine_away": Remedy("A local engine was not there.", "Look at its node: it starts the engine again by itself."),
    "content_filter": Remedy("The provider's filter withheld the answer.", _CLIENT),
    "rate_limited": Remedy(
        "The provider limits the rate of requests.",
        "Nothing, if it passes. Else set RPM_MAX and TPM_MAX, ask the provider for more, or add another key.",
    ),
    "upstream_rate_limited": Remedy(
        "The provider limits the rate of requests.",
        "Nothing, if it passes. Else set RPM_MAX and TPM_MAX, ask the provider for more, or add another key.",
    ),
    "unreachable": Remedy("The provider cannot be reached, or fails again and again.", _UPSTREAM),
    "upstream_failed": Remedy("The provider failed to answer.", _UPSTREAM),
    "upstream_timeout": Remedy("The provider did not answer in time.", f"{_UPSTREAM} See FIRST_TOKEN_TIMEOUT_S."),
    "stream_interrupted": Remedy("An answer broke off after its client had seen a part of it.", _UPSTREAM),
    "upstream_refused": Remedy("The provider refused the request.", _CLIENT),
    "unsupported_endpoint": Remedy("The provider does not serve this endpoint.", "Set ENDPOINTS of its nodes."),
    "answer_too_large": Remedy("An answer was larger than ANSWER_BYTES_MAX.", "Raise it at nodes and gateways."),
    "quarantined": Remedy(
        "A message in the request topic could not be read.",
        "Find out who writes there beside the gateways; its SHA-256 is in the node's message.",
    ),
    "deadline_exceeded": Remedy("No answer came before the request's deadline.", _SCALE),
    "model_unavailable": Remedy("Every node of the model is out of order.", "Look at the model's nodes."),
    "request_poisonous": Remedy(
        "A request brought down every node that worked on it.",
        "Look at the nodes' logs of that time, then replay or discard its dead letter.",
    ),
    "abandoned": Remedy("A gateway was gone while a node worked for it.", "Look at the gateways' logs of that time."),
    "shutting_down": Remedy("A gateway left before the answer was whole.", "Raise STOP_GRACE_S of the gateways."),
    "request_cancelled": Remedy("An operator cancelled it.", "Nothing."),
    "queue_unavailable": Remedy("The broker could not be reached.", "Run 'fleet doctor' where the gateway runs."),
    "context_length_exceeded": Remedy("The prompt was longer than the model's context.", _CLIENT),
    "server_error": Remedy("Something failed that nobody foresaw.", "Look at the logs of gateway and node."),
}
_BY_SCOPE = {
    "request": Remedy("The request was refused or failed with a code of the provider's own.", _CLIENT),
    "attempt": Remedy("An attempt failed, and another one followed.", _UPSTREAM),
    "node": Remedy("A node is in trouble.", "Look at its last message."),
}


def remedy_of(scope: str, code: str) -> Remedy:
    """Something to read for every error."""
    return _BY_CODE.get(code) or _BY_SCOPE[scope]

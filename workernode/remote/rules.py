"""What a provider's failure means, as one table: the first row that fits says it.

A row fits by the status, by a word (the error's code or type), or by what the message says; a row that names several
wants one word or the message, under one of its statuses. Words and messages are those of OpenAI, Azure, Anthropic,
Google, Groq, Mistral, DeepSeek, OpenRouter, Moonshot, Alibaba, Zhipu, Volcengine, xAI, Together, Fireworks, NVIDIA,
Cloudflare, Hugging Face, LiteLLM, vLLM, SGLang, FastChat, TGI, llama.cpp, LM Studio and Ollama.
``docs/remote-node.md`` tells what follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wire.errors import BodyTooLarge, UpstreamFailed

if TYPE_CHECKING:
    from workernode.remote.provider_error import ProviderError

_SEARCHED_CHARS_MAX = 4000
"""Of a message. Some repeat the whole request, and to look through a megabyte could keep a node busy for minutes."""


@dataclass(frozen=True)
class Rule:
    """What follows. ``refused``: the client hears the provider's own words, with ``code`` and ``http_status`` where
    they are given here; else the request is handed back, in a sentence of ours. ``again``: it may help to try here.
    """

    sentence: str
    refused: bool = False
    again: bool = False
    code: str | None = None
    http_status: int | None = None
    type: str = UpstreamFailed.type


REFUSED = Rule("The provider of this model refused the request.", refused=True)
_TOO_LONG = Rule(
    "The request is longer than the model's context.", refused=True, code="context_length_exceeded", http_status=400
)
TOO_LARGE = Rule(
    "The request is larger than the provider's limits let pass at all.",
    refused=True,
    code=BodyTooLarge.code,
    http_status=BodyTooLarge.http_status,
)
_FILTERED = Rule(
    "The provider of this model does not answer this, by its content policy.",
    refused=True,
    code="content_filter",
    http_status=400,
)
AGAIN = Rule("The provider of this model failed to answer.", again=True)
AUTHENTICATION = Rule(
    "The provider of this model does not accept this node's API key.", code="upstream_authentication_failed"
)
QUOTA = Rule("The quota of this node at the provider of this model is used up.", code="upstream_quota_exhausted")
RATE = Rule(
    # Not tried again here: the request waits in the queue for any node that may ask, and not in a slot for this one.
    "The provider of this model limits the rate of requests.",
    code="upstream_rate_limited",
    http_status=429,
    type="rate_limit_error",
)
_UNKNOWN_MODEL = Rule(
    "The provider does not know this node's model: UPSTREAM_MODEL may be wrong.", code="upstream_model_unknown"
)
AWAY = Rule("The provider of this model could not be reached.", again=True)
GARBLED = Rule(
    "What answers for the provider of this model speaks no HTTP that can be read: API_URL may be wrong.", again=True
)
NAMELESS = Rule("No address is known for the host in API_URL.", again=True)
PROXY = Rule("The proxy in API_PROXY gives no way to the provider of this model.", again=True)
TLS = Rule("The provider of this model could not be reached safely, by TLS.", code="upstream_tls_failed")
LASTING = (AUTHENTICATION, QUOTA, _UNKNOWN_MODEL)
"""Until someone acts."""
STRANGE = Rule("The provider of this model gave something that is no answer: API_URL may be wrong.")


@dataclass(frozen=True)
class Row:
    """One row of the table. ``bare``: it fits only where there is no error of a provider in the body.

    A group in ``says`` is the part of it that means something without the rest.
    """

    name: str
    rule: Rule
    statuses: frozenset[int] = frozenset()
    words: frozenset[str] = frozenset()
    says: re.Pattern[str] | None = None
    bare: bool = False
    classes: frozenset[int] = field(default=frozenset())
    """First digits of statuses."""

    def fits(self, status: int | None, error: ProviderError | None) -> bool:
        """Whether a failure is this one. Without a status the error alone has to tell."""
        if status is not None and not self._covers(status):
            return False
        if self.bare:
            return status is not None and error is None
        if not self.words and self.says is None:
            return status is not None
        return error is not None and (self._knows(error) or self._found(error) is not None)

    def by_saying(self, error: ProviderError | None) -> str | None:
        """What of the message alone makes it fit, in lower case; None where its code or type does, or the status."""
        found = None if error is None or self._knows(error) else self._found(error)
        return None if found is None else found[found.lastindex or 0].lower()

    def _knows(self, error: ProviderError) -> bool:
        return bool({(error.code or "").lower(), (error.type or "").lower()} & self.words)

    def _found(self, error: ProviderError) -> re.Match[str] | None:
        return None if self.says is None else self.says.search(error.message, 0, _SEARCHED_CHARS_MAX)

    def _covers(self, status: int) -> bool:
        return not (self.statuses or self.classes) or status in self.statuses or status // 100 in self.classes


def _row(
    name: str,
    rule: Rule,
    *statuses: int,
    words: str = "",
    says: str = "",
    bare: bool = False,
    classes: tuple[int, ...] = (),
) -> Row:
    pattern = re.compile(says, re.IGNORECASE) if says else None
    return Row(name, rule, frozenset(statuses), frozenset(words.split()), pattern, bare, frozenset(classes))


_FASTCHATS_OWN = "50001 50002 50003 50004 50005 50006"
"""Its workers' failures: memory that ran out, a worker that is gone. It tells everything with 400."""

ROWS = (
    _row(
        "the quota is used up",
        QUOTA,
        words="insufficient_quota billing_hard_limit_reached billing_not_active billing_error insufficient_balance "
        "insufficient_credits exceeded_current_quota_error arrearage accountoverdueerror credit_balance_exhausted "
        "organization_spend_limit_exceeded project_spend_limit_exceeded organization_usage_limit_exceeded "
        "spend_limit_reached blocked_api_access openrouter_key_limit openrouter_workspace_budget "
        "openrouter_guardrail_budget",
    ),
    _row(
        "larger than a limit lets pass at all",
        TOO_LARGE,
        *(402, 413, 429),
        words="weight_exceeds_budget",
        says=r"request too large for .*(tokens|TPM|limit)",
    ),
    _row("more under way than there is credit for", RATE, 402, words="in_flight_budget_exhausted"),
    _row("a payment is due", QUOTA, 402),
    _row(
        "a payment is due, in words",
        QUOTA,
        *(400, 403, 412, 429),
        words="1113",  # Zhipu's
        says=r"^your credit balance is too low|^key limit exceeded|^your (?:newly created )?teams? .{1,80}\bcredits\b"
        r"|^account .{1,80} is suspended\b|^you have reached your (?:specified )?(?:workspace )?API usage limits"
        r"|^your prepayment credits are depleted|^your project has exceeded its monthly spending cap"
        r"|\bbudget has been exceeded!|^you have used up your daily free allocation\b",
    ),
    _row(
        "longer than the context",
        _TOO_LONG,
        *(400, 413, 422),
        words="context_length_exceeded exceed_context_size_error",
        says=r"maximum (context|prompt|input) length|context (length|window|size)\b.*exceed"
        r"|exceeds?\b.* context (length|window|size|limit)|(prompt|input) is too long|input token count"
        r"|too large for model with \d+ maximum context|longer than the (model's context|maximum model) length"
        r"|greater than the context length|context the overflows|`inputs` (tokens \+|must have less than)"
        r"|exceeded model token limit|range of input length should be",
    ),
    _row(
        "against a content policy",
        _FILTERED,
        *(400, 403, 422, 451),
        words="content_filter content_policy_violation content_blocked moderation_blocked data_inspection_failed "
        "responsibleaipolicyviolation",
        says=r"content management policy|requires moderation|input was flagged|content policy|safety system"
        r"|content violates usage guidelines|^request blocked:",
    ),
    _row(
        "an unknown model",
        _UNKNOWN_MODEL,
        *(400, 403, 404, 410),
        words="model_not_found deploymentnotfound invalid_model unknown_model model_decommissioned model_not_available "
        "model_not_supported dedicated_endpoint_not_running 40301",
        says=r"\bmodel\b.{0,200}\b(not found|does not exist)|model not exist|invalid model\b|not a valid model"
        r"|no endpoints found for|^models/\S+ is not found|^model: \S+$"
        r"|^the model \S+ has reached its end of life|^function '\S+': not found for account"
        r"|^(?:AiError: )*no such model\b",
    ),
    _row("a request that comes round", REFUSED, words="loop_detected"),
    _row(
        "a key that is not accepted",
        AUTHENTICATION,
        words="invalid_api_key authentication_error permission_error invalid_authentication_error unauthenticated "
        "permission_denied account_deactivated unsupported_country_region_territory",
    ),
    _row(
        "a key that is not valid",
        AUTHENTICATION,
        400,
        words="organization_restricted",
        says=r"^api key (?:not valid|not found|expired)|^incorrect api key|^user location is not supported",
    ),
    _row("a web page that forbids, and no provider", STRANGE, 403, bare=True),
    _row("not allowed", AUTHENTICATION, 401, 403),
    _row(
        "too many requests",
        RATE,
        words="rate_limit_exceeded rate_limit_error rate_limit_reached_error resource_exhausted throttling "
        "throttling.ratequota too_many_requests",
    ),
    _row("too many requests, by status", RATE, 429),
    _row(
        "overloaded",
        AGAIN,
        words="overloaded_error overloaded over_capacity engine_overloaded_error server_overloaded slow_down "
        "service_unavailable unavailable",
    ),
    _row("an error of the provider's own under a status of the request's", AGAIN, 400, words=_FASTCHATS_OWN),
    _row("a proxy that lets nobody through", PROXY, 407),
    _row("a conflict, a timeout or a full house", AGAIN, 408, 409, 424, 425, 498, 499),
    _row("a web server that knows no such path, and no provider", STRANGE, 404, 405, bare=True),
    _row(
        "a provider that knows no such path",
        STRANGE,
        *(404, 405),
        words="unknown_url",
        says=r"^\s*((resource )?not found|method not allowed)\W*$|no route matched|unknown request url|invalid url"
        r"|cannot post /|^could not route to /|^unexpected endpoint or method",
    ),
    _row("a request that fits no form", REFUSED, 400, 422, says=r"^(?:input validation|template|tool) error: "),
    _row("the request's own fault", REFUSED, classes=(4,)),
    _row("the provider's own fault", AGAIN, classes=(5,)),
    _row("anything else", STRANGE),
)


def row_for(status: int | None, error: ProviderError | None) -> Row:
    """The row of an answer with that status and error. An error without a status is the provider's own fault if it
    does not say otherwise."""
    fitting = (row for row in ROWS if row.fits(status, error))
    return next(fitting, None) or row_for(500, error)

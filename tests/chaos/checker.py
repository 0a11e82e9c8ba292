"""The judge: compares the client log with the ledger, the broker and the provider. Pure: evidence in, findings out.

What a death excuses, and nothing else does:

* A gateway's death ends its requests for their clients: a connection that breaks is excused if its gateway died then.
* An answered request whose gateway died within :data:`WINDOW_S` may stay uncharged: the end was on its way to the
  socket and not yet accepted. These are counted, as ``excused``.
* An accepted charge is known to two, the gateway and the node, until it is stored. Where receipts are withheld for
  seconds (:attr:`tests.chaos.evidence.Evidence.unsent_s`), both may die before that. Counted.
* A gateway that is stopped while the broker cannot be reached, or takes no results, waits for some seconds to tell what
  it has accepted. Counted too.
* Nodes take a gateway of which they hear nothing for 5 s for dead, and so they do while its network is silent for
  longer: what was under way to it then may end with an error of the gateway, or at its deadline. Counted too.
* The topic of a dead process stays in the broker's memory for some minutes, and I12 counts it as ``excused``.
* A node's death interrupts streams of which the client has seen a part: ``stream_interrupted``, an end like any other,
  where no other node's text goes on exactly there. Where it does, I3 counts the answer as continued (``excused``).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.intruder import STRANGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.asked import Asked
    from tests.chaos.evidence import Evidence

WINDOW_S = 1.0
"""A gateway that dies this soon after its client had the end may not have told the node that it accepted it."""
NOTICE_S = 2.0
"""How much later than its client the driver may notice a gateway's death."""
LATE_S = 10.0
LOST_WORDS_S = 2.0
"""A node that misses the word about its end says it again after a second: so much longer takes a word lost twice."""
DEATHS_MAX = 3
EXPECTED_ERRORS = frozenset({"stream_interrupted"})
"""What a client may hear after acceptance while nodes and brokers die. All other errors need a cause of their own."""


CUT_OFF_ERRORS = frozenset({"deadline_exceeded", "server_error"})
"""What a client may hear whose gateway was cut off from everybody."""


@dataclass
class Finding:
    """What came of one invariant."""

    invariant: str
    claim: str
    checked: int
    violations: list[str] = field(default_factory=list)
    excused: int = 0


def check(evidence: Evidence) -> list[Finding]:
    """All invariants, in order."""
    return [invariant(evidence) for invariant in INVARIANTS]


def one_end(evidence: Evidence) -> Finding:
    """I1."""
    finding = Finding("I1", "every accepted request has exactly one end", 0)
    for each in evidence.asked:
        if each.end == "refused":
            continue
        finding.checked += 1
        if each.end == "broken" and _gateway_died(evidence, each):
            finding.excused += 1
        elif each.end in ("open", "broken", "both"):
            finding.violations.append(f"no proper end: {each}")
        elif each.end == "failed" and each.code in CUT_OFF_ERRORS and _cut_off(evidence, each):
            finding.excused += 1
        elif each.end == "failed" and not _is_expected(evidence, each):
            finding.violations.append(f"an error without a cause: {each}")
    return finding


def text_of_the_oracle(evidence: Evidence) -> Finding:
    """I2."""
    finding = Finding("I2", "an answer is the oracle's to the byte; what came before an error is a prefix of it", 0)
    for each in evidence.asked:
        finding.checked += 1
        texts = {each.expected_text(execution.number) for execution in evidence.executions.get(each.name, [])}
        if each.end == "answered":
            right = each.text in texts and (each.usage is None or _usage_of(each) == each.expected_usage)
        else:
            right = not each.text or any(text.startswith(each.text) for text in texts)
        if not right:
            finding.violations.append(f"expected one of {texts}: {each}")
    return finding


def one_attempt(evidence: Evidence) -> Finding:
    """I3."""
    finding = Finding("I3", "no piece of another request, and none of an attempt that another one continued", 0)
    for each in evidence.asked:
        if not each.ids:
            continue
        finding.checked += 1
        own = {f"execution-{execution.number}" for execution in evidence.executions.get(each.name, [])}
        if each.ids != {f"chatcmpl-{(each.request_id or '').removeprefix('req_')}"}:
            finding.violations.append(f"ids {each.ids}: {each}")
        elif len(each.runs) != len(set(each.runs)) or not own.issuperset(each.runs):
            finding.violations.append(f"pieces of {each.runs}, executed as {own}: {each}")
        finding.excused += len(each.runs) - 1
    return finding


def one_charge(evidence: Evidence) -> Finding:
    """I4."""
    finding = Finding("I4", "one charge per answered request, to the token; none for a failed one", 0)
    charges = _charges_by_name(evidence)
    for each in evidence.asked:
        finding.checked += 1
        own = charges.get(each.name, [])
        if len(own) > 1:
            finding.violations.append(f"{len(own)} charges: {each}")
        elif each.end == "answered":
            if own and (own[0]["status"], _tokens(own[0])) != ("answered", each.expected_usage):
                finding.violations.append(f"charged as {own[0]['status']} with {_tokens(own[0])}: {each}")
            elif not own and any(excuse(evidence, each) for excuse in (_in_the_window, _both_died, _left_unheard)):
                finding.excused += 1
            elif not own:
                finding.violations.append(f"not charged: {each}")
        elif own and each.end in ("failed", "refused", "both", "open"):
            finding.violations.append(f"charged as {own[0]['status']} with {_tokens(own[0])}: {each}")
        elif own and own[0]["completion_tokens"] > _most(evidence, each):
            finding.violations.append(f"charged {_tokens(own[0])} of an answer that was cut: {each}")
    if evidence.usage.get("requests") != evidence.charged:
        finding.violations.append(f"{evidence.charged} charges, {evidence.usage.get('requests')} in the sums")
    return finding


def no_charge_of_nothing(evidence: Evidence) -> Finding:
    """I5."""
    finding = Finding("I5", "no charge without an accepted request", len(evidence.charges))
    accepted = {each.name for each in evidence.asked if each.end != "refused"}
    ids = {each.name: each.request_id for each in evidence.asked}
    for charge in evidence.charges:
        name = charge["user_agent"]
        if name not in accepted:
            finding.violations.append(f"a charge for {name}, which was not accepted (or was charged before)")
        elif ids[name] not in (None, charge["request_id"]):
            finding.violations.append(f"{name} is {ids[name]}, but was charged as {charge['request_id']}")
    return finding


def few_repetitions(evidence: Evidence) -> Finding:
    """I6."""
    bound = sum(fault.may_repeat for fault in evidence.faults) + sum(evidence.fenced.values())
    executed = sum(len(executions) for executions in evidence.executions.values())
    repeated = executed - len(evidence.executions)
    claim = f"executions - requests <= what was in flight at the faults ({bound})"
    finding = Finding("I6", claim, executed, excused=repeated)
    if repeated > bound:
        finding.violations.append(f"{repeated} executions more than requests, at most {bound} were in flight")
    return finding


def in_time(evidence: Evidence) -> Finding:
    """I7."""
    finding = Finding("I7", "nothing is open past its deadline and 10 s", len(evidence.asked))
    for each in evidence.asked:
        within_s = each.timeout_s + LATE_S + evidence.frozen.get(each.life, 0.0)
        if each.ended_at is None or each.ended_at - each.began_at > within_s:
            finding.violations.append(f"late: {each}")
    return finding


def nothing_left(evidence: Evidence) -> Finding:
    """I8."""
    return Finding("I8", "in the end backlog, unacknowledged and open requests are 0", 1, evidence.left)


def few_deaths(evidence: Evidence) -> Finding:
    """I9."""
    finding = Finding("I9", "a poison request kills at most 3 nodes", len(evidence.poison))
    for name, killed in evidence.poison.items():
        if killed > DEATHS_MAX:
            finding.violations.append(f"{name} killed {killed} nodes")
    return finding


def no_strangers(evidence: Evidence) -> Finding:
    """I11."""
    tried = [each for each in evidence.tried if not each.authorized]
    finding = Finding("I11", "without a valid key nothing is published", len(tried))
    finding.violations += [
        f"{each.what} was answered {each.status}" for each in tried if each.status not in (401, None)
    ]
    if STRANGER in evidence.executions or STRANGER in {charge["user_agent"] for charge in evidence.charges}:
        finding.violations.append("a stranger's request was executed or charged")
    return finding


def back_to_the_baseline(evidence: Evidence) -> Finding:
    """I12."""
    claim = "memory, descriptors, threads, topics and subscriptions return to the baseline"
    return Finding("I12", claim, evidence.measured, evidence.grown, excused=evidence.left_behind)


def no_traces(evidence: Evidence) -> Finding:
    """I13."""
    claim = "canary key and canary prompt are in no log, event or metric"
    return Finding("I13", claim, evidence.looked_at, evidence.traces)


def no_fault_by_input(evidence: Evidence) -> Finding:
    """I14."""
    tried = [each for each in evidence.tried if each.authorized]
    finding = Finding("I14", "no 5xx caused by input", len(tried))
    finding.violations += [f"{each.what} was answered {each.status}" for each in tried if (each.status or 400) >= 500]
    return finding


def same_sums(evidence: Evidence) -> Finding:
    """I15."""
    claim = "replaying and shuffling the events gives the same sums"
    return Finding("I15", claim, evidence.replayed, evidence.replays)


INVARIANTS: tuple[Callable[[Evidence], Finding], ...] = (
    one_end,
    text_of_the_oracle,
    one_attempt,
    one_charge,
    no_charge_of_nothing,
    few_repetitions,
    in_time,
    nothing_left,
    few_deaths,
    no_strangers,
    back_to_the_baseline,
    no_traces,
    no_fault_by_input,
    same_sums,
)


def added(findings: list[list[Finding]]) -> list[Finding]:
    """The findings of several episodes as one table."""
    total: list[Finding] = []
    for same in zip(*findings, strict=True):
        first = same[0]
        claim = first.claim if len(same) == 1 else first.claim.partition(" (")[0]
        checked, excused = sum(each.checked for each in same), sum(each.excused for each in same)
        total.append(Finding(first.invariant, claim, checked, [v for each in same for v in each.violations], excused))
    return total


def ends(asked: list[Asked]) -> Counter[str]:
    """How the requests ended, errors by their codes."""
    return Counter(f"{each.end} {each.code}" if each.code else each.end for each in asked)


def _gateway_died(evidence: Evidence, each: Asked) -> bool:
    died_at = evidence.deaths.get(each.life)
    if died_at is None or each.ended_at is None:
        return False
    return each.began_at <= died_at <= each.ended_at + NOTICE_S


def _cut_off(evidence: Evidence, each: Asked) -> bool:
    """Whether it was open, had just ended or just began, while no gateway could be heard: first words may be lost."""
    return any(
        each.began_at - WINDOW_S < (fault.until or fault.at) and (each.ended_at or fault.at) > fault.at - WINDOW_S
        for fault in evidence.faults
        if fault.kind == "black hole" and fault.whom == "gateway"
    )


def _in_the_window(evidence: Evidence, each: Asked) -> bool:
    died_at = evidence.deaths.get(each.life)
    if died_at is None or each.ended_at is None or died_at < each.ended_at - NOTICE_S:
        return False
    # While the broker is away no word reaches a node, so the window is as long as the outage.
    window_s = WINDOW_S + sum(
        fault.until - fault.at
        for fault in evidence.faults
        if fault.until is not None and fault.until > each.ended_at - WINDOW_S and fault.at < died_at
    )
    if evidence.dropped:
        window_s += LOST_WORDS_S
    return died_at - each.ended_at <= window_s


def _both_died(evidence: Evidence, each: Asked) -> bool:
    """Whether the gateway and a node that had executed it died before the charge was sure to be stored."""
    ended_at = each.ended_at or 0.0
    lives = {each.life, *(execution.life for execution in evidence.executions.get(each.name, []))}
    since, until = ended_at - NOTICE_S, ended_at + evidence.unsent_s
    died = [life for life in lives if since <= evidence.deaths.get(life, 0.0) <= until]
    return evidence.unsent_s > 0 and each.life in died and len(died) > 1


def _left_unheard(evidence: Evidence, each: Asked) -> bool:
    """Whether its gateway was stopped while nobody could be told of results, for longer than it waits."""
    kinds = ("disconnect", "broker", "mute", "deaf", "blocked")
    stops = [fault for fault in evidence.faults if fault.kind == "drain" and fault.whom == each.life]
    away = [fault for fault in evidence.faults if fault.kind in kinds and fault.until is not None]
    return any(
        fault.whom in (each.life, "", "results") and fault.at <= (stop.until or 0.0) and stop.at <= (fault.until or 0.0)
        for stop in stops
        for fault in away
    )


def _is_expected(evidence: Evidence, each: Asked) -> bool:
    if each.code in EXPECTED_ERRORS:
        if evidence.silent:
            return (each.request_id or "") in evidence.fenced or evidence.silent.get(each.request_id or "", 0) > 0
        return bool(evidence.faults)
    if each.code == "deadline_exceeded":
        return each.short and (each.ended_at or 0.0) >= each.began_at + each.timeout_s
    if each.code == "shutting_down":
        return any(fault.kind == "drain" and fault.whom == each.life for fault in evidence.faults)
    if each.code == "request_poisonous":
        if each.name in evidence.poison:
            return True
        if evidence.silent:
            return evidence.silent.get(each.request_id or "", 0) >= DEATHS_MAX
        # Its gateway told a node to begin, which died: of that the provider may have seen nothing yet.
        dead = [life for life, at in evidence.deaths.items() if life.startswith("node") and at >= each.began_at]
        return len(dead) >= DEATHS_MAX and bool(evidence.executions.get(each.name))
    return False


def _charges_by_name(evidence: Evidence) -> dict[str, list[dict[str, Any]]]:
    charges: dict[str, list[dict[str, Any]]] = {}
    for charge in evidence.charges:
        charges.setdefault(charge["user_agent"] or "", []).append(charge)
    return charges


def _most(evidence: Evidence, each: Asked) -> int:
    """The most that an answer which was cut may cost: all of it, or a node's estimate of four characters a token."""
    texts = [each.expected_text(execution.number) for execution in evidence.executions.get(each.name, [])]
    return max([each.expected_usage[1], *(len(text) // 4 + 1 for text in texts)])


def _tokens(charge: dict[str, Any]) -> tuple[int, int, int]:
    return charge["prompt_tokens"], charge["completion_tokens"], charge["cached_tokens"]


def _usage_of(each: Asked) -> tuple[int, int, int]:
    usage = each.usage or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return usage["prompt_tokens"], usage["completion_tokens"], cached

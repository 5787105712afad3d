"""Why a call is refused by what is no access rule: tokens, modes of peers, rules of Mixer.

Comes in: what the plan says of them, and what is known of a call. Goes out: sentences, with file and line of
whoever says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lateen.explain.access import holds
from lateen.explain.facts import Facts
from lateen.explain.tokens import is_for, unfit
from lateen.expressions.syntax import AND, Call, Expression
from lateen.mesh.mixer.model import MixerRules, Rule
from lateen.mesh.security_policy import MtlsMode, PeerPolicy
from lateen.plan.access.tokens import TokenProvider
from lateen.plan.mixer.compile import Beyond, holds as held
from lateen.plan.mixer.decisions import MIXER, OPERATIONS, decisions, match_here
from lateen.plan.mixer.model import MixerDenial
from lateen.values.names import BUILT_IN, Origin

_TAKEN = {
    MtlsMode.STRICT: "takes mesh TLS alone",
    MtlsMode.PERMISSIVE: "takes plain text and mesh TLS",
    MtlsMode.DISABLE: "takes plain text alone",
}
PLAIN_TEXT = "plain text"


def refused_connection(policy: PeerPolicy, port: int, came: str) -> list[str]:
    """Why a port does not take a connection. ``came``: what it spoke."""
    mode, origin = policy.on(port), policy.origin_on(port)
    lines = [f"port {port} {_TAKEN[mode]}, and {came} came: mode {mode.value} ({_source(origin)})"]
    if mode is MtlsMode.STRICT and came == PLAIN_TEXT:
        lines.append("  a PeerAuthentication with mode PERMISSIVE would take it")
    return lines


def refused_handshake(policy: PeerPolicy, port: int, reason: str) -> list[str]:
    """Why a handshake came to nothing: in the words of TLS, and who asks for mesh TLS there."""
    mode, origin = policy.on(port), policy.origin_on(port)
    return [f"the TLS handshake failed: {_words(reason)}", f"  port {port} {_TAKEN[mode]}: {_source(origin)}"]


def _source(origin: Origin) -> str:
    return "the mesh's default" if origin == BUILT_IN else str(origin)


def _words(reason: str) -> str:
    """The last and most telling of the words that TLS has for a failure."""
    parts = [part for part in reason.removesuffix(":TLS_error_end").split(":") if part.strip("|0123456789")]
    return (parts[-1] if parts else reason).replace("_", " ").lower()


# --- tokens ----------------------------------------------------------------------------------------------------------


def refused_token(providers: Sequence[TokenProvider], claims: Mapping[str, Any] | None, now: float | None) -> list[str]:
    """Why no rule takes a token, or which one asks for one that is not there (``claims`` None)."""
    if claims is None:
        asking = [f"  {one.origin} requires a token" for one in providers if one.required]
        return ["a token is required and there is none, so it is refused", *asking]
    general = unfit(claims, now)
    lines = [f"  {one.origin} fails: {general or _not_taken(one, claims)}" for one in providers]
    return ["no rule takes the token, so it is refused", *lines]


def _not_taken(provider: TokenProvider, claims: Mapping[str, Any]) -> str:
    issuer = claims.get("iss")
    if provider.issuer not in ("", issuer):
        return f"the token is of {issuer!r}, not of {provider.issuer!r}"
    if not is_for(provider.audiences, claims):
        wanted = " or ".join(map(repr, provider.audiences))
        return f"the token is for {claims.get('aud')!r}, not for {wanted}"
    return "another rule requires a token of its own"


def refused_unseen_token(providers: Sequence[TokenProvider], reason: str) -> list[str]:
    """The same where the token is not known: ``reason`` is what the proxy says of it."""
    return [f"the token is refused: {reason}", *(f"  {one.origin} takes {_wanted(one)}" for one in providers)]


def _wanted(provider: TokenProvider) -> str:
    places = [
        *(f"header {name}" for name, _ in provider.headers),
        *(f"parameter {name}" for name in provider.params),
        *(f"cookie {name}" for name in provider.cookies),
    ]
    by = f"of {provider.issuer!r}" if provider.issuer else "of any issuer"
    audiences = f" for {' or '.join(map(repr, provider.audiences))}" if provider.audiences else ""
    return f"tokens {by}{audiences}, in {' or '.join(places) or 'Authorization: Bearer or parameter access_token'}"


# --- Mixer -----------------------------------------------------------------------------------------------------------


def refused_by_denial(denial: MixerDenial) -> list[str]:
    """The rule that the proxy itself carries out."""
    return [f"{_rule_name(denial.name)} denies it: {denial.status} {denial.body!r} ({denial.origin})"]


def _rule_name(text: str) -> str:
    """``mixer-REPLY:name.namespace`` or ``name.namespace``, as people say it."""
    name, _, namespace = text.rpartition(":")[2].rpartition(".")
    return f"rule {namespace}/{name} of Mixer"


def refused_by_rules(rules: MixerRules, names: Iterable[str]) -> list[str]:
    """Rules that the mixer named, as they stand now."""
    places = {f"{rule.name}.{rule.namespace}": rule.origin for rule in rules.rules}
    return [f"{_rule_name(name)} denies it ({places.get(name, 'it is not there any more')})" for name in names]


def asked_rules(rules: MixerRules, known: dict[str, Any], facts: Facts) -> Iterator[str]:
    """What the mixer is asked about a call: each rule that may refuse it, once."""
    told: set[str] = set()
    for one in decisions(rules, known, of_bytes=facts.request is None):
        name = f"{one.rule.name}.{one.rule.namespace}"
        if (
            one.where == MIXER
            and one.asked
            and one.what != OPERATIONS
            and name not in told
            and _may_match(one.rule, rules, known, facts)
        ):
            told.add(name)
            yield f"the mixer is asked, by {_rule_name(name)}, and has to agree ({one.rule.origin})"


def _may_match(rule: Rule, rules: MixerRules, known: dict[str, Any], facts: Facts) -> bool:
    """Whether what is left of a rule's match holds, as far as proxies could tell."""
    match = match_here(rule, known, rules.vocabulary)
    return match if isinstance(match, bool) else _may_hold(match, facts)


def _may_hold(tree: Expression, facts: Facts) -> bool:
    if isinstance(tree, Call) and tree.function == AND:
        return all(_may_hold(part, facts) for part in tree.arguments)
    try:
        return holds(held(tree), facts)
    except Beyond:
        return True

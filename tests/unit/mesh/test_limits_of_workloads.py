"""Which RateLimits hold where, and what is told of those that cannot mean what they say."""

from __future__ import annotations

from lateen.mesh.build import build_snapshot
from lateen.mesh.model import MeshSnapshot
from lateen.mesh.rate_limits import counts_together, rate_limits
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.settings import Settings


def snapshot(*texts: str) -> MeshSnapshot:
    found = []
    for text in texts:
        documents, problems = parse_documents(text.encode(), "limits.yaml")
        assert not problems
        for document in documents:
            resource, wrong = decode(document)
            assert resource is not None, wrong
            found.append(resource)
    return build_snapshot(Settings(), found, ())


def limit(name: str, namespace: str, more: str = "", rule: str = "") -> str:
    rules = f"rules: [{{limit: {{requests: 1, per: 1s}}{rule}}}]"
    head = f"apiVersion: lateen.io/v1alpha1\nkind: RateLimit\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    return f"{head}spec:\n  {rules}\n{more}"


TOKENS = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: %s}
spec: {jwtRules: [{issuer: https://a.example}]}
"""


def test_limits_of_the_root_namespace_and_of_ones_own_that_select_it() -> None:
    selecting = "  selector: {matchLabels: {app: shop}}\n"
    mesh = snapshot(
        limit("all", "istio-system"),
        limit("own", "a", selecting),
        limit("root", "istio-system", selecting),
        limit("other", "b"),
    )

    def names(namespace: str, **labels: str) -> list[str]:
        return [one.key.name for one in rate_limits(mesh, namespace, tuple(labels.items()))]

    assert names("a", app="shop") == ["all", "own", "root"]
    assert names("a", app="till") == ["all"]
    assert names("b", app="shop") == ["all", "other", "root"]


def test_whether_anybody_counts_together() -> None:
    assert not counts_together(snapshot(limit("a", "a"), limit("b", "a", "  scope: local\n")))
    assert counts_together(snapshot(limit("a", "a", "  scope: global\n")))


def test_counting_by_tokens_that_nobody_looks_at_is_told() -> None:
    by_claim = ', per: ["request.auth.claims[sub]", request.path]'

    def told(*texts: str) -> list[str]:
        return [one.origin.field for one in snapshot(*texts).findings if one.code == "limit-without-tokens"]

    assert told(limit("a", "a", rule=by_claim)) == ["spec.rules[0].per[0]"]
    assert told(limit("a", "a", rule=by_claim), TOKENS % "b") == ["spec.rules[0].per[0]"]
    for where, tokens in (("a", "a"), ("a", "istio-system"), ("istio-system", "b")):
        assert told(limit("a", where, rule=by_claim), TOKENS % tokens) == []
    assert told(limit("a", "a")) == []

"""Edits of security resources that a mesh has to refuse: each by its name, with the good resource that it spoils."""

from __future__ import annotations

JWKS = '{"keys": [{"kty": "EC", "crv": "P-256", "kid": "a", "x": "%s", "y": "%s"}]}' % (  # noqa: UP031
    "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
)
NOBODY = "selector: {matchLabels: {app: nobody}}"
PRESENT, ROLES, POLICIES = "security.istio.io/v1", "rbac.istio.io/v1alpha1", "authentication.istio.io/v1alpha1"
GOOD = {
    "AuthorizationPolicy": (PRESENT, f"{NOBODY}\nrules: [{{}}]"),
    "PeerAuthentication": (PRESENT, f"{NOBODY}\nmtls: {{mode: STRICT}}"),
    "RequestAuthentication": (PRESENT, f"{NOBODY}\njwtRules: [{{issuer: a, jwks: '{JWKS}'}}]"),
    "ServiceRole": (ROLES, "rules: [{services: ['*']}]"),
    "Policy": (POLICIES, "targets: [{name: echo}]\npeers: [{mtls: {}}]"),
}
"""What stands in the files first, by kind: the API and the content."""


def _rules(text: str) -> tuple[str, str]:
    return "AuthorizationPolicy", f"{NOBODY}\nrules: [{text}]"


def _source(text: str) -> tuple[str, str]:
    return _rules(f"{{from: [{{source: {{{text}}}}}]}}")


def _operation(text: str) -> tuple[str, str]:
    return _rules(f"{{to: [{{operation: {{{text}}}}}]}}")


def _tokens(text: str) -> tuple[str, str]:
    return "RequestAuthentication", f"{NOBODY}\njwtRules: [{{{text}}}]"


CONTENTS = {
    "an action that is none": ("AuthorizationPolicy", f"{NOBODY}\naction: DENNY\nrules: [{{}}]"),
    "a field that is none": _rules("{form: []}"),
    "a text for a list": _source("principals: x"),
    "no address": _source("ipBlocks: [10.0.0.300]"),
    "an empty source": _source(""),
    "an empty text": _source("principals: ['']"),
    "accounts beside principals": _source("serviceAccounts: [a], principals: [b]"),
    "no port": _operation("ports: ['99999']"),
    "a template that goes on": _operation("paths: ['/a/{**}/{**}']"),
    "an attribute that is none": _rules("{when: [{key: source.colour, values: [a]}]}"),
    "a condition without values": _rules("{when: [{key: source.ip}]}"),
    "DENY without rules": ("AuthorizationPolicy", f"{NOBODY}\naction: DENY"),
    "CUSTOM without a provider": ("AuthorizationPolicy", f"{NOBODY}\naction: CUSTOM\nrules: [{{}}]"),
    "a selector with a wildcard": ("AuthorizationPolicy", "selector: {matchLabels: {app: 'n*'}}\nrules: [{}]"),
    "nested too deep": _rules("[" * 80 + "]" * 80),
    "a field twice": ("AuthorizationPolicy", f"{NOBODY}\nrules: [{{}}]\nrules: []"),
    "a text without end": ("AuthorizationPolicy", f"{NOBODY}\nrules: [{{"),
    "a mode that is none": ("PeerAuthentication", f"{NOBODY}\nmtls: {{mode: STRICTLY}}"),
    "ports of everybody": ("PeerAuthentication", "portLevelMtls: {'8000': {mode: DISABLE}}"),
    "a port by its name": ("PeerAuthentication", f"{NOBODY}\nportLevelMtls: {{http: {{mode: DISABLE}}}}"),
    "no issuer": _tokens(f"jwks: '{JWKS}'"),
    "keys that are none": _tokens("issuer: a, jwks: nonsense"),
    "keys from two places": _tokens(f"issuer: a, jwks: '{JWKS}', jwksUri: 'https://a.example/keys'"),
    "keys from a file": _tokens("issuer: a, jwksUri: 'file:///etc/passwd'"),
    "a symmetric key": _tokens("""issuer: a, jwks: '{"keys": [{"kty": "oct", "k": "AAAA"}]}'"""),
    "a header that is none": _tokens(f"issuer: a, jwks: '{JWKS}', outputPayloadToHeader: 'a b'"),
    "a time that is none": _tokens("issuer: a, jwksUri: 'https://a.example/keys', timeout: soon"),
    "a role without rules": ("ServiceRole", "rules: []"),
    "paths and notPaths": ("ServiceRole", "rules: [{services: ['*'], paths: [/a], notPaths: [/b]}]"),
    "a target with dots": ("Policy", "targets: [{name: echo.default}]"),
    "two ways to know peers": ("Policy", "targets: [{name: echo}]\npeers: [{mtls: {}}, {mtls: {}}]"),
    "a port with name and number": ("Policy", "targets: [{name: echo, ports: [{name: http, number: 8000}]}]"),
}


def document(kind: str, name: str, content: str) -> str:
    """A resource; its content begins in line 5."""
    below = "".join(f"  {line}\n" for line in content.splitlines())
    return f"apiVersion: {GOOD[kind][0]}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{below}"


BAD_EDITS = {
    name: (document(kind, f"edit{number}", GOOD[kind][1]), document(kind, f"edit{number}", content))
    for number, (name, (kind, content)) in enumerate(CONTENTS.items())
}
"""What stands in a file before and after the edit."""
